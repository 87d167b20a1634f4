package sender

import (
	"sync"

	"drship/internal/block"
)

// rangeLock orders overlapping writes of one volume: whoever asked first goes first. Ranges that do not overlap never
// wait for one another. The number of entries is bounded by the requests in flight.
type rangeLock struct {
	mu         sync.Mutex
	head, tail *held // in the order of asking
	free       *held
}

// held is one range that is locked or waits for its turn.
type held struct {
	block.Range
	prev, next *held
	done       chan struct{} // made by the first one who waits; closed by unlock
}

// lock returns when no earlier entry overlaps r.
func (l *rangeLock) lock(r block.Range) *held {
	l.mu.Lock()
	h := l.free
	if h != nil {
		l.free = h.next
		*h = held{}
	} else {
		h = &held{}
	}
	h.Range = r
	h.prev = l.tail
	if l.tail != nil {
		l.tail.next = h
	} else {
		l.head = h
	}
	l.tail = h
	for {
		before := l.earlier(h)
		if before == nil {
			l.mu.Unlock()
			return h
		}
		if before.done == nil {
			before.done = make(chan struct{})
		}
		done := before.done
		l.mu.Unlock()
		<-done
		l.mu.Lock()
	}
}

func (l *rangeLock) earlier(h *held) *held {
	for e := h.prev; e != nil; e = e.prev {
		if e.Overlaps(h.Range) {
			return e
		}
	}
	return nil
}

func (l *rangeLock) unlock(h *held) {
	l.mu.Lock()
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.head = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		l.tail = h.prev
	}
	done := h.done
	h.prev, h.next = nil, l.free
	l.free = h
	l.mu.Unlock()
	if done != nil {
		close(done)
	}
}
