package receiver

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// TestRandomRuns plays random writes, batches, chunks, comparisons, faults, session ends, crashes and rollbacks against
// a model. What it checks stands in world.boot, world.answer, world.rollback and world.settle.
func TestRandomRuns(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 20
	}
	var total struct{ resends, finished, rollbacks, verified, spilled, crashes, reduced int }
	for seed := range uint64(seeds) {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			defer w.end()
			for range 250 {
				w.step()
			}
			w.settle()
			total.resends += w.resends
			total.finished += w.finished
			total.rollbacks += w.rollbacks
			total.verified += w.verified
			total.crashes += w.crashes
			total.reduced += w.reduced
			total.spilled += w.spilled + int(w.target.Stats().Spilled)
		})
		if !ok {
			return
		}
	}
	t.Logf("%+v", total)
	if total.resends == 0 || total.finished == 0 || total.rollbacks == 0 || total.verified == 0 || total.spilled == 0 || total.reduced == 0 {
		t.Errorf("the runs did not reach everything: %+v", total)
	}
}

// step does one random thing.
func (w *world) step() {
	if w.run == nil {
		w.connect()
	}
	w.answers()
	switch k := w.rnd.IntN(100); {
	case k < 40:
		w.append()
	case k < 68:
		w.sendBatch(true)
	case k < 78:
		if w.resync {
			w.sendChunk()
		}
	case k < 83:
		if w.resync {
			w.sendQuery()
		}
	case k < 87:
		w.sendVerify()
	case k < 89:
		w.pullAhead()
	case k < 95:
		w.maybeEnd()
	case k < 97:
		w.disconnect()
		w.maybeRollback()
	case k < 99:
		w.crash()
		w.maybeRollback()
	default:
		w.flushed()
	}
}

// maybeRollback goes back to the last consistent point now and then, where there is one.
func (w *world) maybeRollback() {
	if w.inconsistent && w.point != nil && w.rnd.IntN(2) == 0 {
		w.rollback()
	}
}

func (w *world) rollback() {
	w.t.Helper()
	w.rollbacks++
	at, open := w.target.CanRollback()
	if !open {
		w.t.Fatal("no way back")
	}
	expected, err := w.target.Overwritten(w.t.Context())
	w.must(err)
	ranges, err := w.target.Rollback(w.t.Context())
	w.must(err)
	if fmt.Sprint(ranges) != fmt.Sprint(expected) {
		w.t.Fatalf("foretold %v, rolled back %v", expected, ranges)
	}
	w.same("rolled back", w.replica(), w.point)
	w.same("rolled back", w.replica(), w.imageAt(w.index(at)))
	if m := w.target.Marks(); m != (Marks{at, at, at}) {
		w.t.Fatalf("rolled back to %v, marks %+v", at, m)
	}
	if _, open := w.target.CanRollback(); open {
		w.t.Fatal("rolled back and still a way back")
	}
	told := make(map[int]bool)
	for _, r := range ranges {
		for _, b := range blocksOf(r.Volume, r.Range) {
			told[b] = true
			w.dirty[b] = true
		}
	}
	known := w.known()
	now := w.replica()
	for b := range volumeCount * volumeBlocks {
		vol, off, n := blockRange(b)
		i := int64(vol)*volumeSize + off
		if !bytes.Equal(now[i:i+n], w.image[i:i+n]) && !w.dirty[b] && !told[b] && !w.touched(b, known) {
			w.t.Fatalf("block %d differs and nobody knows", b)
		}
	}
	w.inconsistent, w.point = false, nil
}

// flushed waits until the target has applied all that was sent in this session, unless some of it was lost.
func (w *world) flushed() {
	w.t.Helper()
	limit := time.After(waitLimit)
	for !w.lost && w.acked.Applied.Less(w.seq(w.sent)) {
		select {
		case <-w.link.wake:
			w.answers()
		case <-w.run.Done():
			w.t.Fatal(w.run.Err())
		case <-limit:
			w.t.Fatalf("nothing moves: %+v, sent %d", w.acked, w.sent)
		}
	}
}

func (w *world) end() {
	if w.run != nil {
		if err := w.run.Stop(); err != nil {
			w.t.Errorf("stop: %v", err)
		}
	}
	w.store.close()
}
