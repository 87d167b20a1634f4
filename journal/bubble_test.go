package journal

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Stores work in bubbles of virtual time, one after the other in a process, and leave nothing running.
func TestStoreInBubbles(t *testing.T) {
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			fsys := vfs.NewCrashableMem()
			s, err := Open("r0", Options{FS: fsys})
			must(t, err)
			start := begin(t, s.Log(), 0)
			began := time.Now()
			done := make(chan error)
			go func() { done <- s.Log().Wait(t.Context(), start) }()
			synctest.Wait()
			for i := range uint64(2000) { // some flushes
				put(t, s.Log(), record(i, 4096), i%100 == 0)
			}
			must(t, <-done)
			if took := time.Since(began); took != 0 {
				t.Errorf("the store waited %v of virtual time", took)
			}
			after, err := Open("r0", Options{FS: crash(fsys, 0, nil)})
			must(t, err)
			if end := after.Log().End(); end.Num < 1901 {
				t.Errorf("journal ends at %v", end)
			}
			must(t, s.Close())
			must(t, after.Close())
		})
	}
}
