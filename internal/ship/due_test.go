package ship

import (
	"testing"
	"time"
)

// every is a schedule at full multiples of a period.
func every(period time.Duration) func(time.Time) time.Time {
	return func(t time.Time) time.Time { return t.Truncate(period).Add(period) }
}

func TestDueOncePerSlot(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		period time.Duration
		slots  int
	}{{time.Minute, 30}, {time.Hour, 24}, {7 * 24 * time.Hour, 2}} {
		span := time.Duration(c.slots) * c.period
		tick := c.period / 13
		n := 0
		for at := start; at.Before(start.Add(span)); at = at.Add(tick) {
			if Due(every(c.period), "r0", at, at.Add(tick)) {
				n++
			}
		}
		if n < c.slots-1 || n > c.slots+1 {
			t.Errorf("every %v: due %d times in %d slots", c.period, n, c.slots)
		}
	}
}

func TestJitterIsBoundedAndFixed(t *testing.T) {
	seen := map[time.Duration]bool{}
	for _, name := range []string{"r0", "r1", "mail", "db"} {
		j := Jitter(name, time.Hour)
		if j != Jitter(name, time.Hour) || j < 0 || j >= 6*time.Minute {
			t.Errorf("%s: %v", name, j)
		}
		seen[j] = true
		if long := Jitter(name, 7*24*time.Hour); long >= 10*time.Minute {
			t.Errorf("%s: %v in a week", name, long)
		}
	}
	if len(seen) < 3 {
		t.Errorf("all begin at the same time: %v", seen)
	}
	if Jitter("r0", 5) != 0 {
		t.Error("a period too short to be put off")
	}
}

func TestVerifyPace(t *testing.T) {
	for _, c := range []struct {
		in   PaceInput
		rate int64
	}{
		{PaceInput{Fixed: 5 << 20, Disk: 100, Network: 1}, 5 << 20},
		{PaceInput{Temporary: 7, Disk: 100_000_000, Network: 10_000_000}, 30_000_000}, // 32 bytes of 4096 travel
		{PaceInput{Disk: 100_000_000, Network: 32_000}, 1_228_800},
		{PaceInput{}, 0},
	} {
		if got := VerifyPace(c.in, 32); got.Rate != c.rate {
			t.Errorf("%+v: %+v, want %d", c.in, got, c.rate)
		}
	}
}
