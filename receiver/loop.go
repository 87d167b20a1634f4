package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
)

const (
	// groupBytes bounds what is applied between two looks at the queue, in bytes of the budget.
	groupBytes = 4 << 20
	// maxParked bounds the comparisons of a verify that wait for their position.
	maxParked = 256
)

// run is the last stage: it applies what an earlier Run left staged, and then what comes, until the Run stops. It
// syncs when there is nothing else to do: soon, and at once where the peer waits for that.
func (a *applier) run(ctx context.Context) error {
	defer a.dec.Close()
	if err := a.replay(ctx, a.t.Marks().Staged); err != nil {
		return err
	}
	if err := a.flush(); err != nil {
		return err
	}
	var items []*item
	for {
		var err error
		if items, err = a.next(items); err != nil {
			if errors.Is(err, ErrStopped) {
				return nil
			}
			return err
		}
		for rest := items; len(rest) > 0; {
			if ctx.Err() != nil {
				return nil
			}
			n, err := a.step(ctx, rest)
			if err != nil {
				return err
			}
			for _, it := range rest[:n] {
				if !it.spilled { // those gave back what they held when they were spilled
					a.r.held.Add(-it.cost)
					a.r.retire(it)
				}
			}
			rest = rest[n:]
		}
	}
}

// next returns the next items. Before it waits for long it syncs what was written.
func (a *applier) next(items []*item) ([]*item, error) {
	q := a.r.apply
	if items = q.poll(items); len(items) > 0 {
		return items, nil
	}
	if len(a.done) == 0 && !a.unsure && !a.oldest.IsZero() {
		var err error
		if items, err = q.takeWithin(items, flushDelay-time.Since(a.oldest)); err != nil || len(items) > 0 {
			return items, err
		}
	}
	if err := a.flush(); err != nil {
		return nil, err
	}
	return q.take(items)
}

// step takes the first items, as many as go together, and returns how many.
func (a *applier) step(ctx context.Context, items []*item) (int, error) {
	n, err := 1, error(nil)
	switch m := items[0].msg.(type) {
	case *frame.Batch, *frame.Chunk:
		n = writable(items)
		err = a.write(items[:n])
	case *frame.StreamStart:
		if err = a.start(ctx, m); err == nil {
			close(items[0].done)
		}
	case *frame.Query:
		err = a.query(m)
	case *frame.Verify:
		err = a.park(m)
	case *frame.ResyncEnd:
		a.end = m
	case nil:
		err = a.replay(ctx, items[0].last)
	default:
		err = fmt.Errorf("%w: %T on the data lane", ErrProtocol, m)
	}
	if err == nil {
		err = a.reached(ctx)
	}
	if err == nil && a.unsynced >= flushEvery {
		err = a.flush()
	}
	return n, err
}

// query compares a run at this place. A block that is found equal counts as done for the source, so that a chunk in it
// is synced first.
func (a *applier) query(m *frame.Query) error {
	r := block.Range{Off: m.Off, Len: int64(m.Len)}
	for _, f := range a.fresh {
		if f.Volume == m.Volume && f.Range.Overlaps(r) {
			if err := a.flush(); err != nil {
				return err
			}
			break
		}
	}
	return a.r.compare.add(newJob(a.t, m, nil))
}

// writable is how many of the first items are batches and chunks that go in one group, at least one.
func writable(items []*item) int {
	var bytes int64
	for i, it := range items {
		switch it.msg.(type) {
		case *frame.Batch, *frame.Chunk:
		default:
			return i
		}
		if bytes += it.cost; bytes > groupBytes && i > 0 {
			return i
		}
	}
	return len(items)
}

// start changes the stream. The order matters in a crash: the marks may claim From only once the owner has made
// durable what the mode means, and the way back is there before that.
func (a *applier) start(ctx context.Context, m *frame.StreamStart) error {
	if err := a.flush(); err != nil {
		return err
	}
	a.parked, a.end = nil, nil
	if err := a.startHistory(m); err != nil {
		return err
	}
	if a.t.started != nil {
		if err := a.t.started(ctx, m); err != nil {
			return fmt.Errorf("start the stream: %w", err)
		}
	}
	if _, staged := a.t.staging.Marks(); staged != m.From {
		if err := a.t.staging.Reset(m.From); err != nil {
			return storeFailed("set the position of the stream", err)
		}
	}
	a.written = m.From
	a.t.setMarks(Marks{Received: m.From, Staged: m.From, Applied: m.From})
	a.r.out.ack()
	return nil
}

// startHistory begins, keeps or ends the way back, as the mode wants it.
func (a *applier) startHistory(m *frame.StreamStart) error {
	_, open := a.t.history.Open()
	switch {
	case m.Mode == frame.ModeAhead: // nothing changes: neither the data nor the way back
		return nil
	case m.Mode == frame.ModeResync && m.Keep && (open || a.t.consistent()):
		if !open {
			err := a.t.history.Begin(a.written)
			if errors.Is(err, journal.ErrHistoryFull) || errors.Is(err, journal.ErrNoSpace) {
				return a.giveUpHistory(err)
			}
			if err != nil {
				return storeFailed("begin the pre-images", err)
			}
		}
		if a.keep == nil {
			a.keep = newKeeper(a.t)
		}
		return nil
	}
	// A stream by journal begins with consistent data; a resync without pre-images makes older ones useless.
	a.keep = nil
	a.t.setAdrift(m.Mode == frame.ModeResync)
	if open {
		if err := a.t.history.End(); err != nil {
			return storeFailed("drop the pre-images", err)
		}
	}
	return nil
}

// consistent reports whether a history that began now would lead back to a consistent point.
func (t *Target) consistent() bool {
	t.mu.Lock()
	adrift := t.adrift
	t.mu.Unlock()
	return !adrift && (t.sound == nil || t.sound())
}

// park holds a comparison of a verify back until its position is applied.
func (a *applier) park(m *frame.Verify) error {
	if len(a.parked) >= maxParked {
		return fmt.Errorf("%w: more than %d comparisons ahead of the stream", ErrProtocol, maxParked)
	}
	a.parked = append(a.parked, m)
	return nil
}

// reached starts what has waited for the position that is now written.
func (a *applier) reached(ctx context.Context) error {
	waiting := a.parked[:0]
	for _, m := range a.parked {
		if a.written.Less(m.At) {
			waiting = append(waiting, m)
			continue
		}
		if err := a.r.compare.add(newJob(a.t, nil, m)); err != nil {
			return err
		}
	}
	clear(a.parked[len(waiting):])
	a.parked = waiting
	if a.end == nil || a.written.Less(a.end.At) {
		return nil
	}
	at := a.end.At
	a.end = nil
	return a.finish(ctx, at)
}

// finish ends a resync: everything is on the disks, the owner says so durably, and only then the way back is dropped.
func (a *applier) finish(ctx context.Context, at block.Seq) error {
	if err := a.flush(); err != nil {
		return err
	}
	a.t.others.reached(at)
	if err := a.t.hooks.ResyncFinished(ctx, at); err != nil {
		return fmt.Errorf("finish the resync: %w", err)
	}
	a.keep = nil
	a.t.setAdrift(false)
	if err := a.t.EndHistory(); err != nil {
		return err
	}
	return a.r.out.reply(ctx, &frame.ResyncDone{At: at})
}
