package receiver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// CanRollback returns the position that a Rollback would go back to, and whether there is one.
func (t *Target) CanRollback() (block.Seq, bool) { return t.history.Open() }

// EndHistory drops the pre-images. The owner calls it at attach where its data is UpToDate: a crash between the end
// of a resync and the end of its history leaves one open that nobody needs.
func (t *Target) EndHistory() error {
	if _, open := t.history.Open(); !open {
		return nil
	}
	if err := t.history.End(); err != nil {
		return storeFailed("drop the pre-images", err)
	}
	return nil
}

// Overwritten returns every range in which the replica, once rolled back, would differ from what the source has
// been told that it holds: blocks with a pre-image, and staged writes, which are dropped. Ranges are in order, in whole
// blocks, and do not touch. The owner makes them durably out of sync before it calls Rollback, which forgets them.
func (t *Target) Overwritten(ctx context.Context) ([]VolumeRange, error) {
	if err := t.claim(); err != nil {
		return nil, err
	}
	defer t.release()
	return t.overwritten(ctx)
}

func (t *Target) overwritten(ctx context.Context) ([]VolumeRange, error) {
	if _, open := t.history.Open(); !open {
		return nil, ErrNoHistory
	}
	c := collector{t: t}
	err := t.history.Restore(func(i journal.Image) error {
		c.add(i.Volume, block.Range{Off: int64(i.Block) * block.Size, Len: block.Size})
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("read pre-images: %w", err)
	}
	dec, err := reduce.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	defer dec.Close()
	err = t.staging.Replay(func(s journal.Staged) error {
		m, err := frame.Parse(s.Raw)
		if err != nil {
			return err
		}
		b, ok := m.(*frame.Batch)
		if !ok {
			return fmt.Errorf("%T: %w", m, journal.ErrCorrupt)
		}
		recs, err := dec.Batch(b, nil)
		if err != nil {
			return err
		}
		for i := range recs {
			c.add(recs[i].Volume, recs[i].Range())
		}
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("read staged batches: %w", err)
	}
	return c.merged(), nil
}

// collector gathers ranges, in whole blocks.
type collector struct {
	t      *Target
	ranges []VolumeRange
	sorted int // ranges up to here are merged
}

// compactAt bounds how many unmerged ranges gather.
const compactAt = 1 << 16

func (c *collector) add(volume uint16, r block.Range) {
	if int(volume) >= len(c.t.volumes) || c.t.volumes[volume] == nil || r.Len <= 0 {
		return
	}
	first, end := r.Blocks()
	r = block.Range{Off: int64(first) * block.Size, Len: int64(end-first) * block.Size}
	r.Len = min(r.Len, c.t.volumes[volume].size()-r.Off)
	if n := len(c.ranges); n > c.sorted {
		if last := &c.ranges[n-1]; last.Volume == volume && last.Range.End() == r.Off {
			last.Range.Len += r.Len
			return
		}
	}
	c.ranges = append(c.ranges, VolumeRange{Volume: volume, Range: r})
	if len(c.ranges)-c.sorted >= compactAt {
		c.merged()
	}
}

// merged sorts the ranges and joins those that touch.
func (c *collector) merged() []VolumeRange {
	slices.SortFunc(c.ranges, func(a, b VolumeRange) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Range.Off, b.Range.Off))
	})
	out := c.ranges[:0]
	for _, r := range c.ranges {
		if n := len(out); n > 0 && out[n-1].Volume == r.Volume && out[n-1].Range.End() >= r.Range.Off {
			last := &out[n-1].Range
			last.Len = max(last.End(), r.Range.End()) - last.Off
			continue
		}
		out = append(out, r)
	}
	c.ranges, c.sorted = out, len(out)
	return out
}

// Rollback goes back to where the replica stood when the resync began: pre-images are put back and synced, what is
// staged is forgotten, the position is the earlier one again. It returns what Overwritten would have. A crash in the
// middle leaves it to be done again: the pre-images go last.
func (t *Target) Rollback(ctx context.Context) ([]VolumeRange, error) {
	if err := t.claim(); err != nil {
		return nil, err
	}
	defer t.release()
	at, open := t.history.Open()
	if !open {
		return nil, ErrNoHistory
	}
	ranges, err := t.overwritten(ctx)
	if err != nil {
		return nil, fmt.Errorf("roll back: %w", err)
	}
	if err := t.restore(ctx); err != nil {
		return nil, fmt.Errorf("roll back: %w", err)
	}
	if err := t.syncDisks(); err != nil {
		return nil, fmt.Errorf("roll back: %w", err)
	}
	if err := t.staging.Reset(at); err != nil {
		return nil, fmt.Errorf("roll back: set the position: %w", err)
	}
	t.setMarks(Marks{Received: at, Staged: at, Applied: at})
	t.setAdrift(false)
	if err := t.history.End(); err != nil {
		return nil, fmt.Errorf("roll back: drop the pre-images: %w", err)
	}
	t.log.Info("rolled back to the last consistent point", "position", at, "ranges", len(ranges))
	return ranges, nil
}

// restore writes the pre-images back.
func (t *Target) restore(ctx context.Context) error {
	var w writer
	kept := make([]byte, 0, mergeBytes) // the images of one merged write: each is valid in its call only
	err := t.history.Restore(func(i journal.Image) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		off := int64(i.Block) * block.Size
		v, err := t.checkRange(i.Volume, off, 1)
		if err != nil {
			return errors.Join(err, journal.ErrCorrupt)
		}
		n := min(block.Size, v.size()-off)
		if i.Data == nil {
			return w.zero(v, off, n, true)
		}
		if int64(len(i.Data)) != n {
			return fmt.Errorf("pre-image of %d bytes for %d at %d of volume %d: %w", len(i.Data), n, off, i.Volume, journal.ErrCorrupt)
		}
		if len(w.buf) == 0 || len(kept)+len(i.Data) > cap(kept) {
			if err := w.flush(); err != nil {
				return err
			}
			kept = kept[:0]
		}
		kept = append(kept, i.Data...)
		return w.write(v, off, kept[len(kept)-len(i.Data):])
	})
	if err != nil {
		return err
	}
	return w.flush()
}
