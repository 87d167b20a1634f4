package nbd

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB = MaxPayload

	smallClass = 20 // 1 MiB: what clients use by themselves
)

// buffer is payload memory of one size class. data has the length that was asked for.
type buffer struct {
	data  []byte
	class int
}

// bufferPool hands out payload memory inside a budget that all connections of a server share. Memory in use is
// bounded by the budget; idle memory is left to the garbage collector, so that it goes back after a burst.
type bufferPool struct {
	budget  *semaphore.Weighted // bytes, by class size
	large   *semaphore.Weighted // what classes above smallClass may have of it, so that the others need not wait for them
	classes [maxClass - minClass + 1]sync.Pool
}

func newBufferPool(budget int64) *bufferPool {
	return &bufferPool{budget: semaphore.NewWeighted(budget), large: semaphore.NewWeighted(max(budget/2, MaxPayload))}
}

// get returns a buffer of n bytes (1 to MaxPayload) with undefined contents. It waits for room in the budget, in
// the order of the callers, so that a large request is not passed by small ones for ever.
func (p *bufferPool) get(ctx context.Context, n int) (*buffer, error) {
	class := classOf(n)
	if class > smallClass {
		if err := p.large.Acquire(ctx, 1<<class); err != nil {
			return nil, err
		}
	}
	if err := p.budget.Acquire(ctx, 1<<class); err != nil {
		p.releaseLarge(class)
		return nil, err
	}
	return p.take(class, n), nil
}

// tryGet is get for those who do not want to wait; it returns nil where get would.
func (p *bufferPool) tryGet(n int) *buffer {
	class := classOf(n)
	if class > smallClass && !p.large.TryAcquire(1<<class) {
		return nil
	}
	if !p.budget.TryAcquire(1 << class) {
		p.releaseLarge(class)
		return nil
	}
	return p.take(class, n)
}

// take finds or makes a buffer whose size is already inside the budget.
func (p *bufferPool) take(class, n int) *buffer {
	b, ok := p.classes[class-minClass].Get().(*buffer)
	if !ok {
		b = &buffer{data: make([]byte, 1<<class), class: class}
	}
	b.data = b.data[:n]
	return b
}

// classOf is the binary logarithm of the size class for n bytes.
func classOf(n int) int { return max(bits.Len(uint(n-1)), minClass) }

// put takes a buffer back; the caller must not touch it afterwards. A nil buffer is ignored.
func (p *bufferPool) put(b *buffer) {
	if b == nil {
		return
	}
	class := b.class
	b.data = b.data[:cap(b.data)]
	p.classes[class-minClass].Put(b)
	p.budget.Release(1 << class)
	p.releaseLarge(class)
}

func (p *bufferPool) releaseLarge(class int) {
	if class > smallClass {
		p.large.Release(1 << class)
	}
}
