package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"drship/wan/frame"
	"drship/wan/reduce"
)

const (
	// recordCost is the memory of one decoded record beside its data, in bytes.
	recordCost = 80
	// maxRecords bounds the records of one batch. Folding at most doubles them, and taking out zeroes adds no more
	// than two for each block.
	maxRecords = 4 * reduce.MaxRecords
)

// Run is one session's worth of receiving. It owns its goroutines; Stop ends them and waits for them.
type Run struct {
	t      *Target
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once // the first failure
	ended  sync.Once // Stop's work
	result error     // of Stop

	out                   *outbox
	compare               *comparer
	memory                *budget
	checks, stages, apply *queue
	arenas                sync.Pool     // of *[]byte: where batches are unpacked
	held                  atomic.Int64  // bytes of the budget in the apply queue
	forgotten             chan struct{} // holds one token when staging may have room again
}

// storeError marks what the store said, so that the right hook is called.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func storeFailed(doing string, err error) error {
	return &storeError{fmt.Errorf("%s: %w", doing, err)}
}

// Start begins a session over link. What an earlier Run left staged is applied first. If the target is busy the Run has
// failed from the start: Handle and Stop return ErrBusy.
func (t *Target) Start(ctx context.Context, link Sender) *Run {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := ctx.Done()
	r := &Run{
		t: t, ctx: ctx, cancel: cancel,
		out:    newOutbox(t, link),
		memory: newBudget(t.queue, stop, &t.stats.queueBytes),
		checks: newQueue(stop), stages: newQueue(stop), apply: newQueue(stop),
		forgotten: make(chan struct{}, 1),
	}
	r.compare = newComparer(t, r.out, stop)
	if err := t.claim(); err != nil {
		cancel(err)
		r.ended.Do(func() { r.result = err })
		return r
	}
	r.start()
	return r
}

func (r *Run) start() {
	checker, err := newChecker(r)
	if err != nil {
		r.fail(err)
		return
	}
	applier, err := newApplier(r.t, r)
	if err != nil {
		r.fail(err)
		return
	}
	stager := &stager{r: r}
	r.goDo(func() error { return r.out.run(r.ctx) })
	r.goDo(checker.run)
	r.goDo(stager.run)
	r.goDo(func() error { return applier.run(r.ctx) })
	for range comparers {
		r.goDo(func() error { return r.compare.run(r.ctx) })
	}
}

// goDo runs one of the stages; its error ends the Run.
func (r *Run) goDo(fn func() error) {
	r.wg.Go(func() {
		if err := fn(); err != nil {
			r.fail(err)
		}
	})
}

// fail ends the Run with its first error and tells the owner whose fault it was.
func (r *Run) fail(err error) {
	r.once.Do(func() {
		if r.ctx.Err() != nil { // stopped already: what follows from that is no failure
			return
		}
		r.cancel(err)
		var diskErr *DiskError
		var storeErr *storeError
		switch {
		case errors.As(err, &diskErr):
			r.t.hooks.DiskFailed(diskErr.Volume, diskErr.Err)
		case errors.As(err, &storeErr):
			r.t.hooks.StoreFailed(storeErr.err)
		}
	})
}

// Done is closed when the Run can no longer receive: it failed, or was stopped.
func (r *Run) Done() <-chan struct{} { return r.ctx.Done() }

// Err is why the Run has ended, nil while it has not. It is ErrStopped after Stop.
func (r *Run) Err() error { return context.Cause(r.ctx) }

// Stop ends the Run and waits for its goroutines. What is staged stays staged; what is only received is forgotten, and
// the peer will send it again. It returns what the Run failed with, nil where it was only stopped.
func (r *Run) Stop() error {
	r.ended.Do(func() {
		r.cancel(ErrStopped)
		r.wg.Wait()
		r.t.stats.queueBytes.Store(0)
		r.t.stats.queueItems.Store(0)
		r.t.release()
		if cause := context.Cause(r.ctx); !errors.Is(cause, ErrStopped) && !errors.Is(cause, context.Canceled) {
			r.result = cause
		}
	})
	return r.result
}

// Handle takes the next message of the data lane: one caller, in the lane's order. It waits while too much is in
// memory. The message and all it points to are the Run's from now on. An error says that the Run has ended, or why the
// message is not one of the data lane.
func (r *Run) Handle(ctx context.Context, m frame.Message) error {
	if r.ctx.Err() != nil {
		return r.Err()
	}
	cost, err := cost(m)
	if err != nil {
		r.fail(err)
		return err
	}
	if err := r.memory.take(ctx, cost); err != nil {
		return r.orCause(err)
	}
	r.t.stats.queueItems.Add(1)
	it := &item{msg: m, cost: cost}
	it.batch, _ = m.(*frame.Batch)
	return r.orCause(r.checks.put(ctx, it))
}

// orCause tells why the Run ended instead of that it did.
func (r *Run) orCause(err error) error {
	if errors.Is(err, ErrStopped) {
		return r.Err()
	}
	return err
}

// cost is the memory that a message holds until it is applied, in bytes, with its content unpacked.
func cost(m frame.Message) (int64, error) {
	const overhead = 512
	switch m := m.(type) {
	case *frame.Batch:
		if m.RawLen > frame.MaxRaw || m.Records > maxRecords {
			return 0, fmt.Errorf("%w: a batch of %d bytes and %d records", ErrProtocol, m.RawLen, m.Records)
		}
		n := overhead + int64(len(m.Payload)) + int64(m.Records)*recordCost
		switch m.Codec {
		case frame.CodecRaw:
		case frame.CodecReduced: // unpacked, and packed anew to be staged
			n += 2 * int64(m.RawLen)
		default:
			n += int64(m.RawLen)
		}
		return n, nil
	case *frame.Chunk:
		n := int64(len(m.Data))
		if !m.Zero && m.Codec != frame.CodecRaw {
			n += int64(m.Len)
		}
		return overhead + n, nil
	case *frame.Query:
		return overhead + int64(len(m.Sums)), nil
	case *frame.Verify:
		return overhead + int64(len(m.Sums)), nil
	case *frame.StreamStart, *frame.ResyncEnd:
		return overhead, nil
	case *frame.Peers:
		return overhead * int64(1+len(m.Others)), nil
	}
	return 0, fmt.Errorf("%w: %T on the data lane", ErrProtocol, m)
}

// retire gives back what an item held.
func (r *Run) retire(it *item) {
	r.memory.give(it.cost)
	it.cost = 0
	r.t.stats.queueItems.Add(-1)
	r.unpacked(it)
}

// unpacked drops the decoded content of a batch.
func (r *Run) unpacked(it *item) {
	for _, b := range [...][]byte{it.arena, it.spare} {
		if b != nil {
			arena := b[:0]
			r.arenas.Put(&arena)
		}
	}
	it.recs, it.arena, it.spare = nil, nil, nil
}

// arena returns room for n bytes of unpacked data, or nil where nothing is to be unpacked.
func (r *Run) arena(c frame.Codec, n uint32) []byte {
	if c == frame.CodecRaw {
		return nil
	}
	if p, ok := r.arenas.Get().(*[]byte); ok && cap(*p) >= int(n) {
		return *p
	}
	return make([]byte, 0, n)
}
