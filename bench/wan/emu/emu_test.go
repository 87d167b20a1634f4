package emu

import (
	"math"
	"strings"
	"testing"
	"time"
)

const packet = 1500

// offer sends n packets, gap apart, and returns the passages.
func offer(l *Line, n int, gap time.Duration) []Passage {
	all := make([]Passage, n)
	for i := range all {
		now := time.Duration(i) * gap
		all[i] = l.Pass(now, packet)
		if all[i].Fate == Passed { // this test cares for fates only: nothing stays on its way
			n := 1
			if all[i].Twice {
				n = 2
			}
			l.Arrive(n, int64(n*packet))
		}
	}
	return all
}

func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*math.Abs(want) {
		t.Errorf("%s is %v, want %v within %v %%", what, got, want, share*100)
	}
}

func TestZeroPassesAtOnce(t *testing.T) {
	for i, p := range offer(NewLine(Params{}, 1), 100, time.Microsecond) {
		if p != (Passage{At: time.Duration(i) * time.Microsecond}) {
			t.Fatalf("packet %d: %+v", i, p)
		}
	}
}

func TestDelayAndRate(t *testing.T) {
	const n = 10_000
	for _, rate := range []int64{1_000_000, 100_000_000, 1_000_000_000} {
		for _, delay := range []time.Duration{0, 5 * time.Millisecond, 150 * time.Millisecond} {
			l := NewLine(Params{Rate: rate, Delay: delay, Queue: MaxHeld}, 1)
			all := offer(l, n, 0) // all at once: they leave one behind the other
			one := time.Duration(packet * 8 * int64(time.Second) / rate)
			if got := all[0].At; got != delay+one {
				t.Errorf("%d bit/s, %v: the first one arrives at %v, want %v", rate, delay, got, delay+one)
			}
			near(t, "arrival of the last", (all[n-1].At - delay).Seconds(), float64(n*packet*8)/float64(rate), 0.001)
		}
	}
}

func TestQueueDropsTail(t *testing.T) {
	p := Params{Rate: 12_000_000, Queue: 10 * packet} // a packet takes a millisecond
	l := NewLine(p, 1)
	all := offer(l, 25, 0)
	for i, v := range all {
		want := Passed
		if i >= 10 {
			want = ByQueue
		}
		if v.Fate != want {
			t.Errorf("packet %d of a burst: fate %d, want %d", i, v.Fate, want)
		}
	}
	// At 5 ms five have left; five more find room.
	for i := range 7 {
		want := Passed
		if i >= 5 {
			want = ByQueue
		}
		if v := l.Pass(5*time.Millisecond, packet); v.Fate != want {
			t.Errorf("packet %d after 5 ms: fate %d, want %d", i, v.Fate, want)
		}
	}
	if c := l.Counters(); c.DroppedQueue != 17 || c.In != 32 {
		t.Errorf("counters %+v", c)
	}
	p.Queue = 0
	if got := p.Room(); got != minRoom {
		t.Errorf("a short line has room for %d bytes by itself", got)
	}
	p.Rate, p.Delay = 100_000_000, 25*time.Millisecond
	if got := p.Room(); got != 625_000 {
		t.Errorf("100 Mbit/s and 25 ms have room for %d bytes by themselves, want one round trip", got)
	}
}

// rows returns how many of all were lost, and the mean length of a row of losses.
func rows(all []Passage) (share, length float64) {
	lost, starts := 0, 0
	for i, v := range all {
		if v.Fate != ByLoss {
			continue
		}
		lost++
		if i == 0 || all[i-1].Fate != ByLoss {
			starts++
		}
	}
	return float64(lost) / float64(len(all)), float64(lost) / float64(max(starts, 1))
}

func TestLoss(t *testing.T) {
	const n = 700_000
	for _, c := range []struct {
		p             Params
		share, length float64
	}{
		{Params{Loss: 0.001}, 0.001, 1},
		{Params{Loss: 0.01}, 0.01, 1.01},
		{Params{Loss: 0.2}, 0.2, 1.25},
		{Params{Loss: 0.01, Burst: 8}, 0.01, 8},
		{Params{Loss: 0.02, Burst: 20}, 0.02, 20},
		{Params{Gilbert: Gilbert{Enter: 0.01, Leave: 0.25, LossGood: 0, LossBad: 0.5}}, 0.01 / 0.26 / 2, 1.6},
	} {
		share, length := rows(offer(NewLine(c.p, 7), n, 0))
		near(t, c.p.String()+": share", share, c.share, 0.05)
		near(t, c.p.String()+": length of a row", length, c.length, 0.05)
	}
}

func TestJitterKeepsOrderAndMean(t *testing.T) {
	const delay, gap = 25 * time.Millisecond, 400 * time.Microsecond
	for _, jitter := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond} {
		all := offer(NewLine(Params{Delay: delay, Jitter: jitter}, 3), 500_000, gap)
		var sum, least, most time.Duration
		least = time.Hour
		for i, v := range all {
			if i > 0 && v.At < all[i-1].At {
				t.Fatalf("jitter %v: packet %d overtakes", jitter, i)
			}
			d := v.At - time.Duration(i)*gap
			sum, least, most = sum+d, min(least, d), max(most, d)
		}
		near(t, "mean delay", (sum / time.Duration(len(all))).Seconds(), delay.Seconds(), 0.05)
		if least < delay-jitter || most > delay+jitter || most-least < jitter {
			t.Errorf("jitter %v: delays lie between %v and %v", jitter, least, most)
		}
	}
}

