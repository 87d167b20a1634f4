package sender

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/journal"
)

const (
	// maxSpan bounds one piece of a trim or write-zeroes, in bytes: sixteen extents of the activity log.
	maxSpan = 64 << 20
	// parallelFrom is the size, in bytes, from which journal and disk are written by two goroutines: below it
	// handing over costs more than it saves.
	parallelFrom = 64 << 10
	// recordOverhead is what a record costs the journal beside its data, in bytes, when room is reckoned.
	recordOverhead = 64
)

var errRoom = errors.New("no room in the journal")

// Volume is one volume of a resource as its clients see it. Its methods may be called concurrently.
type Volume struct {
	group  *Group
	index  int
	number uint16
	disk   disk.Disk
	locks  rangeLock

	partial *disk.Partial   // below disk; nil where the volume cannot do without it
	bad     *journal.Bitmap // in memory: blocks that the disk did not give and a peer did
	anyBad  atomic.Bool     // there may be some
}

// op is one request on its way.
type op struct {
	block.Range
	kind   block.Kind
	data   []byte
	noHole bool
	record block.Record // what appendLocked fills in; here so that it is not allocated each time
}

var ops = sync.Pool{New: func() any { return new(op) }}

func (o *op) journalBytes() int64 {
	pieces := int64(1)
	if o.kind == block.Write {
		pieces = (o.Len + block.MaxRecord - 1) / block.MaxRecord
	}
	return int64(len(o.data)) + pieces*recordOverhead
}

// Counters count what a resource did; all are monotonic.
type Counters struct {
	Read, Written  atomic.Uint64 // bytes of application requests
	Reads, Writes  atomic.Uint64
	Flushes, Trims atomic.Uint64
	JournalFull    atomic.Uint64 // times a peer went from journal to bitmap
	DiskErrors     atomic.Uint64
	DiskRead       atomic.Uint64 // bytes read from the backing disks, resync included
	PeerWaits      atomic.Int64  // requests that wait for a peer now
}

// Counters returns the group's counters.
func (g *Group) Counters() *Counters { return &g.counters }

// Pending returns the number of application requests inside.
func (g *Group) Pending() int { return g.gate.count() }

// Size is the volume's size in bytes.
func (v *Volume) Size() int64 { return v.disk.Size() }

// Number is the volume's number in its resource.
func (v *Volume) Number() uint16 { return v.number }

// ReadAt fills p from off.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.group.gate.enter(ctx); err != nil {
		return err
	}
	defer v.group.gate.leave()
	if err := v.disk.ReadAt(p, off); err != nil {
		if err := v.readElsewhere(ctx, p, off, err); err != nil {
			return err
		}
	}
	c := &v.group.counters
	c.Reads.Add(1)
	c.Read.Add(uint64(len(p)))
	return nil
}

// WriteAt writes p at off. It returns when the protocol of every connected peer is satisfied; with fua also when the
// data is on stable storage here. p is not kept.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if len(p) == 0 {
		return nil
	}
	if err := v.group.gate.enter(ctx); err != nil {
		return err
	}
	defer v.group.gate.leave()
	o := ops.Get().(*op)
	*o = op{Range: block.Range{Off: off, Len: int64(len(p))}, kind: block.Write, data: p}
	err := v.do(ctx, o, fua)
	*o = op{}
	ops.Put(o)
	c := &v.group.counters
	c.Writes.Add(1)
	c.Written.Add(uint64(len(p)))
	return err
}

// Zero makes a range read as zeroes; unless noHole its space may be given back.
func (v *Volume) Zero(ctx context.Context, off, n int64, noHole, fua bool) error {
	return v.span(ctx, block.Zero, off, n, noHole, fua)
}

// Trim gives a range back. It reads as zeroes afterwards, here and on every peer.
func (v *Volume) Trim(ctx context.Context, off, n int64, fua bool) error {
	v.group.counters.Trims.Add(1)
	return v.span(ctx, block.Trim, off, n, false, fua)
}

