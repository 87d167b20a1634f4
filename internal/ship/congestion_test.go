package ship

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is a line, writers and a journal as rates: what Congestion decides on, an hour in a moment.
type world struct {
	*testing.T
	c       Congestion
	now     time.Time
	line    float64 // bytes a second
	limit   float64 // of the journal, bytes
	journal float64 // bytes not sent
	dirty   float64 // bytes out of sync
	volume  float64 // bytes that the writers write to, over and over
	course  Course
	resync  bool
	written float64
	sent    float64
	changes []change
	atRest  time.Time
}

type change struct {
	at     time.Time
	course Course
}

const worldTick = 200 * time.Millisecond

func newWorld(t *testing.T, line, limit, volume float64) *world {
	start := time.Unix(1e6, 0)
	return &world{T: t, c: Congestion{Dwell: time.Minute}, now: start, line: line, limit: limit, volume: volume, atRest: start}
}

// run lets writers write at a rate for a time.
func (w *world) run(lasting time.Duration, writers float64) {
	for end := w.now.Add(lasting); w.now.Before(end); w.now = w.now.Add(worldTick) {
		w.tick(writers * worldTick.Seconds())
	}
}

func (w *world) tick(wrote float64) {
	w.written += wrote
	room := w.line * worldTick.Seconds()
	full := false
	switch w.course {
	case ByJournal:
		w.journal += wrote
		n := min(room, w.journal)
		w.journal, room, w.sent = w.journal-n, room-n, w.sent+n
		full = w.journal > 1<<20
		if w.resync && !full {
			n := min(room, w.dirty, w.line*worldTick.Seconds()*ResyncShare/100)
			w.dirty, w.sent = w.dirty-n, w.sent+n
			w.resync = w.dirty > 0
		}
		if w.journal > w.limit {
			w.dirty, w.journal = min(w.dirty+w.journal, w.volume), 0
			w.set(w.c.Full(w.now, w.resync))
		}
	case Ahead:
		w.dirty += wrote * (1 - w.dirty/w.volume)
	case Chase:
		w.dirty += wrote * (1 - w.dirty/w.volume)
		n := min(room, w.dirty)
		w.dirty, w.sent, full = w.dirty-n, w.sent+n, w.dirty > n
	}
	w.c.Note(w.now, uint64(w.written), uint64(w.sent), full)
	if w.course != ByJournal {
		if next, _ := w.c.Next(w.now, int64(w.dirty)); next != w.course {
			w.set(next)
			w.resync = next == ByJournal
		}
	}
	if w.course == ByJournal && !w.resync {
		w.atRest = w.now
	}
}

func (w *world) set(c Course) {
	w.course = c
	w.changes = append(w.changes, change{w.now, c})
}

// flips checks that Ahead was entered or left no more than once a minute, whatever happened.
func (w *world) flips() {
	w.Helper()
	var last time.Time
	was := ByJournal
	for _, c := range w.changes {
		if c.course == Ahead || was == Ahead {
			if !last.IsZero() && c.at.Sub(last) < time.Minute {
				w.Errorf("Ahead entered or left twice within %v: %v", c.at.Sub(last), w.changes)
				return
			}
			last = c.at
		}
		was = c.course
	}
}

const mb = 1e6

// Writers that are faster than the line for good: once Ahead, then a chase that never ends, and never a circle.
func TestWritersFasterThanTheLine(t *testing.T) {
	w := newWorld(t, 10*mb, 1000*mb, 1e12)
	w.run(time.Hour, 25*mb)
	w.flips()
	if len(w.changes) != 2 || w.changes[0].course != Ahead || w.changes[1].course != Chase {
		t.Errorf("not once Ahead and then a chase: %v", w.changes)
	}
	writers, line, limit := w.c.Rates()
	if writers < 24*mb || writers > 26*mb || line < 9.5*mb || line > 10.5*mb || limit < 8.5*mb || limit > 9.5*mb {
		t.Errorf("writers %d, line %d, to stay below %d", writers, line, limit)
	}
	// They slow down to what was said: the peer is caught up with.
	w.run(16*time.Hour, float64(limit)*0.98)
	if w.now.Sub(w.atRest) > time.Minute || w.dirty > 0 {
		t.Errorf("the writers slowed down, and %v later %.0f bytes are out of sync: %v", w.now.Sub(w.atRest), w.dirty, w.changes)
	}
	w.flips()
}

// A burst fills the journal: Ahead for a minute, a resync beside the journal, and no chase.
func TestBurst(t *testing.T) {
	w := newWorld(t, 10*mb, 100*mb, 1e12)
	w.run(10*time.Minute, 1*mb)
	w.run(10*time.Second, 100*mb)
	w.run(time.Hour, 1*mb)
	if len(w.changes) != 2 || w.changes[0].course != Ahead || w.changes[1].course != ByJournal || w.dirty > 0 {
		t.Errorf("%v, %.0f bytes out of sync", w.changes, w.dirty)
	}
	w.flips()
}

// Writers that go round a small area are caught up with only when they slow down, and nothing runs in circles meanwhile.
func TestHotArea(t *testing.T) {
	w := newWorld(t, 10*mb, 100*mb, 50*mb)
	w.run(3*time.Hour, 30*mb)
	if n := len(w.changes); n != 2 || w.course != Chase {
		t.Errorf("%d changes: %v", n, w.changes)
	}
	w.run(10*time.Minute, 2*mb)
	if w.course != ByJournal || w.dirty > 0 {
		t.Errorf("not caught up with: %v", w.changes)
	}
}

// Whatever writers and line do, Ahead does not flap, and once the writers leave room for good the peer is caught up with.
func TestCongestionAtRandom(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t, 10*mb, (20+rng.Float64()*500)*mb, 2e10)
		for range 60 {
			w.line = (1 + 20*rng.Float64()) * mb
			w.run(time.Duration(rng.Int64N(int64(4*time.Minute))), rng.ExpFloat64()*12*mb)
		}
		w.flips()
		w.line = 10 * mb
		w.run(5*time.Hour, 1*mb)
		if w.course != ByJournal || w.dirty > 0 {
			t.Errorf("seed %d: never caught up with: %v", seed, w.changes)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