func TestReorderDuplicateCorrupt(t *testing.T) {
	const n = 200_000
	l := NewLine(Params{Delay: 10 * time.Millisecond, Reorder: 0.02, ReorderBy: time.Millisecond, Duplicate: 0.03, Corrupt: 0.04}, 5)
	var late, twice, corrupt float64
	for i, v := range offer(l, n, 10*time.Microsecond) {
		base := time.Duration(i)*10*time.Microsecond + 10*time.Millisecond
		if v.Late {
			late++
			base += time.Millisecond
		}
		if v.At != base {
			t.Fatalf("packet %d arrives at %v, want %v", i, v.At, base)
		}
		if v.Twice {
			twice++
		}
		if v.Corrupt {
			corrupt++
		}
	}
	near(t, "share held back", late/n, 0.02, 0.05)
	near(t, "share twice", twice/n, 0.03, 0.05)
	near(t, "share corrupted", corrupt/n, 0.04, 0.05)
	c := l.Counters()
	if c.Reordered != uint64(late) || c.Duplicated != uint64(twice) || c.Corrupted != uint64(corrupt) || c.Out != n+c.Duplicated {
		t.Errorf("counters %+v", c)
	}
}

func TestCutAndHeal(t *testing.T) {
	l := NewLine(Params{Delay: 10 * time.Millisecond, Rate: 12_000_000}, 1)
	for range 10 {
		l.Pass(0, packet)
	}
	l.Arrive(4, 4*packet)
	l.Cut()
	if l.Held() != 0 || !l.IsCut() {
		t.Errorf("a line that was cut holds %d bytes", l.Held())
	}
	if v := l.Pass(time.Millisecond, packet); v.Fate != ByCut {
		t.Errorf("a cut line passes %+v", v)
	}
	l.Heal()
	if v := l.Pass(2*time.Millisecond, packet); v.Fate != Passed || v.At != 13*time.Millisecond {
		t.Errorf("a healed line is not empty: %+v", v)
	}
	if c := l.Counters(); c.DroppedCut != 7 || c.Out != 4 || c.In != 12 {
		t.Errorf("counters %+v", c)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l := NewLine(Params{Delay: maxDelay}, 1)
	const size = 1 << 20
	for range 1000 {
		l.Pass(0, size)
	}
	if l.Held() > MaxHeld {
		t.Errorf("holds %d bytes", l.Held())
	}
	if c := l.Counters(); c.DroppedMemory == 0 {
		t.Errorf("counters %+v", c)
	}
}

func TestSetDoesNotOvertake(t *testing.T) {
	l := NewLine(Params{Delay: 100 * time.Millisecond}, 1)
	first := l.Pass(0, packet)
	l.Set(Params{Delay: time.Millisecond})
	if second := l.Pass(time.Millisecond, packet); second.At < first.At {
		t.Errorf("%v before %v", second.At, first.At)
	}
	if third := l.Pass(time.Second, packet); third.At != time.Second+time.Millisecond {
		t.Errorf("the new delay is not in force: %v", third.At)
	}
}

func TestTransitOrder(t *testing.T) {
	var tr Transit[int]
	at := []time.Duration{5, 1, 3, 3, 2, 3, 9, 0}
	for i, a := range at {
		tr.Push(a, i)
	}
	want := []int{7, 1, 4, 2, 3, 5, 0, 6}
	for _, w := range want {
		next, ok := tr.Next()
		if !ok || next != at[w] {
			t.Fatalf("next is %v, %v; want %v", next, ok, at[w])
		}
		if got := tr.Pop(); got != w {
			t.Fatalf("got %d, want %d", got, w)
		}
	}
	if _, ok := tr.Next(); ok || tr.Len() != 0 {
		t.Error("not empty")
	}
}

func TestSettings(t *testing.T) {
	var p Params
	if err := p.SetAll(Settings); err != nil {
		t.Fatal(err)
	}
	want := Params{Delay: 25 * time.Millisecond, Jitter: 2 * time.Millisecond, Rate: 100_000_000, Queue: 1_000_000, Loss: 0.01, Burst: 8,
		Gilbert: Gilbert{Enter: 0.002, Leave: 0.12, LossBad: 1}, Reorder: 0.01, ReorderBy: 5 * time.Millisecond,
		Duplicate: 0.01, Corrupt: 0.001, Forge: true}
	if p != want {
		t.Errorf("got %+v\nwant %+v", p, want)
	}
	for _, bad := range []string{"loss", "loss=x", "loss=101%", "loss=-1", "loss=NaN", "rate=fast", "rate=-1", "delay=-1ms", "delay=2h", "wire=3",
		"jitter=30ms", "burst=-1", "loss=90% burst=2", "ge=1,2", "ge=1%,0,0,1", "forge=maybe", "queue=9G"} {
		q := Params{Delay: 25 * time.Millisecond}
		before := q
		if err := q.SetAll(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
		if q != before {
			t.Errorf("%q changed something", bad)
		}
	}
}

func TestString(t *testing.T) {
	p := Params{Rate: 100_000_000, Delay: 25 * time.Millisecond, Loss: 0.01, Burst: 8, Corrupt: 0.001}
	got := p.String()
	for _, part := range []string{"100 Mbit/s", "25ms one way", "625 kB", "1 % lost in bursts of 8", "0.1 % corrupted"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
}
