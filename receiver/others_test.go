package receiver

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
)

// otherWorld is a store with bitmaps against two peers; alice ships.
func otherWorld(t *testing.T) (*Target, map[string]*journal.Bitmap) {
	t.Helper()
	s, err := journal.Open("store", journal.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	bitmaps := map[string]*journal.Bitmap{}
	var list []Other
	for _, name := range []string{"alice", "charlie"} {
		b, err := s.Bitmap(name, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		bitmaps[name] = b
		list = append(list, Other{Name: name, Bitmaps: map[uint16]*journal.Bitmap{0: b}})
	}
	target := &Target{others: newOthers(s, list)}
	target.SetSource("alice", block.Seq{Epoch: 1})
	return target, bitmaps
}

func seqAt(n uint64) block.Seq { return block.Seq{Epoch: 1, Num: n} }

// blockRecord writes one block.
func blockRecord(n int64) []block.Record {
	return []block.Record{{Kind: block.Write, Off: n * block.Size, Len: block.Size}}
}

func TestOthersAreMarkedUntilTheyHaveIt(t *testing.T) {
	target, bitmaps := otherWorld(t)
	o, charlie := target.others, bitmaps["charlie"]
	has := func(want ...int64) {
		t.Helper()
		if n := charlie.Count(); n != uint64(len(want)) {
			t.Fatalf("%d blocks are marked, want %v", n, want)
		}
		for _, b := range want {
			if !charlie.Contains(block.Range{Off: b * block.Size, Len: 1}) {
				t.Fatalf("block %d is not marked", b)
			}
		}
	}
	o.records(seqAt(1), blockRecord(1))
	o.records(seqAt(2), blockRecord(2))
	has(1, 2)
	if n := bitmaps["alice"].Count(); n != 0 {
		t.Fatalf("%d blocks are marked against the source", n)
	}
	target.OtherHas("charlie", seqAt(1)) // all that is marked is recent now, the oldest of it not newer than 2
	has(1, 2)
	o.records(seqAt(3), blockRecord(3))
	o.records(seqAt(3), blockRecord(1)) // again, and newer
	target.OtherHas("charlie", seqAt(2))
	has(1, 3)
	target.OtherHas("charlie", seqAt(4))
	has()
	o.records(seqAt(4), blockRecord(4)) // it has that already
	has()
	o.records(seqAt(5), blockRecord(5))
	has(5)
	target.OtherHas("alice", seqAt(9)) // the source itself is no other
	has(5)
}

func TestOthersAfterAResyncAndWithAnotherSource(t *testing.T) {
	target, bitmaps := otherWorld(t)
	o, charlie := target.others, bitmaps["charlie"]
	if err := o.chunks([]*item{{msg: &frame.Chunk{Len: 8 * block.Size}}}); err != nil {
		t.Fatal(err)
	}
	o.reached(seqAt(10))
	target.OtherHas("charlie", seqAt(9)) // the chunks may hold what record 10 wrote
	if n := charlie.Count(); n != 8 {
		t.Fatalf("%d blocks are marked, want 8", n)
	}
	target.OtherHas("charlie", seqAt(10))
	if n := charlie.Count(); n != 0 {
		t.Fatalf("%d blocks are marked, want none", n)
	}
	target.SetSource("charlie", block.Seq{Epoch: 2})
	o.records(block.Seq{Epoch: 2, Num: 1}, blockRecord(3))
	if a, c := bitmaps["alice"].Count(), charlie.Count(); a != 1 || c != 0 {
		t.Fatalf("%d blocks are marked against the old source and %d against the new one", a, c)
	}
}

// What is handed to the store with write is there after a restart, as bits of records up to the applied mark.
func TestOthersSurviveARestart(t *testing.T) {
	fs := vfs.NewMem()
	open := func() (*journal.Store, *others) {
		s, err := journal.Open("store", journal.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		var list []Other
		for _, name := range []string{"alice", "charlie"} {
			b, err := s.Bitmap(name, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, Other{Name: name, Bitmaps: map[uint16]*journal.Bitmap{0: b}})
		}
		return s, newOthers(s, list)
	}
	s, o := open()
	target := &Target{others: o}
	target.SetSource("alice", block.Seq{})
	o.records(seqAt(1), blockRecord(1))
	if err := o.write(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, o = open()
	defer func() { _ = s.Close() }()
	for _, p := range o.peers {
		want := uint64(0)
		if p.Name == "charlie" {
			want = 1
		}
		if n := p.Bitmaps[0].Count(); n != want {
			t.Errorf("%d blocks are marked against %s, want %d", n, p.Name, want)
		}
	}
}

// A chunk is on the disk perhaps when power is lost: by then it is marked, though nobody was told of it.
func TestChunksAreMarkedDurably(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := journal.Open("store", journal.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var list []Other
	for _, name := range []string{"alice", "charlie"} {
		b, err := s.Bitmap(name, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Other{Name: name, Bitmaps: map[uint16]*journal.Bitmap{0: b}})
	}
	o := newOthers(s, list)
	o.source = "alice"
	if err := o.chunks([]*item{{msg: &frame.Chunk{Len: 3 * block.Size}}}); err != nil {
		t.Fatal(err)
	}
	after, err := journal.Open("store", journal.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = after.Close() }()
	b, err := after.Bitmap("charlie", 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.Count(); n != 3 {
		t.Errorf("%d blocks are marked after the crash, want 3", n)
	}
}
