package stripe

import (
	"math"
	"testing"
	"time"
)

// line is a model of a line and of the stripes on it: packets are lost at random, and, once the line is full, by as much more
// as it takes for the stripes to share it out.
type line struct {
	rate float64 // bytes a second
	rtt  time.Duration
	loss float64
	busy bool

	look Look
	lost float64
}

func (l *line) run(c *Count, span time.Duration) {
	const step = 100 * time.Millisecond
	for range span / step {
		l.look.Stripes = c.Want()
		n := float64(c.Want())
		loss := l.loss
		carried := math.Min(l.rate, 10_000*packetBytes/l.rtt.Seconds()*n)
		if loss > 0 {
			carried = math.Min(carried, n*Expect(l.rtt, loss))
		}
		if carried == l.rate { // what makes the stripes share: the formula, solved for the loss
			p := mathis * packetBytes * n / (l.rtt.Seconds() * l.rate)
			loss = math.Max(loss, p*p)
		}
		packets := carried * step.Seconds() / packetBytes
		l.look.Now += step
		l.look.Delivered += uint64(carried * step.Seconds())
		l.look.Sent += uint64(packets)
		l.lost += packets * loss
		l.look.Lost = uint64(l.lost)
		l.look.RTT, l.look.MinRTT = l.rtt, l.rtt
		if l.busy {
			l.look.Waited += step
		}
		c.Step(l.look)
	}
}

const mbit = 1e6 / 8

func TestCountSettles(t *testing.T) {
	for _, c := range []struct {
		name     string
		line     line
		ceiling  float64
		limit    int
		span     time.Duration
		min, max int
	}{
		{"clean", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, busy: true}, 0, 32, 90 * time.Second, 1, 2},
		{"one in ten thousand", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 1e-4, busy: true}, 0, 32, 3 * time.Minute, 3, 8},
		{"one in a thousand", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 1e-3, busy: true}, 0, 32, 20 * time.Second, 10, 24},
		{"one in a hundred", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 1e-2, busy: true}, 0, 64, 10 * time.Second, 31, 64},
		{"two in a hundred, short of stripes", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 2e-2, busy: true}, 0, 32, 10 * time.Second, 32, 32},
		{"slow", line{rate: 10 * mbit, rtt: 300 * time.Millisecond, loss: 1e-2, busy: true}, 0, 64, time.Minute, 16, 48},
		{"nothing to send", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 1e-2}, 0, 32, time.Minute, 4, 4},
		{"a ceiling", line{rate: 1000 * mbit, rtt: 50 * time.Millisecond, loss: 1e-2, busy: true}, 30 * mbit, 64, 10 * time.Second, 9, 16},
		{"only one allowed", line{rate: 100 * mbit, rtt: 50 * time.Millisecond, loss: 1e-2, busy: true}, 0, 1, 10 * time.Second, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := NewCount(4, c.limit)
			c.line.look.Ceiling = c.ceiling
			c.line.run(n, c.span)
			if n.Want() < c.min || n.Want() > c.max {
				t.Errorf("%d stripes, expected %d…%d", n.Want(), c.min, c.max)
			}
		})
	}
}

// The line gets worse, then better: the number follows, both ways.
func TestCountFollows(t *testing.T) {
	l := line{rate: 100 * mbit, rtt: 50 * time.Millisecond, busy: true}
	c := NewCount(4, 64)
	l.run(c, time.Minute)
	clean := c.Want()
	l.loss = 1e-2
	l.run(c, 40*time.Second)
	if bad := c.Want(); bad < 28 || clean > 4 {
		t.Errorf("%d stripes on the clean line, %d on the bad one", clean, bad)
	}
}

func TestFirst(t *testing.T) {
	for _, c := range []struct {
		rtt  time.Duration
		loss float64
		rate float64
		want int
	}{
		{50 * time.Millisecond, 0, 100 * mbit, 1},
		{50 * time.Millisecond, 1e-2, 100 * mbit, 31},
		{50 * time.Millisecond, 1e-4, 100 * mbit, 4},
		{10 * time.Millisecond, 1e-2, 100 * mbit, 7},
		{300 * time.Millisecond, 2e-2, 500 * mbit, 128},
		{50 * time.Millisecond, 1e-2, 0, 1},
	} {
		if got := First(c.rtt, c.loss, c.rate, 128); got != c.want {
			t.Errorf("%v, %v lost, %.0f B/s: %d stripes, expected %d", c.rtt, c.loss, c.rate, got, c.want)
		}
	}
}
