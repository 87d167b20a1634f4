package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// applier writes to the disks, in stream order, from one goroutine. A Run has one; so have Recover and Drain, without
// a Run.
type applier struct {
	t   *Target
	r   *Run // nil without a session
	dec *reduce.Decoder
	w   writer

	written  block.Seq     // everything up to it is on the disks, the last of it perhaps not synced
	unsynced int64         // bytes written since the last flush
	oldest   time.Time     // when the first of them were written; zero if there are none
	done     []uint64      // chunks written since the last flush
	fresh    []VolumeRange // their ranges
	unsure   bool          // an earlier user of the disks may have left something that is not synced
	keep     *keeper       // nil where no pre-images are kept
	arena    []byte        // where batches read back from the store are unpacked

	parked []*frame.Verify  // waiting for their position
	end    *frame.ResyncEnd // likewise
}

func newApplier(t *Target, r *Run) (*applier, error) {
	dec, err := reduce.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	a := &applier{t: t, r: r, dec: dec, written: t.Marks().Applied, unsure: true}
	if r != nil {
		a.w.before = r.compare.wait
	}
	if _, open := t.history.Open(); open {
		a.keep = newKeeper(t)
	}
	return a, nil
}

// errEnough ends a walk over the staged batches.
var errEnough = errors.New("enough")

// replay applies what is staged behind the written position, up to and including last.
func (a *applier) replay(ctx context.Context, last block.Seq) error {
	for a.written.Less(last) {
		// The store walks from its applied mark: moving it in between keeps each walk short.
		if err := a.flush(); err != nil {
			return err
		}
		from := a.written
		err := a.t.staging.Replay(func(s journal.Staged) error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if !a.written.Less(s.Last) {
				return nil
			}
			if err := a.staged(s); err != nil {
				return err
			}
			if !a.written.Less(last) || a.unsynced >= flushEvery {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return a.replayError(err)
		}
		if a.written == from {
			return storeFailed("apply staged batches", fmt.Errorf("nothing staged between %v and %v", from, last))
		}
	}
	return nil
}

// replayError sorts out whose fault it was.
func (a *applier) replayError(err error) error {
	var diskErr *DiskError
	var storeErr *storeError
	if errors.As(err, &diskErr) || errors.As(err, &storeErr) || errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled) {
		return err
	}
	return storeFailed("read staged batches", err)
}

// staged applies one batch as it is stored.
func (a *applier) staged(s journal.Staged) error {
	if s.Prev != a.written {
		return fmt.Errorf("a staged batch follows %v, the disks stand at %v: %w", s.Prev, a.written, journal.ErrCorrupt)
	}
	m, err := frame.Parse(s.Raw)
	if err != nil {
		return fmt.Errorf("staged batch behind %v: %w", s.Prev, err)
	}
	b, ok := m.(*frame.Batch)
	if !ok || b.Prev != s.Prev || b.Last != s.Last {
		return fmt.Errorf("staged batch behind %v is another one: %w", s.Prev, journal.ErrCorrupt)
	}
	if cap(a.arena) < int(b.RawLen) {
		a.arena = make([]byte, 0, b.RawLen)
	}
	recs, err := a.dec.Batch(b, a.arena)
	if err != nil {
		return fmt.Errorf("staged batch behind %v: %w", s.Prev, err)
	}
	for i := range recs {
		if _, err := a.t.checkRange(recs[i].Volume, recs[i].Off, int64(recs[i].Len)); err != nil {
			return fmt.Errorf("staged batch behind %v: %w", s.Prev, err)
		}
	}
	it := item{batch: b, recs: recs, last: b.Last}
	return a.write([]*item{&it})
}

