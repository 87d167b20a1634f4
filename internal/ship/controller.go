package ship

import "time"

// Control is what a resync's controller is told: DRBD's c-options.
type Control struct {
	Plan  time.Duration // c-plan-ahead: over which a correction is spread; 0 switches the controller off
	Fill  int64         // c-fill-target: bytes of the resync to have under way; 0: go by Delay
	Delay time.Duration // c-delay-target: how long a piece may take until it is answered
	Min   int64         // c-min-rate: what a resync yields to applications down to, bytes a second; 0: it does not yield
}

const (
	controlStep = 100 * time.Millisecond
	controlMean = time.Second            // over which answers are averaged for a delay target
	controlRise = 1.1                    // by which the rate rises in a step while answers come in time
	controlFast = 200 * time.Millisecond // and for a fill target
)

// Controller keeps so much of a resync under way as its target says, as DRBD's does: the difference to the target is corrected over
// the time of Plan, in steps of 100 ms, and what is planned already is not corrected twice. With a delay target it only ever slows down:
// a resync that has little under way may just have little to send. The zero value is ready.
type Controller struct {
	last  time.Time
	plan  []float64 // corrections to come, bytes; a ring
	at    int
	total float64 // of plan
	rate  float64 // bytes a second
	mean  float64 // bytes a second that are answered: answers come in bursts, a sync of the peer's disk each
}

// Rate is the rate until the next step, bytes a second: never above ceiling, 0 where there is none. answered is all that was
// answered so far, underWay what is not; both are bytes.
func (c *Controller) Rate(now time.Time, p Control, ceiling int64, answered *int64, underWay int64) int64 {
	if p.Plan <= 0 || ceiling <= 0 {
		*c = Controller{}
		return ceiling
	}
	steps := max(int(p.Plan/controlStep), 1)
	if len(c.plan) != steps {
		*c = Controller{plan: make([]float64, steps), last: now, rate: float64(ceiling), mean: float64(ceiling)}
	}
	if elapsed := now.Sub(c.last); elapsed >= controlStep || elapsed < 0 {
		c.step(elapsed, p, ceiling, float64(*answered), float64(underWay))
		c.last, *answered = now, 0
	}
	return min(max(int64(c.rate), pieceMin), ceiling)
}

func (c *Controller) step(elapsed time.Duration, p Control, ceiling int64, answered, underWay float64) {
	if answered == 0 && underWay == 0 { // nothing to learn from: begin anew
		clear(c.plan)
		c.total, c.rate, c.mean = 0, float64(ceiling), float64(ceiling)
		return
	}
	span := max(elapsed, controlStep).Seconds()
	over := controlMean
	if p.Fill > 0 {
		over = controlFast
	}
	c.mean += (answered/span - c.mean) * min(span/over.Seconds(), 1)
	want := float64(p.Fill)
	if p.Fill <= 0 {
		want = c.mean * p.Delay.Seconds()
		if underWay <= want { // answers come in time: nothing to correct
			clear(c.plan)
			c.total, c.rate = 0, min(c.rate*controlRise, float64(ceiling))
			return
		}
	}
	each := (want - underWay - c.total) / float64(len(c.plan))
	for i := range c.plan {
		c.plan[i] += each
	}
	c.total += each * float64(len(c.plan))
	now := c.plan[c.at]
	c.plan[c.at] = 0
	c.total -= now
	c.at = (c.at + 1) % len(c.plan)
	c.rate = max(c.mean+now/span, 0)
	if most := float64(ceiling); c.rate > most { // what cannot be asked for is not planned
		c.rate = most
	}
}

// Yield is the rate of a resync while applications' writes wait for the line.
func (p Control) Yield(rate int64) int64 {
	if p.Min > 0 && (rate <= 0 || rate > p.Min) {
		return p.Min
	}
	return rate
}

// bucketBurst is how far a Bucket may catch up: a busy machine wakes a sender late.
const bucketBurst = 100 * time.Millisecond

// Bucket paces bytes. The zero value is ready.
type Bucket struct {
	debt float64 // bytes that were let go and not yet paid for
	at   time.Time
}

// Wait is how long the next piece has to wait at a rate in bytes a second; a rate of 0 is none.
func (b *Bucket) Wait(now time.Time, rate int64) time.Duration {
	if rate <= 0 {
		b.debt, b.at = 0, now
		return 0
	}
	if !b.at.IsZero() {
		b.debt -= now.Sub(b.at).Seconds() * float64(rate)
	}
	b.at = now
	b.debt = max(b.debt, -bucketBurst.Seconds()*float64(rate))
	if b.debt <= 0 {
		return 0
	}
	return time.Duration(b.debt / float64(rate) * float64(time.Second))
}

// Spend takes note of n bytes that went.
func (b *Bucket) Spend(n int64) { b.debt += float64(n) }

const (
	pieceTime = 8 * time.Millisecond // of the resync's own rate: at its 30 % some 2.4 ms of the line
	pieceMin  = 16 << 10
)

// Piece is how many bytes of a resync at a rate go at once, at most limit: a write of an application that comes right behind
// must not wait long for the line. With a fill target it is no more than half of that.
func Piece(rate int64, p Control, limit int64) int64 {
	n := limit
	if rate > 0 {
		n = int64(float64(rate) * pieceTime.Seconds())
	}
	if p.Plan > 0 && p.Fill > 0 {
		n = min(n, p.Fill/2)
	}
	return min(max(n/4096*4096, pieceMin), limit)
}
