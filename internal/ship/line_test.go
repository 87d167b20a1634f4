package ship

import (
	"testing"
	"time"
)

// send runs a sender for a time over a line that delivers so much, and a sender that can make so much, in bytes a second. It
// obeys no pace but the probe's.
func send(l *Line, from time.Time, lasting time.Duration, line, maker float64, bytes *float64, waited *time.Duration) time.Time {
	const tick = 10 * time.Millisecond
	for at := from; at.Before(from.Add(lasting)); at = at.Add(tick) {
		rate := maker
		if !l.Look(at, uint64(*bytes), *waited, 20*time.Millisecond, true) {
			rate = 0.3 * min(line, maker)
		}
		if rate > line {
			*waited += time.Duration((1 - line/rate) * float64(tick))
			rate = line
		}
		*bytes += rate * tick.Seconds()
	}
	return from.Add(lasting)
}

func TestLineFindsItsLimit(t *testing.T) {
	var l Line
	var bytes float64
	var waited time.Duration
	at := send(&l, time.Unix(1000, 0), 20*time.Second, 110e6, 1000e6, &bytes, &waited)
	if r := l.Rate(); r < 100e6 || r > 120e6 {
		t.Fatalf("a line of 110 MB/s counts as %d", r)
	}
	at = send(&l, at, 90*time.Second, 10e6, 1000e6, &bytes, &waited)
	if r := l.Rate(); r < 9e6 || r > 11e6 {
		t.Fatalf("it became slower, 10 MB/s, and counts as %d", r)
	}
	// A sender that makes less than the line takes does not take itself for the line.
	send(&l, at, 90*time.Second, 10e6, 1e6, &bytes, &waited)
	if r := l.Rate(); r < 9e6 || r > 11e6 {
		t.Fatalf("a slow sender: %d", r)
	}
}

func TestLineKnowsNothingOfASlowSender(t *testing.T) {
	var l Line
	var bytes float64
	var waited time.Duration
	send(&l, time.Unix(1000, 0), 5*time.Second, 110e6, 20e6, &bytes, &waited)
	if l.Rate() != 0 {
		t.Fatalf("a line that was never full counts as %d", l.Rate())
	}
}

func TestResyncPaceOfTheBottleneck(t *testing.T) {
	for _, c := range []struct {
		in   PaceInput
		want int64
	}{
		{PaceInput{Disk: 180e6, Network: 110e6}, 33e6},
		{PaceInput{Disk: 80e6, Network: 110e6}, 24e6},
		{PaceInput{Disk: 180e6}, 54e6},
		{PaceInput{Disk: 180e6, Network: 110e6, Max: 20e6, Control: Control{Plan: time.Second}}, 20e6},
		{PaceInput{Disk: 180e6, Network: 110e6, Max: 20e6}, 33e6}, // c-plan-ahead 0: no controller, no ceiling
		{PaceInput{Disk: 180e6, Network: 110e6, Fixed: 5e6, Max: 1e6}, 5e6},
		{PaceInput{Disk: 180e6, Network: 110e6, Fixed: 5e6, Temporary: 7e6}, 7e6},
		{PaceInput{Disk: 180e6, Network: 110e6, Scheduled: 20e6}, 6e6},
		{PaceInput{Scheduled: 20e6}, 6e6},
		{PaceInput{Max: 20e6, Control: Control{Plan: time.Second}}, 20e6},
		{PaceInput{}, 0},
	} {
		if got := ResyncPace(c.in); got.Rate != c.want || got.Why == "" {
			t.Errorf("%+v: %+v, want %d", c.in, got, c.want)
		}
	}
}

func TestSpeedPredictsTheEnd(t *testing.T) {
	var s Speed
	const total, rate = 1_000_000, 1000.0
	start := time.Unix(1000, 0)
	for second := range 1000 {
		now := start.Add(time.Duration(second) * time.Second)
		left := uint64(total - rate*float64(second))
		s.Note(now, left)
		_, eta := s.Rate(now, left)
		if second < 100 {
			continue
		}
		if real := time.Duration(1000-second) * time.Second; eta < real*8/10 || eta > real*12/10 {
			t.Fatalf("after %d s: %v, really %v", second, eta, real)
		}
	}
	if _, eta := (&Speed{}).Rate(start, 5); eta >= 0 {
		t.Errorf("nothing known: %v", eta)
	}
}

// A paced sender waits for its pacer part of the time: that is not the line's limit. A line that became slower than the pace is found
// without a probe.
func TestLineIsObserved(t *testing.T) {
	var l Line
	var bytes float64
	var waited time.Duration
	now := time.Unix(1000, 0)
	l.rate, l.probed, l.next = 100e6, true, now.Add(lineProbeEvery)
	run := func(lasting time.Duration, rate float64, waiting float64) {
		for end := now.Add(lasting); now.Before(end); now = now.Add(10 * time.Millisecond) {
			if l.Look(now, uint64(bytes), waited, 20*time.Millisecond, false) {
				t.Fatal("a line is probed while applications write")
			}
			bytes += rate / 100
			waited += time.Duration(waiting * float64(10*time.Millisecond))
		}
	}
	run(5*time.Minute, 30e6, 0.4)
	if l.Rate() != 100e6 {
		t.Errorf("a paced sender takes its pace for the line: %d", l.Rate())
	}
	run(3*time.Second, 10e6, 0.95)
	defer func() {
		l.Again()
		if !l.Look(now, uint64(bytes), waited, 20*time.Millisecond, false) {
			t.Error("the line is not probed although somebody asked for it")
		}
	}()
	if l.Rate() < 9e6 || l.Rate() > 11e6 {
		t.Errorf("a line that is full at 10 MB/s counts as %d", l.Rate())
	}
}
