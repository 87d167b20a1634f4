package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

const testSize = 1<<20 + 512 // not a multiple of a page

// backends opens every kind of disk, empty, testSize bytes long.
var backends = map[string]func(t *testing.T) Disk{
	"file": func(t *testing.T) Disk {
		d, err := Open(makeFile(t, testSize), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	},
	"file without fallocate": func(t *testing.T) Disk {
		d, err := Open(makeFile(t, testSize), Options{})
		if err != nil {
			t.Fatal(err)
		}
		d.noPunch.Store(true)
		d.noRange.Store(true)
		return d
	},
	"mem":    func(*testing.T) Disk { return NewMem(testSize, 1) },
	"faulty": func(*testing.T) Disk { return Faulty(NewMem(testSize, 1), &Plan{}) },
	"loop":   openLoop,
}

func makeFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConformance(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Run("model", func(t *testing.T) { againstModel(t, open(t)) })
			t.Run("bounds", func(t *testing.T) { bounds(t, open(t)) })
			t.Run("segments", func(t *testing.T) { segments(t, open(t)) })
			t.Run("concurrent", func(t *testing.T) { concurrent(t, open(t)) })
			t.Run("closed", func(t *testing.T) { closed(t, open(t)) })
		})
	}
}

// againstModel holds random writes and zeroes against a plain slice.
func againstModel(t *testing.T, d Disk) {
	defer d.Close()
	rnd := rand.New(rand.NewPCG(7, 7))
	model := make([]byte, testSize)
	for i := range 400 {
		off := rnd.Int64N(testSize)
		n := min(rnd.Int64N(20_000), testSize-off)
		if i%3 == 0 { // aligned, so that devices take their fast way
			off, n = off&^4095, n&^4095
		}
		switch rnd.IntN(4) {
		case 0:
			if err := d.Zero(off, n, rnd.IntN(2) == 0); err != nil {
				t.Fatalf("step %d: zero [%d,+%d): %v", i, off, n, err)
			}
			clear(model[off : off+n])
		case 1:
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
		default:
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(rnd.Uint32())
			}
			if err := d.WriteAt(p, off); err != nil {
				t.Fatalf("step %d: write [%d,+%d): %v", i, off, n, err)
			}
			copy(model[off:], p)
		}
		got := make([]byte, n)
		if err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, model[off:off+n]) {
			t.Fatalf("step %d: [%d,+%d) reads back wrong (%v)", i, off, n, err)
		}
	}
	got := make([]byte, testSize)
	if err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
		t.Fatalf("whole disk differs from the model (%v)", err)
	}
}

func bounds(t *testing.T, d Disk) {
	defer d.Close()
	if d.Size() != testSize {
		t.Fatalf("size %d, want %d", d.Size(), testSize)
	}
	p := make([]byte, 1024)
	for _, off := range []int64{-1, testSize - 1023, testSize + 1, 1 << 62} {
		if err := d.WriteAt(p, off); err == nil {
			t.Errorf("write at %d was taken", off)
		}
		if err := d.ReadAt(p, off); err == nil {
			t.Errorf("read at %d was taken", off)
		}
		if err := d.Zero(off, 1024, true); err == nil {
			t.Errorf("zero at %d was taken", off)
		}
		if _, err := d.Segments(off, 1024); err == nil {
			t.Errorf("segments at %d were told", off)
		}
	}
	if err := d.Zero(0, 1<<62, false); err == nil {
		t.Error("a zero far longer than the disk was taken")
	}
	if err := d.WriteAt(p, testSize-1024); err != nil {
		t.Errorf("the last kilobyte: %v", err)
	}
}

// segments checks that runs are consecutive, cover the range, and that holes read as zeroes.
func segments(t *testing.T, d Disk) {
	defer d.Close()
	if err := d.WriteAt(bytes.Repeat([]byte{1}, 8192), 256<<10); err != nil {
		t.Fatal(err)
	}
	if err := d.Zero(256<<10, 4096, true); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Segment{{Off: 0, Len: testSize}, {Off: 255 << 10, Len: 8 << 10}, {Off: 300 << 10, Len: 0}} {
		got, err := d.Segments(r.Off, r.Len)
		if err != nil {
			t.Fatal(err)
		}
		at := r.Off
		for _, s := range got {
			if s.Off != at || s.Len <= 0 {
				t.Fatalf("run %+v does not follow %d", s, at)
			}
			at += s.Len
			if p := make([]byte, s.Len); s.Hole {
				if err := d.ReadAt(p, s.Off); err != nil || !bytes.Equal(p, make([]byte, s.Len)) {
					t.Fatalf("the hole %+v does not read as zeroes (%v)", s, err)
				}
			} else if s.Off > 260<<10 || s.Off+s.Len < 260<<10 {
				continue
			}
		}
		if at != r.Off+r.Len {
			t.Fatalf("runs end at %d, want %d", at, r.Off+r.Len)
		}
		for _, s := range got {
			if s.Hole && s.Off < 264<<10 && s.Off+s.Len > 260<<10 {
				t.Fatalf("the hole %+v covers data", s)
			}
		}
	}
}

func concurrent(t *testing.T, d Disk) {
	defer d.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			off := int64(i) * 64 << 10
			p := bytes.Repeat([]byte{byte(i + 1)}, 64<<10)
			for range 20 {
				if err := errors.Join(d.WriteAt(p, off), d.Sync()); err != nil {
					t.Error(err)
				}
				got := make([]byte, len(p))
				if err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, p) {
					t.Errorf("writer %d reads something else (%v)", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func closed(t *testing.T, d Disk) {
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 512)
	_, segErr := d.Segments(0, 512)
	for what, err := range map[string]error{
		"read": d.ReadAt(p, 0), "write": d.WriteAt(p, 0), "zero": d.Zero(0, 512, true), "plain zero": d.Zero(1, 3, false),
		"sync": d.Sync(), "segments": segErr, "close": d.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}
