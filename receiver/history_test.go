package receiver

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
)

// TestRollback goes back from the middle of a resync that was interrupted and resumed, to the byte.
func TestRollback(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	p.handle(p.batch(0, fill(1, 16)))
	p.applied()
	point := p.at
	if err := p.run.Stop(); err != nil {
		t.Fatal(err)
	}
	for session := range 2 {
		p.start(frame.ModeResync)
		p.handle(p.chunk(1, 4+session, fill(9, 2)))
		p.handle(p.batch(10+session, fill(8, 1)))
		p.handle(&frame.Chunk{ID: 2, Off: 14 * block.Size, Len: 4 * block.Size, Zero: true}) // 16 and 17 are zeroes already
		p.applied()
		if at, open := p.target.CanRollback(); !open || at != point {
			t.Fatalf("session %d: way back to %v (%v), want %v", session, at, open, point)
		}
		if err := p.run.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	ranges, err := p.target.Rollback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	whole := func(first, n int64) VolumeRange {
		return VolumeRange{Range: block.Range{Off: first * block.Size, Len: n * block.Size}}
	}
	if want := []VolumeRange{whole(4, 3), whole(10, 2), whole(14, 2)}; !slices.Equal(ranges, want) {
		t.Errorf("differs in %v, want %v", ranges, want)
	}
	p.holds(0, fill(1, 16))
	p.holds(16, fill(0, 48))
	if m := p.target.Marks(); m != (Marks{point, point, point}) {
		t.Errorf("marks %+v", m)
	}
	if _, err := p.target.Rollback(t.Context()); !errors.Is(err, ErrNoHistory) {
		t.Errorf("a second time: %v", err)
	}
}

// TestRollbackDropsStaged: batches that are staged and not applied are part of what differs.
func TestRollbackDropsStaged(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.faults.Add(disk.Fault{Ops: disk.OpRead, Off: 20 * block.Size, Len: block.Size, Err: syscall.EIO}) // before it is kept
	p.start(frame.ModeResync)
	p.handle(p.pack(p.at,
		block.Record{Seq: block.Seq{Epoch: 1, Num: 1}, Kind: block.Write, Off: 20 * block.Size, Len: block.Size, Data: fill(8, 1)},
		block.Record{Seq: block.Seq{Epoch: 1, Num: 2}, Kind: block.Trim, Off: 30 * block.Size, Len: 2 * block.Size}))
	if err := p.failed(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if m := p.target.Marks(); m.Staged.Num != 2 || !m.Applied.IsZero() {
		t.Fatalf("marks %+v", m)
	}
	ranges, err := p.target.Rollback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := covered(ranges); !got[20] || !got[30] || !got[31] {
		t.Errorf("differs in %v", ranges)
	}
	p.holds(0, fill(0, 64))
	if m := p.target.Marks(); m != (Marks{}) {
		t.Errorf("marks %+v", m)
	}
}

func covered(ranges []VolumeRange) map[int]bool {
	out := make(map[int]bool)
	for _, r := range ranges {
		for b := r.Range.Off / block.Size; b < r.Range.End()/block.Size; b++ {
			out[int(b)] = true
		}
	}
	return out
}

// TestResyncEnds: the owner is told when everything is on the disk, and then the way back is dropped and the peer told.
func TestResyncEnds(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeResync)
	p.handle(p.chunk(1, 0, fill(3, 8)))
	b := p.batch(1, fill(4, 1))
	p.handle(&frame.ResyncEnd{At: p.at})
	said(p, func(a *frame.ChunkAck) bool { return slices.Equal(a.IDs, []uint64{1}) })
	if len(p.happened()) != 0 {
		t.Fatal("finished before its position was applied")
	}
	p.handle(b)
	if d := said[*frame.ResyncDone](p, nil); d.At != p.at {
		t.Errorf("done at %v", d.At)
	}
	if _, open := p.target.CanRollback(); open || !slices.Equal(p.happened(), []string{"finished"}) {
		t.Errorf("way back %v, told %v", open, p.happened())
	}
	clone := p.disk.CrashClone() // all of it is durable
	got := make([]byte, 8*block.Size)
	if err := clone.ReadAt(got, 0); err != nil || !slices.Equal(got, slices.Concat(fill(3, 1), fill(4, 1), fill(3, 6))) {
		t.Errorf("a crash after the end loses something (%v)", err)
	}
}

// TestHistoryFull: said once; the resync goes on to its end; an interrupted one begins no way back to nowhere.
func TestHistoryFull(t *testing.T) {
	p := newPair(t, journal.Options{MaxHistory: 6 * block.Size}, nil)
	p.start(frame.ModeJournal)
	p.handle(p.batch(0, incompressible(32)))
	p.applied()
	if err := p.run.Stop(); err != nil {
		t.Fatal(err)
	}
	p.start(frame.ModeResync)
	for i := range 16 {
		p.handle(p.chunk(uint64(i), 2*i, fill(byte(i+1), 2)))
	}
	for acked := 0; acked < 16; {
		acked += len(said[*frame.ChunkAck](p, nil).IDs)
	}
	for range 2 {
		if _, open := p.target.CanRollback(); open {
			t.Fatal("there is no way back any more")
		}
		if err := p.run.Stop(); err != nil {
			t.Fatal(err)
		}
		p.start(frame.ModeResync)
		said[*frame.Ack](p, nil)
	}
	p.handle(&frame.ResyncEnd{At: p.at})
	said[*frame.ResyncDone](p, nil)
	if got := p.happened(); !slices.Equal(got, []string{"history", "finished"}) {
		t.Errorf("told %v", got)
	}
	for i := range 16 {
		p.holds(2*i, fill(byte(i+1), 2))
	}
	if err := p.run.Stop(); err != nil {
		t.Fatal(err)
	}
	p.start(frame.ModeResync) // consistent again: this one may go back
	p.handle(p.chunk(1, 0, fill(99, 1)))
	said[*frame.ChunkAck](p, nil)
	if _, open := p.target.CanRollback(); !open {
		t.Error("no way back in a new resync")
	}
}

// TestZeroesOfAllTheDisk: long ranges of zeroes keep only what they change.
func TestZeroesOfAllTheDisk(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	p.handle(p.batch(5, fill(1, 2)))
	p.applied()
	if err := p.run.Stop(); err != nil {
		t.Fatal(err)
	}
	p.start(frame.ModeResync)
	p.handle(&frame.Chunk{ID: 1, Len: pairSize, Zero: true})
	said[*frame.ChunkAck](p, nil)
	if n := p.target.Stats().Images; n != 2 {
		t.Errorf("%d blocks kept, want 2", n)
	}
	p.holds(0, fill(0, 64))
	if err := p.run.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.target.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.holds(5, fill(1, 2))
}

// TestStreamStartIsRefused: while the owner has not made durable what a stream means, the marks claim nothing.
func TestStreamStartIsRefused(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.target.started = func(_ context.Context, m *frame.StreamStart) error {
		if _, open := p.target.CanRollback(); !open {
			t.Error("no way back yet")
		}
		return errInjected
	}
	p.run = p.target.Start(t.Context(), p.link)
	p.handle(&frame.StreamStart{Mode: frame.ModeResync, From: block.Seq{Epoch: 7, Num: 7}, Keep: true})
	if err := p.failed(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	applied, staged := p.store.Staging().Marks()
	if m := p.target.Marks(); m != (Marks{}) || !applied.IsZero() || !staged.IsZero() {
		t.Errorf("marks %+v, stored %v and %v", m, applied, staged)
	}
}

// TestQueryCountsOnWhatIsSynced: a source takes a block that compares equal for done, so that a crash must not undo it.
func TestQueryCountsOnWhatIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, journal.Options{}, nil)
		release := make(chan struct{})
		p.target.volumes[0].disk = &stuckDisk{Disk: p.target.volumes[0].disk, release: release}
		p.start(frame.ModeResync)
		p.handle(p.chunk(1, 0, fill(1, 1))) // holds the disk up
		p.handle(p.chunk(2, 8, fill(2, 8)))
		p.handle(&frame.Query{ID: 1, Off: 8 * block.Size, Len: 8 * block.Size, Digest: uint8(digest.XXH3), Sums: sumsOf(digest.XXH3, fill(2, 8))})
		synctest.Wait() // the chunk and the query have gathered behind it
		p.faults.Add(disk.Fault{Ops: disk.OpSync, Times: 1, Delay: time.Minute})
		start := time.Now()
		close(release)
		if q := said[*frame.QueryReply](p, nil); q.Differ[0] != 0 {
			t.Errorf("differs: %b", q.Differ)
		}
		if time.Since(start) < time.Minute {
			t.Error("answered before what compared equal was synced")
		}
	})
}

