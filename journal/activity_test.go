package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

// at is a byte range in extent n.
func at(n int64) block.Range { return block.Range{Off: n*block.ExtentSize + 100, Len: 4096} }

func hot(t testing.TB, a *ActivityLog) map[[2]int64]bool {
	t.Helper()
	m := map[[2]int64]bool{}
	must(t, a.Hot(func(vol uint16, r block.Range) error {
		m[[2]int64{int64(vol), r.Off / block.ExtentSize}] = true
		return nil
	}))
	return m
}

func openAL(t testing.TB, s *Store, extents int, beforeCold func() error) *ActivityLog {
	t.Helper()
	if beforeCold == nil {
		beforeCold = func() error { return nil }
	}
	a, err := s.ActivityLog(extents, beforeCold)
	must(t, err)
	return a
}

func TestActivityLogIsDurableBeforeItReturns(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	a := openAL(t, openMem(t, fsys, Options{}), 10, nil)
	must(t, a.Acquire(t.Context(), 0, at(5)))
	must(t, a.Acquire(t.Context(), 255, block.Range{Off: block.ExtentSize - 1, Len: 2}))
	updates := a.Updates()
	must(t, a.Acquire(t.Context(), 0, at(5)))
	if a.Updates() != updates {
		t.Error("an extent that was hot was written again")
	}
	a.Release(0, at(5))

	after := openAL(t, openMem(t, crash(fsys, 0, nil), Options{}), 2, nil) // fewer than were hot
	got := hot(t, after)
	if len(got) != 3 || !got[[2]int64{0, 5}] || !got[[2]int64{255, 0}] || !got[[2]int64{255, 1}] {
		t.Fatalf("hot after a crash: %v", got)
	}
	must(t, after.Acquire(t.Context(), 1, at(1))) // makes room
	if n := after.Len(); n > 2 {
		t.Errorf("%d extents hot, the limit is 2", n)
	}
	if err := after.Clear(); !errors.Is(err, ErrBusy) {
		t.Errorf("clear with an extent referenced: %v", err)
	}
	after.Release(1, at(1))
	must(t, after.Clear())
	if len(hot(t, after)) != 0 {
		t.Error("hot after clear")
	}
}

func TestActivityLogWaitsWhenAllAreReferenced(t *testing.T) {
	a := openAL(t, openMem(t, vfs.NewMem(), Options{}), 2, nil)
	must(t, a.Acquire(t.Context(), 0, at(1)))
	must(t, a.Acquire(t.Context(), 0, at(2)))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := a.Acquire(ctx, 0, at(3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("acquire beyond the limit: %v", err)
	}
	done := make(chan error, 2)
	go func() { done <- a.Acquire(t.Context(), 0, at(3)) }()
	go func() { done <- a.Acquire(t.Context(), 0, at(2)) }() // hot: does not wait behind the other
	a.Release(0, at(1))
	must(t, <-done)
	must(t, <-done)
	if got := hot(t, a); len(got) != 2 || got[[2]int64{0, 1}] {
		t.Errorf("hot: %v", got)
	}
	if err := a.Acquire(t.Context(), 0, block.Range{Len: 3 * block.ExtentSize}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("more extents than the limit: %v", err)
	}
}

// An extent that is written while others become cold, or while it was about to itself, stays hot.
func TestActivityLogKeepsWhatIsAcquiredMeanwhile(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s := openMem(t, fsys, Options{})
	var a *ActivityLog
	var again atomic.Bool
	a = openAL(t, s, 4, func() error {
		if again.CompareAndSwap(true, false) {
			for i := range int64(4) { // all of them, the victims included: a write comes and goes
				if err := a.Acquire(t.Context(), 0, at(i)); err != nil {
					return err
				}
				a.Release(0, at(i))
			}
		}
		return nil
	})
	for i := range int64(4) {
		must(t, a.Acquire(t.Context(), 0, at(i)))
		a.Release(0, at(i))
	}
	again.Store(true)
	must(t, a.Acquire(t.Context(), 0, at(9)))
	got := hot(t, openAL(t, openMem(t, crash(fsys, 0, nil), Options{}), 4, nil))
	for i := range int64(4) {
		if !got[[2]int64{0, i}] {
			t.Errorf("extent %d was written while the disk was synced, and is cold", i)
		}
	}
	failing := errors.New("disk")
	s2 := openMem(t, vfs.NewMem(), Options{})
	b := openAL(t, s2, 1, func() error { return failing })
	must(t, b.Acquire(t.Context(), 0, at(1)))
	b.Release(0, at(1))
	if err := b.Acquire(t.Context(), 0, at(2)); !errors.Is(err, failing) {
		t.Errorf("acquire with a disk that cannot be synced: %v", err)
	}
	if got := hot(t, b); len(got) != 1 || !got[[2]int64{0, 1}] {
		t.Errorf("hot after that: %v", got)
	}
}

// Whatever is referenced, at any moment, is durably hot: held against crash images taken meanwhile.
func TestActivityLogConcurrently(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s := openMem(t, fsys, Options{})
	const limit = 12
	a := openAL(t, s, limit, func() error { return nil })
	var mu sync.Mutex // held while an image is taken
	held := map[[2]int64]int{}
	var wg sync.WaitGroup
	for w := range uint64(limit / 2) { // each holds one while it asks for the next
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w, 5))
			last := int64(-1)
			for range 150 {
				e := rng.Int64N(40)
				if err := a.Acquire(t.Context(), 1, at(e)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held[[2]int64{1, e}]++
				if last >= 0 {
					held[[2]int64{1, last}]--
				}
				mu.Unlock()
				if last >= 0 {
					a.Release(1, at(last))
				}
				last = e
			}
		})
	}
	for range 10 {
		mu.Lock()
		image := crash(fsys, 0, nil)
		want := map[[2]int64]bool{}
		for k, n := range held {
			if n > 0 {
				want[k] = true
			}
		}
		mu.Unlock()
		got := hot(t, openAL(t, openMem(t, image, Options{}), limit, nil))
		for k := range want {
			if !got[k] {
				t.Fatalf("extent %v was held and is not hot", k)
			}
		}
	}
	wg.Wait()
	if a.Len() > limit {
		t.Errorf("%d extents hot, the limit is %d", a.Len(), limit)
	}
}
