package ship

import (
	"testing"
	"time"
)

// path is a line that delivers so much, a round trip, and a peer that answers in bursts.
type path struct {
	line  float64 // bytes a second
	rtt   time.Duration
	burst time.Duration // between answers
}

type piece struct {
	due   time.Time
	bytes int64
}

// drive sends over a path at the controller's rate and returns what was sent and how much was under way, over the second half.
func drive(p path, ctl Control, ceiling int64, lasting time.Duration) (rate, underWay float64) {
	const tick = 5 * time.Millisecond
	var c Controller
	var answered, open int64
	var way []piece
	var sent, sum float64
	start := time.Unix(1000, 0)
	free, n := start, 0
	credit := 0.0
	for now := start; now.Before(start.Add(lasting)); now = now.Add(tick) {
		for len(way) > 0 && !way[0].due.After(now) {
			open -= way[0].bytes
			answered += way[0].bytes
			way = way[1:]
		}
		r := c.Rate(now, ctl, ceiling, &answered, open)
		credit += float64(r) * tick.Seconds()
		if credit >= 4096 {
			bytes := int64(credit)
			credit = 0
			free = later2(free, now).Add(time.Duration(float64(bytes) / p.line * float64(time.Second)))
			due := free.Add(p.rtt)
			if p.burst > 0 {
				due = due.Truncate(p.burst).Add(p.burst)
			}
			way = append(way, piece{due, bytes})
			open += bytes
			if now.Sub(start) > lasting/2 {
				sent += float64(bytes)
			}
		}
		if now.Sub(start) > lasting/2 {
			sum += float64(open)
			n++
		}
	}
	return sent / (lasting / 2).Seconds(), sum / float64(n)
}

func later2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestControllerKeepsToItsTargets(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name           string
		path           path
		ctl            Control
		ceiling        int64
		rate, underWay float64 // expected, within a quarter; 0: not looked at
	}{
		{"no controller: the ceiling, whatever is under way", path{5e6, 50 * time.Millisecond, 0}, Control{}, 4e6, 4e6, 0},
		{"delay target, room on the line: the ceiling", path{16e6, 10 * time.Millisecond, 60 * time.Millisecond}, Control{Plan: 2 * second, Delay: second}, 4800e3, 4800e3, 0},
		{"delay target, a long line", path{100e6, 200 * time.Millisecond, 100 * time.Millisecond}, Control{Plan: 2 * second, Delay: second}, 30e6, 30e6, 0},
		{"delay target, a line that carries less: so much under way", path{2e6, 50 * time.Millisecond, 0}, Control{Plan: 2 * second, Delay: second}, 20e6, 2e6, 2e6},
		{"a smaller delay target", path{2e6, 50 * time.Millisecond, 0}, Control{Plan: 2 * second, Delay: second / 5}, 20e6, 2e6, 400e3},
		{"fill target, room on the line: what a round trip lets through", path{100e6, 50 * time.Millisecond, 0}, Control{Plan: 2 * second, Fill: 200e3}, 50e6, 4e6, 200e3},
		{"fill target above what the ceiling fills", path{100e6, 50 * time.Millisecond, 0}, Control{Plan: 2 * second, Fill: 4e6}, 10e6, 10e6, 0},
		{"fill target, a narrow line", path{1e6, 20 * time.Millisecond, 0}, Control{Plan: second, Fill: 300e3}, 50e6, 1e6, 300e3},
	} {
		rate, underWay := drive(c.path, c.ctl, c.ceiling, 60*second)
		if rate < c.rate*0.75 || rate > c.rate*1.25 {
			t.Errorf("%s: %.0f bytes/s, want %.0f", c.name, rate, c.rate)
		}
		if c.underWay > 0 && (underWay < c.underWay*0.7 || underWay > c.underWay*1.3) {
			t.Errorf("%s: %.0f bytes under way, want %.0f", c.name, underWay, c.underWay)
		}
	}
}

func TestYieldGoesDownToMinRateAndNoFurther(t *testing.T) {
	for _, c := range []struct{ min, rate, want int64 }{{250e3, 30e6, 250e3}, {250e3, 100e3, 100e3}, {0, 30e6, 30e6}, {250e3, 0, 250e3}} {
		if got := (Control{Min: c.min}).Yield(c.rate); got != c.want {
			t.Errorf("c-min-rate %d, a resync at %d: %d, want %d", c.min, c.rate, got, c.want)
		}
	}
}

// A bucket keeps to its rate whatever the size of pieces, and after a change of the rate at once to the new one.
func TestBucket(t *testing.T) {
	var b Bucket
	now := time.Unix(1000, 0)
	run := func(rate, size int64, lasting time.Duration) float64 {
		start, sent := now, int64(0)
		for now.Sub(start) < lasting {
			if wait := b.Wait(now, rate); wait > 0 {
				now = now.Add(wait)
				continue
			}
			b.Spend(size)
			sent += size
			now = now.Add(time.Microsecond)
		}
		return float64(sent) / lasting.Seconds()
	}
	for _, c := range []struct{ rate, size int64 }{{33e6, 256 << 10}, {250e3, 16 << 10}, {250e3, 1 << 20}, {1e9, 1 << 20}} {
		if got := run(c.rate, c.size, 20*time.Second); got < float64(c.rate)*0.9 || got > float64(c.rate)*1.1+float64(c.size)/20 {
			t.Errorf("%d bytes/s in pieces of %d: %.0f", c.rate, c.size, got)
		}
	}
	run(1000, 1<<20, time.Second)
	if wait := b.Wait(now, 1e9); wait > 2*time.Millisecond {
		t.Errorf("a debt of a slow rate is paid at the new one, not in %v", wait)
	}
}

func TestPieceLeavesRoomForWrites(t *testing.T) {
	for _, c := range []struct {
		rate int64
		ctl  Control
		want int64
	}{
		{0, Control{}, 256 << 10}, {33e6, Control{}, 256 << 10}, {3750e3, Control{}, 28 << 10}, {100e3, Control{}, 16 << 10},
		{33e6, Control{Plan: time.Second, Fill: 100 << 10}, 48 << 10},
	} {
		if got := Piece(c.rate, c.ctl, 256<<10); got != c.want {
			t.Errorf("at %d bytes/s, %+v: %d, want %d", c.rate, c.ctl, got, c.want)
		}
	}
}
