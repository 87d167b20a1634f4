package journal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

func pos(n uint64) block.Seq { return block.Seq{Epoch: 1 << 32, Num: n} }

// batch is a staged batch from one position to the next.
func batch(from, to uint64) Staged {
	return Staged{Prev: pos(from), Last: pos(to), Raw: payload(to, int(to%5000)+1)}
}

func replay(t testing.TB, g *Staging) []Staged {
	t.Helper()
	var all []Staged
	must(t, g.Replay(func(e Staged) error {
		e.Raw = bytes.Clone(e.Raw)
		all = append(all, e)
		return nil
	}))
	return all
}

func TestStagingSurvivesAndForgets(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s := openMem(t, fsys, Options{MaxStaged: 1 << 20})
	g := s.Staging()
	must(t, g.Reset(pos(10)))
	must(t, g.Append([]Staged{batch(10, 12), batch(12, 13)}))
	must(t, g.Append([]Staged{batch(13, 4000)}))
	for _, bad := range [][]Staged{{batch(13, 4001)}, {batch(4000, 4000)}, {batch(4000, 4001), batch(4002, 4003)}} {
		if err := g.Append(bad); err == nil {
			t.Errorf("staged %v behind %v", bad[0].Last, pos(4000))
		}
	}
	if err := g.Append([]Staged{{Prev: pos(4000), Last: pos(4001), Raw: make([]byte, 1<<20)}}); !errors.Is(err, ErrFull) {
		t.Errorf("stage beyond the limit: %v", err)
	}
	if err := g.Applied(pos(11)); err == nil {
		t.Error("applied mark inside a batch")
	}
	must(t, g.Applied(pos(12)))

	check := func(g *Staging, applied, staged uint64, entries int) {
		t.Helper()
		if a, st := g.Marks(); a != pos(applied) || st != pos(staged) {
			t.Errorf("marks %v, %v", a, st)
		}
		all := replay(t, g)
		if len(all) != entries {
			t.Fatalf("%d entries, want %d", len(all), entries)
		}
		var size int64
		for _, e := range all {
			size += int64(len(e.Raw)) + stagedHeaderLen
			if !bytes.Equal(e.Raw, batch(e.Prev.Num, e.Last.Num).Raw) {
				t.Errorf("batch %v differs", e.Last)
			}
		}
		if g.Bytes() != size {
			t.Errorf("%d bytes, want %d", g.Bytes(), size)
		}
	}
	check(g, 12, 4000, 2)
	check(openMem(t, crash(fsys, 0, nil), Options{}).Staging(), 10, 4000, 3) // the applied mark was not synced
	must(t, s.Sync())
	check(openMem(t, crash(fsys, 0, nil), Options{}).Staging(), 12, 4000, 2)
	must(t, g.Applied(pos(4000)))
	must(t, g.Append([]Staged{batch(4000, 4001)}))
	check(openMem(t, crash(fsys, 0, nil), Options{}).Staging(), 4000, 4001, 1)
	must(t, g.Reset(pos(7)))
	check(openMem(t, crash(fsys, 0, nil), Options{}).Staging(), 7, 7, 0)
}

func TestStagingReplayMayMoveTheMark(t *testing.T) {
	g := openMem(t, vfs.NewMem(), Options{}).Staging()
	must(t, g.Reset(pos(0)))
	var in []Staged
	for i := range uint64(200) {
		in = append(in, batch(i, i+1))
	}
	must(t, g.Append(in))
	var n uint64
	must(t, g.Replay(func(e Staged) error {
		n++
		if n%100 == 0 { // more than 64: a range deletion
			return g.Applied(e.Last)
		}
		return nil
	}))
	if a, st := g.Marks(); n != 200 || a != st || g.Bytes() != 0 {
		t.Errorf("%d replayed, marks %v, %v", n, a, st)
	}
}
