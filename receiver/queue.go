package receiver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"drship/internal/block"
	"drship/wan/frame"
)

const (
	maxQueued = 1024 // items in one queue
	maxTaken  = 256  // items taken at once
)

// item is one message of the data lane on its way through the stages. One stage owns it at a time.
type item struct {
	msg  frame.Message
	cost int64 // bytes of the budget that it holds

	batch   *frame.Batch   // nil for anything else, and once spilled
	recs    []block.Record // of batch, decoded; they alias batch.Payload and arena
	arena   []byte
	spare   []byte    // what batch.Payload lies in where it was made here
	last    block.Seq // of a batch, or of the last one of a spilled run
	spilled bool      // staged batches up to last, to be read back from the store

	chunk []byte // content of a chunk, decoded; nil for zeroes

	done chan struct{} // closed when a StreamStart has taken effect
}

// queue passes items from one stage to the next, bounded by number; bytes are bounded by the budget.
type queue struct {
	mu    sync.Mutex
	items []*item
	wake  chan struct{} // holds one token when there may be items
	room  chan struct{} // holds one token when there may be room
	stop  <-chan struct{}
}

func newQueue(stop <-chan struct{}) *queue {
	return &queue{wake: make(chan struct{}, 1), room: make(chan struct{}, 1), stop: stop}
}

// put appends an item; it waits while the queue is full. A run of spilled batches is one item.
func (q *queue) put(ctx context.Context, it *item) error {
	for !q.offer(it) {
		select {
		case <-q.room:
		case <-q.stop:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (q *queue) offer(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.items); it.spilled && n > 0 && q.items[n-1].spilled {
		q.items[n-1].last = it.last
		return true
	}
	if len(q.items) >= maxQueued {
		return false
	}
	q.items = append(q.items, it)
	signal(q.wake)
	return true
}

// take moves what has gathered into dst[:0], at most maxTaken items, and waits for the first.
func (q *queue) take(dst []*item) ([]*item, error) {
	for {
		select {
		case <-q.stop: // before anything else, so that a stop is not held up by what has gathered
			return nil, ErrStopped
		default:
		}
		if dst = q.poll(dst); len(dst) > 0 {
			return dst, nil
		}
		select {
		case <-q.wake:
		case <-q.stop:
		}
	}
}

// takeWithin is take that gives up, with nothing, when d is over.
func (q *queue) takeWithin(dst []*item, d time.Duration) ([]*item, error) {
	if d <= 0 {
		return q.poll(dst), nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		if dst = q.poll(dst); len(dst) > 0 {
			return dst, nil
		}
		select {
		case <-q.wake:
		case <-t.C:
			return q.poll(dst), nil
		case <-q.stop:
			return nil, ErrStopped
		}
	}
}

// poll is take without waiting.
func (q *queue) poll(dst []*item) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.items), maxTaken)
	dst = append(dst[:0], q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	if rest > 0 {
		signal(q.wake)
	}
	if n > 0 {
		signal(q.room)
	}
	return dst
}

// signal leaves a token in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// budget bounds the bytes that are in memory. Only one goroutine takes from it.
type budget struct {
	mu    sync.Mutex
	used  int64
	max   int64
	freed chan struct{} // holds one token when bytes came back
	stop  <-chan struct{}
	gauge *atomic.Int64
}

func newBudget(limit int64, stop <-chan struct{}, gauge *atomic.Int64) *budget {
	return &budget{max: limit, freed: make(chan struct{}, 1), stop: stop, gauge: gauge}
}

// take waits until n bytes fit, or nothing else is held.
func (b *budget) take(ctx context.Context, n int64) error {
	for !b.try(n) {
		select {
		case <-b.freed:
		case <-b.stop:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.max {
		return false
	}
	b.used += n
	b.gauge.Store(b.used)
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	b.gauge.Store(b.used)
	b.mu.Unlock()
	signal(b.freed)
}