// write applies batches and chunks in their order. Old content that has to be kept is durable before the first byte.
func (a *applier) write(items []*item) error {
	if err := a.t.others.chunks(items); err != nil {
		return storeFailed("mark a resync in the bitmaps against other peers", err)
	}
	if err := a.save(items); err != nil {
		return err
	}
	for _, it := range items {
		var err error
		if it.batch != nil {
			err = a.batch(it)
		} else {
			err = a.chunk(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) batch(it *item) error {
	a.t.others.records(it.last, it.recs)
	var bytes int64
	for i := range it.recs {
		rec := &it.recs[i]
		v := a.t.volumes[rec.Volume]
		var err error
		switch rec.Kind {
		case block.Write:
			err = a.w.write(v, rec.Off, rec.Data)
		case block.Zero, block.Trim:
			err = a.w.zero(v, rec.Off, int64(rec.Len), rec.Kind == block.Trim)
		default:
			err = fmt.Errorf("%w: record of %v", ErrProtocol, rec.Kind)
		}
		if err != nil {
			return err
		}
		bytes += int64(rec.Len)
	}
	if err := a.w.flush(); err != nil {
		return err
	}
	a.written = it.last
	if a.oldest.IsZero() {
		a.oldest = time.Now()
	}
	a.unsynced += bytes
	a.t.stats.applied.Add(uint64(len(it.recs)))
	a.t.stats.appliedBytes.Add(uint64(bytes))
	return nil
}

func (a *applier) chunk(it *item) error {
	m, ok := it.msg.(*frame.Chunk)
	if !ok {
		return fmt.Errorf("apply %T: not a chunk", it.msg)
	}
	v := a.t.volumes[m.Volume]
	var err error
	if m.Zero {
		err = a.zeroes(v, m.Off, int64(m.Len))
	} else {
		err = a.w.write(v, m.Off, it.chunk)
	}
	if err == nil {
		err = a.w.flush()
	}
	if err != nil {
		return err
	}
	a.done = append(a.done, m.ID)
	a.fresh = append(a.fresh, VolumeRange{Volume: m.Volume, Range: block.Range{Off: m.Off, Len: int64(m.Len)}})
	a.unsynced += int64(m.Len)
	stats := &a.t.stats
	stats.chunks.Add(1)
	stats.chunkBytes.Add(uint64(m.Len))
	stats.chunkWire.Add(uint64(len(m.Data)))
	return nil
}

// flush syncs the disks and then moves the applied mark, and tells the peer. Without anything new it does nothing.
func (a *applier) flush() error {
	moved := a.t.Marks().Applied != a.written
	if !moved && len(a.done) == 0 && !a.unsure {
		return nil
	}
	if err := a.t.syncDisks(); err != nil {
		return err
	}
	if a.t.resynced != nil && len(a.fresh) > 0 {
		a.t.resynced(a.fresh)
	}
	a.unsynced, a.oldest, a.unsure, a.fresh = 0, time.Time{}, false, a.fresh[:0]
	if err := a.t.others.write(); err != nil {
		return storeFailed("write bitmaps against other peers", err)
	}
	if moved {
		if err := a.t.staging.Applied(a.written); err != nil {
			return storeFailed("move the applied mark", err)
		}
		a.t.moveMarks(func(m *Marks) { m.Applied = a.written })
	}
	if a.r == nil {
		return nil
	}
	signal(a.r.forgotten)
	if moved {
		a.r.out.ack()
	}
	if len(a.done) > 0 {
		if err := a.r.out.chunks(a.r.ctx, a.done, nil); err != nil {
			return err
		}
		a.done = a.done[:0]
	}
	return nil
}

// syncDisks syncs the disks of all volumes, side by side.
func (t *Target) syncDisks() error {
	t.stats.syncs.Add(1)
	var wg sync.WaitGroup
	errs := make([]error, len(t.volumes))
	var alone *volume
	for _, v := range t.volumes {
		if v == nil {
			continue
		}
		if alone == nil { // the first is done here, so that a single one costs no goroutine
			alone = v
			continue
		}
		wg.Go(func() { errs[v.number] = v.sync() })
	}
	errs[alone.number] = alone.sync()
	wg.Wait()
	return errors.Join(errs...)
}

func (v *volume) sync() error {
	if err := v.disk.Sync(); err != nil {
		return &DiskError{Volume: v.number, Err: err}
	}
	return nil
}
