package node

import (
	"context"
	"sync"
	"time"
)

// watchInterval is how often watchers are woken although nothing announced itself: marks and progress move without a
// notice.
const watchInterval = time.Second

// watchers tells whoever listens that a snapshot would look different. Notices are coalesced: a slow listener misses some,
// never the last.
type watchers struct {
	mu   sync.Mutex
	list map[chan struct{}]struct{}
}

// subscribe returns a channel that holds at most one notice, and a function that ends the subscription.
func (w *watchers) subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	if w.list == nil {
		w.list = map[chan struct{}]struct{}{}
	}
	w.list[ch] = struct{}{}
	w.mu.Unlock()
	return ch, func() {
		w.mu.Lock()
		delete(w.list, ch)
		w.mu.Unlock()
	}
}

func (w *watchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.list {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// run wakes the watchers now and then, until ctx ends.
func (w *watchers) run(ctx context.Context) error {
	t := time.NewTicker(watchInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.notify()
		case <-ctx.Done():
			return nil
		}
	}
}
