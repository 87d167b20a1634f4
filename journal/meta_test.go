package journal

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/state"
)

func someMeta() Meta {
	return Meta{
		Version: metaVersion, Resource: "r0", Node: "alice", Created: true, Primary: true, Epoch: 1<<40 | 3, Flags: 7,
		Volumes: []VolumeMeta{
			{Volume: 0, Size: 1 << 40, Disk: state.UpToDate, Current: 11, History: [HistorySlots]uint64{1, 2, 3}, Flags: 9,
				Peers: []PeerMeta{{Name: "bob", Bitmap: 5, Disk: state.Outdated, Flags: 1, Mark: pos(77)}, {Name: "carol"}}},
			{Volume: 200, Disk: state.Inconsistent},
		},
	}
}

func TestMetaIsDurable(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s := openMem(t, fsys, Options{})
	if _, err := s.Meta(); !errors.Is(err, ErrNoMeta) {
		t.Fatalf("metadata of a new store: %v", err)
	}
	in := someMeta()
	must(t, s.SetMeta(in))
	in.Volumes[0].Peers[0].Bitmap = 999 // ours, not the store's
	for _, s := range []*Store{s, openMem(t, crash(fsys, 0, nil), Options{})} {
		got, err := s.Meta()
		must(t, err)
		if !reflect.DeepEqual(got, someMeta()) {
			t.Errorf("got %+v", got)
		}
		got.Volumes[0].Size = 1
	}
	in.Node = strings.Repeat("x", MaxName+1)
	if err := s.SetMeta(in); err == nil {
		t.Error("stored a name beyond its bound")
	}
	in = someMeta()
	in.Volumes[0].Peers = make([]PeerMeta, MaxPeers+1)
	if err := s.SetMeta(in); err == nil {
		t.Error("stored more peers than the bound")
	}
}

func FuzzMeta(f *testing.F) {
	m := someMeta()
	raw, err := encodeMeta(&m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[4:])
	f.Add(raw[4:20])
	empty, err := encodeMeta(&Meta{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty[4:])
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := append(make([]byte, 4), body...)
		seal([]byte{keyMeta}, raw) // so that the fuzzer gets behind the checksum
		m, err := decodeMeta(raw)
		if err != nil {
			return
		}
		again, err := encodeMeta(&m)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("accepted %x, encodes as %x: %v", raw, again, err)
		}
	})
}

func TestMetaRefusesDamage(t *testing.T) {
	m := someMeta()
	raw, err := encodeMeta(&m)
	must(t, err)
	for i := range raw {
		raw[i] ^= 0x10
		if _, err := decodeMeta(raw); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		raw[i] ^= 0x10
	}
}

func TestOpenRefusesASecondOpenerAndOtherFormats(t *testing.T) {
	fsys := vfs.NewMem()
	s := openMem(t, fsys, Options{})
	if _, err := Open("r0", Options{FS: fsys}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second opener: %v", err)
	}
	must(t, s.update(true, func(b *pebble.Batch) error { return b.Set([]byte{keyFormat}, []byte{99, 0, 0, 0}, nil) }))
	must(t, s.Close())
	if _, err := Open("r0", Options{FS: fsys}); !errors.Is(err, ErrFormat) {
		t.Fatalf("unknown format: %v", err)
	}
	dir := t.TempDir()
	real1, err := Open(dir, Options{Reserve: -1})
	must(t, err)
	defer real1.Close()
	if _, err := Open(dir, Options{Reserve: -1}); !errors.Is(err, ErrLocked) {
		t.Errorf("second opener on a real file system: %v", err)
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := Open(file, Options{Reserve: -1}); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a file for a directory: %v", err)
	}
	if err := s.SetMeta(Meta{}); !errors.Is(err, ErrClosed) {
		t.Errorf("use after close: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}
