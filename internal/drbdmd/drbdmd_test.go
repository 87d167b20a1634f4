package drbdmd

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"drship/internal/block"
	"drship/internal/state"
)

// imageSize is the size of the disks whose tails lie in testdata. drbdmeta 9.22 wrote them (create-md, then restore-md of a text with these
// identifiers and these bits); everything before the tail is not read.
const imageSize = 128 << 20

// tail is a disk of which only the end is known.
type tail []byte

func (d tail) ReadAt(p []byte, off int64) (int, error) {
	start := int64(imageSize - len(d))
	if off < start {
		return 0, errors.New("read in front of the tail")
	}
	return bytes.NewReader(d).ReadAt(p, off-start)
}

func written(t *testing.T, version string) tail {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", version+"-tail.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReadsWhatDrbdmetaWrote(t *testing.T) {
	for version, c := range map[string]struct {
		peer    int
		history [2]uint64
	}{
		"v08": {0, [2]uint64{0x4FE0DBE74A8BC653, 0x4FDFDBE74A8BC653}},
		"v09": {1, [2]uint64{0x4FE0DBE74A8BC652, 0}},
	} {
		d := written(t, version)
		s, err := Find(d, imageSize, Place{Internal: true})
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		want := state.IDs{Current: 0x2CC51FDC765D6190, Bitmap: 0x1111111111111110, History: c.history}
		if s.Version != version || s.Offset != 134213632 || s.Usable(imageSize) != 204800*512 || s.IDs(c.peer) != want || !s.Clean() || s.Disk() != state.UpToDate {
			t.Errorf("%s: %+v, identifiers %v, clean %t, disk %v", version, s, s.IDs(c.peer), s.Clean(), s.Disk())
		}
		var runs []block.Range
		if err := s.OutOfSync(d, imageSize, c.peer, func(r block.Range) { runs = append(runs, r) }); err != nil {
			t.Fatal(err)
		}
		// The third word of 64 bits: its first and its last eight.
		bits := []block.Range{{Off: 128 * block.Size, Len: block.Size}, {Off: 184 * block.Size, Len: 8 * block.Size}}
		if !reflect.DeepEqual(runs, bits) {
			t.Errorf("%s: out of sync %v, want %v", version, runs, bits)
		}
	}
}

func TestNothingAndDamage(t *testing.T) {
	d := written(t, "v08")
	at := len(d) - superSize
	if _, err := Find(make(tail, 65536), imageSize, Place{Internal: true}); !errors.Is(err, ErrNone) {
		t.Errorf("an empty disk: %v", err)
	}
	if _, err := Find(d, 100, Place{Internal: true}); !errors.Is(err, ErrNone) {
		t.Errorf("a tiny disk: %v", err)
	}
	for name, change := range map[string]func([]byte){
		"bytes a bit":       func(s []byte) { s[82] = 0x20 },
		"bitmap outside":    func(s []byte) { s[76] = 0x7f },
		"log behind":        func(s []byte) { copy(s[68:], []byte{0, 0, 0, 8}) },
		"size over all":     func(s []byte) { s[0] = 0xff },
		"size on its parts": func(s []byte) { copy(s[4:], []byte{0, 4, 0, 0}) },
	} {
		bad := bytes.Clone(d)
		change(bad[at:])
		if _, err := Find(tail(bad), imageSize, Place{Internal: true}); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	crashed := bytes.Clone(d)
	crashed[at+59] |= byte(FlagPrimary)
	if s, err := Find(tail(crashed), imageSize, Place{Internal: true}); err != nil || s.Clean() {
		t.Errorf("a Primary that crashed counts as clean: %v", err)
	}
}

func TestReadsWhatDrbdmetaWritesNow(t *testing.T) {
	tool, err := exec.LookPath("/usr/sbin/drbdmeta")
	if err != nil {
		t.Skip("drbdmeta is not installed (Debian package drbd-utils)")
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		if out, err := exec.CommandContext(t.Context(), tool, append([]string{"--force", "0", "v08", path, "internal"}, args...)...).CombinedOutput(); err != nil {
			t.Skipf("drbdmeta cannot write to a file here: %v\n%s", err, out)
		}
	}
	run("create-md")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Find(f, 64<<20, Place{Internal: true})
	if err != nil || s.IDs(0) != state.Created() || s.Disk() != state.Inconsistent || s.Usable(64<<20) >= 64<<20 {
		t.Fatalf("fresh: %+v, %v", s, err)
	}
	run("set-gi", "2CC51FDC765D6190:0:4FE0DBE74A8BC653:0:1:1:0:0:0:0:0")
	s, err = Find(f, 64<<20, Place{Internal: true})
	if err != nil || s.Current != 0x2CC51FDC765D6190 || !s.Clean() || s.Disk() != state.UpToDate {
		t.Errorf("after set-gi: %+v, %v", s, err)
	}
}

func FuzzFind(f *testing.F) {
	f.Add(make([]byte, superSize), int64(superSize))
	f.Fuzz(func(t *testing.T, raw []byte, size int64) {
		if size > int64(len(raw)) {
			size = int64(len(raw))
		}
		d := bytes.NewReader(raw)
		for _, p := range []Place{{Internal: true}, {Index: -1}} {
			s, err := Find(d, size, p)
			if err != nil {
				continue
			}
			var end int64
			err = s.OutOfSync(d, size, 0, func(r block.Range) {
				if r.Off < end || r.Len <= 0 || r.End() > s.Usable(size) {
					t.Fatalf("run %v behind %d, usable %d", r, end, s.Usable(size))
				}
				end = r.End()
			})
			if err != nil && end > s.Usable(size) {
				t.Fatal(err)
			}
		}
	})
}
