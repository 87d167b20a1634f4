package sender

import "time"

// clock says when a record was written: the clock on the wall as it was when the epoch began, going on from there by itself. So an age is true
// also where the wall's is set meanwhile.
type clock struct {
	wall        func() time.Time
	told, begun time.Time // what the wall's said, and when that was
}

// newClock reads the clock on the wall; nil is time.Now.
func newClock(wall func() time.Time) clock {
	c := clock{wall: wall}
	if wall == nil {
		c.wall = time.Now
	}
	c.set()
	return c
}

// set reads the clock on the wall again.
func (c *clock) set() { c.told, c.begun = c.wall().Round(0), time.Now() }

func (c *clock) now() time.Time { return c.told.Add(time.Since(c.begun)) }
