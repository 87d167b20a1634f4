package emu

import "time"

// Transit holds what is on its way, by time of arrival; what arrives at the same time comes out as it went in. The zero value is
// empty. It is bounded by Line, which counts what is in it (MaxHeld).
type Transit[T any] struct {
	heap []parcel[T]
	next uint64
}

type parcel[T any] struct {
	at    time.Duration
	order uint64
	value T
}

func (p *parcel[T]) before(q *parcel[T]) bool {
	return p.at < q.at || p.at == q.at && p.order < q.order
}

// Len is how many are on their way.
func (t *Transit[T]) Len() int { return len(t.heap) }

// Push sends value on its way, to arrive at at.
func (t *Transit[T]) Push(at time.Duration, value T) {
	t.heap = append(t.heap, parcel[T]{at: at, order: t.next, value: value})
	t.next++
	h := t.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// Next is when the first of them arrives.
func (t *Transit[T]) Next() (at time.Duration, ok bool) {
	if len(t.heap) == 0 {
		return 0, false
	}
	return t.heap[0].at, true
}

// Pop takes the first one off; there must be one.
func (t *Transit[T]) Pop() T {
	h := t.heap
	first := h[0].value
	n := len(h) - 1
	h[0] = h[n]
	h[n] = parcel[T]{}
	t.heap = h[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