// zeroedDisk notes what is zeroed, and how.
type zeroedDisk struct {
	disk.Disk
	punched, blanked []block.Range
}

// Zero implements disk.Disk.
func (d *zeroedDisk) Zero(off, n int64, punch bool) error {
	if punch {
		d.punched = append(d.punched, block.Range{Off: off, Len: n})
	} else {
		d.blanked = append(d.blanked, block.Range{Off: off, Len: n})
	}
	return d.Disk.Zero(off, n, punch)
}

// TestTrimsAsToldTo: zeroes of a resync give space back in whole multiples of the granularity, and not at all without one; a hole
// stays one.
func TestTrimsAsToldTo(t *testing.T) {
	blocks := func(first, n int64) block.Range { return block.Range{Off: first * block.Size, Len: n * block.Size} }
	for _, c := range []struct {
		discard          int64
		punched, blanked []block.Range
	}{
		{0, nil, []block.Range{blocks(2, 12)}},
		{4 * block.Size, []block.Range{blocks(4, 8), blocks(32, 8)}, []block.Range{blocks(2, 2), blocks(12, 2)}},
		{16 * block.Size, nil, []block.Range{blocks(2, 12)}},
	} {
		p := newPair(t, journal.Options{}, nil)
		d := &zeroedDisk{Disk: p.disk}
		p.target.volumes[0].disk, p.target.volumes[0].discard = d, c.discard
		p.start(frame.ModeResync)
		p.handle(p.chunk(1, 0, fill(9, 16)))
		p.handle(&frame.Chunk{ID: 2, Off: 2 * block.Size, Len: 12 * block.Size, Zero: true})
		p.handle(&frame.Chunk{ID: 3, Off: 32 * block.Size, Len: 8 * block.Size, Zero: true}) // was a hole
		for done := 0; done < 3; {
			done += len(said[*frame.ChunkAck](p, nil).IDs)
		}
		if err := p.run.Stop(); err != nil {
			t.Fatal(err)
		}
		p.holds(0, fill(9, 2))
		p.holds(2, fill(0, 12))
		p.holds(14, fill(9, 2))
		if !slices.Equal(d.punched, c.punched) || !slices.Equal(d.blanked, c.blanked) {
			t.Errorf("granularity %d: trimmed %v, zeroed %v, want %v and %v", c.discard, d.punched, d.blanked, c.punched, c.blanked)
		}
	}
}