func (v *Volume) span(ctx context.Context, kind block.Kind, off, n int64, noHole, fua bool) error {
	if err := v.group.gate.enter(ctx); err != nil {
		return err
	}
	defer v.group.gate.leave()
	for n > 0 {
		step := min(n, maxSpan-off%maxSpan)
		o := &op{Range: block.Range{Off: off, Len: step}, kind: kind, noHole: noHole}
		if err := v.do(ctx, o, fua && step == n); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

// Flush returns when every write completed before it began is on stable storage, on disk and in the journal.
func (v *Volume) Flush(ctx context.Context) error {
	if err := v.group.gate.enter(ctx); err != nil {
		return err
	}
	defer v.group.gate.leave()
	v.group.counters.Flushes.Add(1)
	return v.flush()
}

// Segments describes allocation, see disk.Disk.
func (v *Volume) Segments(ctx context.Context, off, n int64) ([]disk.Segment, error) {
	if err := v.group.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer v.group.gate.leave()
	return v.disk.Segments(off, n)
}

// do takes one request through the stages of the package documentation.
func (v *Volume) do(ctx context.Context, o *op, fua bool) error {
	g := v.group
	if len(g.peers) == 0 {
		if err := v.local(o, block.Seq{}); err != nil {
			return err
		}
		if fua {
			return v.flush()
		}
		return nil
	}
	if err := g.al.Acquire(ctx, v.number, o.Range); err != nil {
		// The activity log lives in the store. When the store is gone the volume goes on: at the next start the
		// store knows that it was lost, and everything is compared.
		if g.store.Failed() == nil {
			return fmt.Errorf("activity log: %w", err)
		}
	} else {
		defer g.al.Release(v.number, o.Range)
	}
	last, err := v.ordered(ctx, o)
	if err != nil {
		return err
	}
	if fua {
		if err := v.flush(); err != nil {
			return err
		}
	}
	if err := g.await(ctx, last); err != nil {
		return err
	}
	return v.kept(ctx, o, last)
}

// ordered does what must happen in the write order: the range stays locked from the record's place in the journal
// until disk and journal have it. The lock is not held while waiting for room or for a peer.
func (v *Volume) ordered(ctx context.Context, o *op) (block.Seq, error) {
	g := v.group
	for {
		lock := v.locks.lock(o.Range)
		last, err := g.submit(v, o)
		if errors.Is(err, errRoom) {
			v.locks.unlock(lock)
			if err := g.log.WaitRoom(ctx, o.journalBytes()); err != nil {
				return block.Seq{}, fmt.Errorf("wait for room in the journal: %w", err)
			}
			continue
		}
		err = v.store(o, last)
		v.locks.unlock(lock)
		return last, err
	}
}

// store commits the journal and writes the disk, both at once where that pays. A journal that fails costs the peers
// their tracking, not the application its write.
func (v *Volume) store(o *op, last block.Seq) error {
	g := v.group
	if last.IsZero() {
		return v.local(o, last)
	}
	if len(o.data) < parallelFrom {
		if err := g.log.Commit(last, false); err != nil {
			g.journalLost(err, v, o.Range)
		}
		g.wake()
		return v.local(o, last)
	}
	committed := make(chan error, 1)
	go func() { committed <- g.log.Commit(last, false) }()
	err := v.local(o, last)
	if cerr := <-committed; cerr != nil {
		g.journalLost(cerr, v, o.Range)
	}
	g.wake()
	return err
}

// local writes the disk. What it refuses is in the journal, up to last, all the same: the peers may get it, so that the blocks differ, and what is sent of
// them later comes behind it.
func (v *Volume) local(o *op, last block.Seq) error {
	err := v.put(o)
	if err == nil {
		v.mended(o.Range)
		return nil
	}
	err = v.diskFailed(o.kind.String(), o.Off, o.Len, err)
	if v.gone() { // given up meanwhile: a peer keeps it
		return v.put(o)
	}
	v.group.distrust(last)
	for _, p := range v.group.peers {
		p.bitmaps[v.index].Set(o.Range)
	}
	return err
}

func (v *Volume) put(o *op) error {
	if o.kind == block.Write {
		return v.disk.WriteAt(o.data, o.Off)
	}
	return v.disk.Zero(o.Off, o.Len, !o.noHole)
}

// sync syncs the disk; where it failed and was given up, what it lacks by now.
func (v *Volume) sync() error {
	err := v.disk.Sync()
	if err == nil {
		return nil
	}
	err = v.diskFailed("flush", 0, v.disk.Size(), err)
	if v.gone() {
		return v.disk.Sync()
	}
	return err
}

// distrust notes that the disk lacks a record.
func (g *Group) distrust(seq block.Seq) {
	for {
		found := g.found.Load()
		if !found.Less(seq) || g.found.CompareAndSwap(found, &seq) {
			return
		}
	}
}

// flush syncs disk and journal at the same time.
func (v *Volume) flush() error {
	g := v.group
	if len(g.peers) == 0 {
		return v.sync()
	}
	synced := make(chan error, 1)
	go func() { synced <- g.store.Sync() }()
	err := v.sync()
	if jerr := <-synced; jerr != nil && !errors.Is(jerr, journal.ErrFailed) {
		return fmt.Errorf("sync journal: %w", jerr)
	}
	return err
}

func (v *Volume) diskFailed(what string, off, n int64, err error) error {
	if !errors.Is(err, disk.ErrMissing) {
		v.group.counters.DiskErrors.Add(1)
		v.group.hooks.DiskFailed(v.number, err)
	}
	return fmt.Errorf("%s volume %d at %d, %d bytes: %w", what, v.number, off, n, err)
}
