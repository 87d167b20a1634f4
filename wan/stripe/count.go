package stripe

import (
	"math"
	"time"
)

const (
	packetBytes = 1400 // of data, as good as any: the formula is a rule of thumb
	mathis      = 1.45 // measured; theory says 1.22 for an acknowledgement of each packet
)

// Expect is what one connection carries, in bytes a second, where each packet is lost with that probability: its window
// is cut by a third at each loss and grows by a packet in each round trip. 0: it is not loss that limits it.
func Expect(rtt time.Duration, loss float64) float64 {
	if loss <= 0 || rtt <= 0 {
		return 0
	}
	return mathis * packetBytes / (rtt.Seconds() * math.Sqrt(loss))
}

// First is how many stripes a line of that rate takes, in bytes a second, if stripes are all that helps.
func First(rtt time.Duration, loss float64, rate float64, limit int) int {
	each := Expect(rtt, loss)
	if each <= 0 || rate <= 0 {
		return 1
	}
	return max(1, min(limit, int(math.Ceil(rate/each))))
}

// Look is what was seen of a session's stripes in an interval.
type Look struct {
	Now       time.Duration // since the session came up
	Delivered uint64        // bytes acknowledged by the other side since then
	Waited    time.Duration // since then: how long there was more to send than the stripes took
	Sent      uint64        // packets since then
	Lost      uint64
	RTT       time.Duration // smoothed, the mean of the stripes
	MinRTT    time.Duration
	Stripes   int     // that are up
	Ceiling   float64 // bytes a second that may be sent, 0 for no ceiling
}

// Count finds the number of stripes. It is a pure step machine.
//
// What a line loses at random does not depend on the number of stripes; what is lost because the line is full grows with its
// square, since n stripes share out what the line carries. So, where packets are lost, more stripes are tried, quickly, and kept
// unless the share that is lost grew with them. Where hardly any are lost fewer are tried, with patience, and kept where the line
// carries as much.
type Count struct {
	limit  int
	want   int
	from   int           // what want was before it was tried, 0 where nothing is being tried
	base   float64       // bytes a second before it was tried
	lost   float64       // share of packets before it was tried
	begin  Look          // of the measurement
	began  bool          // begin is set
	ripe   time.Duration // the measurement may not begin earlier
	upAt   time.Duration // more may be tried from then on
	downAt time.Duration
	stride float64       // by how much more is tried, as a share of what there is
	upFor  time.Duration // how long the next try of more that fails is remembered
	downFr time.Duration
}

const (
	firstHold  = 10 * time.Second
	longHold   = 4 * time.Minute
	settleRTTs = 8   // until another number shows its effect: the handshake and slow start
	shortRTTs  = 8   // of a measurement, if enough was lost in it
	longRTTs   = 40  // else
	enough     = 12  // packets lost, to tell one loss from another twice as high
	few        = 6   // packets lost in a long measurement, to tell loss from none
	wide       = 2.0 // strides
	narrow     = 0.25
	busyShare  = 0.7 // of a measurement during which there was more to send
	worthSame  = 0.97
	full       = 0.98 // of the ceiling
	// leastRate is what a stripe has to carry, in bytes a second. More stripes only fill a slow line's queue: each begins with a window of
	// some dozens of packets, and keeps two on the way however much is lost.
	leastRate = 40e3
)

// NewCount starts from a number of stripes; limit is the most there may be.
func NewCount(first, limit int) *Count {
	limit = max(1, limit)
	return &Count{limit: limit, want: max(1, min(first, limit)), stride: wide, upFor: firstHold, downFr: firstHold}
}

// Want is the number of stripes that there are to be.
func (c *Count) Want() int { return c.want }

// Step takes a look, of which there is to be one every few round trips, and returns the number of stripes wanted.
func (c *Count) Step(l Look) int {
	if l.Stripes < c.want && l.Now < c.ripe+10*time.Second {
		c.began = false // they are not up yet
		return c.want
	}
	if !c.began {
		if c.ripe == 0 {
			c.ripe = l.Now + settle(l)
		}
		if l.Now >= c.ripe {
			c.begin, c.began = l, true
		}
		return c.want
	}
	took := l.Now - c.begin.Now
	lost := int64(l.Lost) - int64(c.begin.Lost) // it may shrink: a packet taken for lost turned up
	if took < max(shortRTTs*l.RTT, 300*time.Millisecond) || lost < enough && took < max(longRTTs*l.RTT, 2*time.Second) {
		return c.want
	}
	was := c.begin
	c.begin = l
	if l.Waited-was.Waited < time.Duration(busyShare*float64(took)) {
		return c.want // what there is to send is what limits
	}
	share := 0.0
	if lost >= few && l.Sent > was.Sent {
		share = float64(lost) / float64(l.Sent-was.Sent)
	}
	slack := 0.0 // so much more may be chance
	if lost > 0 {
		slack = share / math.Sqrt(float64(lost))
	}
	c.decide(l, share, slack, float64(l.Delivered-was.Delivered)/took.Seconds())
	return c.want
}

// Hold begins the measurement anew, later: nothing gets through, or did not a moment ago, and that has nothing to do with
// the number.
func (c *Count) Hold(l Look) {
	c.began = false
	c.ripe = l.Now + settle(l)
}

// settle is how long it takes until a change shows its effect.
func settle(l Look) time.Duration { return max(settleRTTs*l.RTT, 300*time.Millisecond) }

// decide judges what is being tried, and tries something.
func (c *Count) decide(l Look, share, slack, rate float64) {
	tried := c.from
	c.from = 0
	switch {
	case tried == 0:
	case tried < c.want && share-slack > c.lost*float64(c.want)/float64(tried):
		if c.stride /= 2; c.stride < narrow {
			c.upAt, c.upFor, c.stride = l.Now+c.upFor, min(2*c.upFor, longHold), wide
		}
		c.move(l, tried, 0)
		return
	case tried < c.want:
		c.upFor = firstHold
	case rate < c.base*worthSame:
		c.downAt, c.downFr = l.Now+c.downFr, min(2*c.downFr, longHold)
		c.move(l, tried, 0)
		return
	}
	most := max(1, int(rate/leastRate))
	if c.want > 2*most { // twice, so that a rate that wavers does not take the number along
		c.move(l, most, 0)
		return
	}
	atCeiling := l.Ceiling > 0 && rate >= full*l.Ceiling
	switch {
	case share > 0 && !atCeiling && c.want < min(c.limit, most) && l.Now >= c.upAt:
		c.base, c.lost = rate, share
		c.move(l, min(c.more(l, share), most), c.want)
	case c.want > 1 && l.Now >= c.downAt:
		if tried <= c.want { // one step after another must not add up to a loss
			c.base = 0
		}
		c.base = max(c.base, rate)
		c.move(l, c.want-max(1, c.want/4), c.want)
	}
}

// more is the next number up. Where the ceiling is known, it is computed.
func (c *Count) more(l Look, share float64) int {
	stride := c.stride
	switch { // the more there are, the more one step too far costs
	case c.want >= 16:
		stride = min(stride, wide/4)
	case c.want >= 8:
		stride = min(stride, wide/2)
	}
	next := c.want + max(1, int(stride*float64(c.want)))
	if l.Ceiling > 0 {
		next = max(next, First(l.RTT, share, l.Ceiling, c.limit))
	}
	return min(c.limit, next)
}

// move wants another number; from is what to go back to, 0 for nothing.
func (c *Count) move(l Look, want, from int) {
	c.want, c.from = want, from
	c.began = false
	c.ripe = l.Now + settle(l)
}
