package ship

import "time"

// Course is how a peer is brought up to date while, and after, its journal was full.
type Course uint8

// The courses. From Ahead the way back is a resync beside the journal where the line carries what is written; where it does
// not, or where the journal fills again, the peer is chased: all of the line goes to a resync by bitmap alone, which holds
// nobody up and cannot fail, and which ends once the writers leave it room.
//
//	         full, at rest                dwell over, the line carries the writers
//	ByJournal ───────────> Ahead ────────────────────────────────────────────> ByJournal (and a resync)
//	    │                    └─ dwell over, it does not ─┐                          ^
//	    └─ full in a resync, or soon after one ──────────┴──> Chase ────────────────┘ a dwell later at the earliest
const (
	ByJournal Course = iota
	Ahead
	Chase
)

const (
	carryShare   = 90               // per cent of the line that writers may take, for the line to count as carrying them
	flowEvery    = time.Second      // between two marks of a flow
	flowMarks    = 12               // a flow is reckoned over the last so many
	flowShort    = 3 * time.Second  // below this a flow tells nothing
	flowOld      = 30 * time.Second // marks older than this count no longer
	chaseNearEnd = 2 * time.Second  // a chase that has less before it than the line carries in this time may end
)

// Congestion decides the course with one peer. It never enters or leaves Ahead twice within a dwell, and leaves Chase only when
// the line carries the writers, so that it cannot run in circles. The zero value, with a Dwell, is a peer that is followed by journal.
type Congestion struct {
	Dwell time.Duration

	course  Course
	since   time.Time // of the course
	ahead   time.Time // when Ahead was entered or left last
	writers flow
	line    flow
	carries float64 // bytes a second that the line was seen to carry while it was full
}

// Note takes the counters of this moment: bytes that applications have written, bytes of theirs that went out, and whether
// more was waiting to go out than the line took. It is cheap to call often.
func (c *Congestion) Note(now time.Time, written, sent uint64, full bool) {
	c.writers.note(now, written)
	if !full {
		c.line = flow{}
		return
	}
	c.line.note(now, sent)
	if rate, ok := c.line.rate(); ok {
		c.carries = rate
	}
}

// Full takes note that the journal is full, in a resync or at rest, and returns the course: Ahead or Chase.
func (c *Congestion) Full(now time.Time, inResync bool) Course {
	if inResync || !c.ahead.IsZero() && now.Sub(c.ahead) < c.Dwell {
		c.enter(now, Chase)
	} else {
		c.ahead = now
		c.enter(now, Ahead)
	}
	return c.course
}

// Next is the course from now on, where left bytes are out of sync; ByJournal ends the congestion. wait says when to ask
// again at the latest.
func (c *Congestion) Next(now time.Time, left int64) (course Course, wait time.Duration) {
	if c.course == ByJournal {
		return ByJournal, 0
	}
	if rest := c.Dwell - now.Sub(c.since); rest > 0 {
		return c.course, rest
	}
	switch {
	case c.carried() && (c.course == Ahead || c.near(left)):
		c.leave(now, ByJournal)
	case c.course == Ahead:
		c.leave(now, Chase)
	}
	return c.course, flowEvery
}

// carried reports whether the line carries what is written, as far as is known.
func (c *Congestion) carried() bool {
	rate, ok := c.writers.rate()
	return !ok || c.carries == 0 || rate*100 <= c.carries*carryShare
}

// near reports whether a resync beside the journal would have little left to do.
func (c *Congestion) near(left int64) bool {
	rate, _ := c.writers.rate()
	room := c.carries - rate
	return c.carries == 0 || float64(left) <= max(room, c.carries/10)*chaseNearEnd.Seconds() || rate*2 <= c.carries
}

func (c *Congestion) enter(now time.Time, course Course) {
	c.course, c.since = course, now
	c.line = flow{}
}

func (c *Congestion) leave(now time.Time, course Course) {
	if c.course == Ahead {
		c.ahead = now
	}
	c.enter(now, course)
}

// Reset is for a peer that is followed by journal again for another reason: it was connected anew.
func (c *Congestion) Reset(now time.Time) {
	if c.course != ByJournal {
		c.leave(now, ByJournal)
	}
}

// Rates are what applications write and what the line was seen to carry, in bytes a second; limit is what they would have to
// stay below for the peer to catch up. 0 is not known.
func (c *Congestion) Rates() (writers, line, limit int64) {
	rate, _ := c.writers.rate()
	return int64(rate), int64(c.carries), int64(c.carries * carryShare / 100)
}

// flow reckons a rate from a counter. The zero value is ready.
type flow struct {
	marks [flowMarks]flowMark
	n     int
}

type flowMark struct {
	at    time.Time
	count uint64
}

func (f *flow) note(now time.Time, count uint64) {
	if f.n > 0 {
		last := f.marks[(f.n-1)%flowMarks]
		if age := now.Sub(last.at); age < flowEvery && age >= 0 {
			return
		} else if age > flowOld || age < 0 || count < last.count {
			*f = flow{}
		}
	}
	f.marks[f.n%flowMarks] = flowMark{now, count}
	f.n++
}

// rate is in counts a second, from the oldest mark to the newest; ok is false where they are too close.
func (f *flow) rate() (perSecond float64, ok bool) {
	if f.n == 0 {
		return 0, false
	}
	oldest, newest := f.marks[max(0, f.n-flowMarks)%flowMarks], f.marks[(f.n-1)%flowMarks]
	span := newest.at.Sub(oldest.at)
	if span < flowShort {
		return 0, false
	}
	return float64(newest.count-oldest.count) / span.Seconds(), true
}
