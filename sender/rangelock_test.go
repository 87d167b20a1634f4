package sender

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/block"
)

func TestRangeLockOrdersOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l rangeLock
		first := l.lock(block.Range{Off: 0, Len: 8})
		l.unlock(l.lock(block.Range{Off: 8, Len: 8})) // does not touch the first: must not wait
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				h := l.lock(block.Range{Off: 4, Len: 8})
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				l.unlock(h)
			})
			synctest.Wait() // so that they ask in this order
		}
		if len(order) != 0 {
			t.Fatalf("%v did not wait for the range", order)
		}
		l.unlock(first)
		wg.Wait()
		if order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("order %v, want the order of asking", order)
		}
	})
}

func TestRangeLockExcludes(t *testing.T) {
	var l rangeLock
	var wg sync.WaitGroup
	owner := make([]int, 64) // unguarded on purpose: the race detector watches it
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range 500 {
				off := rnd.IntN(60)
				n := 1 + rnd.IntN(4)
				h := l.lock(block.Range{Off: int64(off), Len: int64(n)})
				for i := off; i < off+n; i++ {
					owner[i] = w
				}
				for i := off; i < off+n; i++ {
					if owner[i] != w {
						t.Errorf("byte %d: two owners", i)
					}
				}
				l.unlock(h)
			}
		})
	}
	wg.Wait()
	if l.head != nil || l.tail != nil {
		t.Error("entries are left")
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.enter(t.Context()); err != ErrNotPrimary {
			t.Fatalf("shut gate: %v", err)
		}
		g.setOpen(true)
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.suspend()
		entered := make(chan error)
		go func() { entered <- g.enter(t.Context()) }()
		drained := make(chan error)
		go func() { drained <- g.drained(t.Context()) }()
		time.Sleep(time.Minute)
		select {
		case <-entered:
			t.Fatal("entered while suspended")
		case <-drained:
			t.Fatal("drained with a request inside")
		default:
		}
		g.leave()
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
		g.resume()
		if err := <-entered; err != nil {
			t.Fatal(err)
		}
		g.suspend()
		go func() { entered <- g.enter(t.Context()) }()
		synctest.Wait()
		g.setOpen(false)
		if err := <-entered; err != ErrNotPrimary {
			t.Errorf("held request after the gate was shut: %v", err)
		}
	})
}
