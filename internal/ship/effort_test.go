package ship

import (
	"testing"
	"time"
)

func TestEffort(t *testing.T) {
	const s = time.Second
	load := func(busy, waited int, rtt time.Duration, backlog int64) Load {
		return Load{Span: 100 * s, Busy: time.Duration(busy) * s, Waited: time.Duration(waited) * s, RTT: rtt, Backlog: backlog}
	}
	sent := func(l Load, rate float64) Load {
		l.Sent = int64(rate * l.Span.Seconds())
		return l
	}
	lan, wan := 200*time.Microsecond, 50*time.Millisecond
	for _, c := range []struct {
		name string
		at   Effort
		load Load
		want Effort
	}{
		{"a near line that keeps up stays fast", EffortFast, load(5, 0, lan, 0), EffortFast},
		{"on a near line encoding takes too long", EffortFast, load(30, 0, lan, 0), EffortRaw},
		{"a near line is at rest again", EffortRaw, load(1, 0, lan, 0), EffortFast},
		{"a near line that is wide, though the peer is slow to take it", EffortFast, sent(load(10, 60, lan, 1<<30), 50e6), EffortFast},
		{"a near line that turns out wide", EffortMore, sent(load(10, 60, lan, 1<<30), 50e6), EffortReduce},
		{"a wide line is worth being fast", EffortRaw, sent(load(3, 60, lan, 1<<30), 50e6), EffortFast},
		{"a far line that is wide", EffortFast, sent(load(2, 60, wan, 1<<30), 50e6), EffortReduce},
		{"raw on a near line that is well used", EffortRaw, load(10, 0, lan, 0), EffortRaw},
		{"a near line that is narrow", EffortFast, load(10, 60, lan, 1<<30), EffortReduce},
		{"a near line that is wide again", EffortReduce, load(3, 0, lan, 0), EffortFast},
		{"a far line is spared", EffortFast, load(2, 0, wan, 0), EffortReduce},
		{"a far line is spared as far as it goes", EffortMore, load(4, 0, wan, 0), EffortMost},
		{"but not at any price", EffortMore, load(10, 0, wan, 0), EffortMore},
		{"a far line is scarce", EffortMore, load(20, 70, wan, 1<<30), EffortMost},
		{"a far line is scarce, and the processor too", EffortMore, load(45, 30, wan, 1<<30), EffortMore},
		{"a far line that is faster than the processor", EffortMore, load(90, 1, wan, 1<<30), EffortReduce},
		{"and that even raw", EffortFast, load(80, 0, wan, 1<<30), EffortRaw},
		{"busy without a backlog does no harm far off", EffortMore, load(60, 0, wan, 0), EffortMore},
		{"nothing was seen", EffortMore, Load{}, EffortMore},
		{"most is the end", EffortMost, load(5, 80, wan, 1<<30), EffortMost},
		{"raw is the end", EffortRaw, load(90, 0, lan, 1<<30), EffortRaw},
	} {
		tuner := Tuner{at: c.at, begun: true}
		if got := tuner.Next(c.load); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestEffortIsNotTriedAgainAtOnce(t *testing.T) {
	tuner := Tuner{at: EffortMore, begun: true}
	tooSlow := Load{Span: time.Second, Busy: 900 * time.Millisecond, RTT: time.Second, Backlog: 1 << 30}
	scarce := Load{Span: time.Second, Busy: time.Millisecond, Waited: 900 * time.Millisecond, RTT: time.Second, Backlog: 1 << 30}
	for _, want := range []int{firstPatience, 2 * firstPatience, 4 * firstPatience} {
		if got := tuner.Next(tooSlow); got != EffortReduce {
			t.Fatalf("too slow: %v", got)
		}
		looks := 1
		for tuner.Next(scarce) == EffortReduce && looks < 1000 {
			looks++
		}
		if looks != want {
			t.Errorf("tried again after %d looks, want %d", looks, want)
		}
	}
}

func TestEffortLimits(t *testing.T) {
	var tuner Tuner
	if got := tuner.Effort(); got != EffortFast {
		t.Errorf("starts with %v", got)
	}
	tuner.Limit(EffortRaw, EffortRaw)
	scarce := Load{Span: time.Second, Waited: time.Second, RTT: time.Second}
	if got := tuner.Next(scarce); got != EffortRaw || tuner.Effort() != EffortRaw {
		t.Errorf("limited to raw: %v", got)
	}
	tuner.Limit(EffortReduce, EffortMost)
	for range 5 {
		tuner.Next(scarce)
	}
	if got := tuner.Effort(); got != EffortMost {
		t.Errorf("limited from below: %v", got)
	}
}
