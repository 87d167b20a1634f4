package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

func TestMain(m *testing.M) {
	tun.Main()
	os.Exit(m.Run())
}

func TestParseCells(t *testing.T) {
	all, err := parseCells("100M+10M/50ms/0+1%x8,1G/100ms/0.1%")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range all {
		got = append(got, c.title()+": "+c.loss)
	}
	want := []string{"100 Mbit/s, 50ms round trip: 0", "100 Mbit/s, 50ms round trip: 1% in bursts of 8", "10 Mbit/s, 50ms round trip: 0",
		"10 Mbit/s, 50ms round trip: 1% in bursts of 8", "1 Gbit/s, 100ms round trip: 0.1%"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if p := all[1].link; p != (emu.Params{Rate: 100_000_000, Delay: 25 * time.Millisecond, Loss: 0.01, Burst: 8}) {
		t.Errorf("got %+v", p)
	}
	if none, err := parseCells(""); err != nil || len(none) != 0 {
		t.Errorf("nothing: %v, %v", none, err)
	}
	for _, bad := range []string{"100M", "100M/50ms", "0/50ms/0", "fast/50ms/0", "100M/-1s/0", "100M/50ms/200%", "100M/50ms/1%xx"} {
		if _, err := parseCells(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseScript(t *testing.T) {
	steps, err := parseScript("8s heal; 5s cut ab;; 20s set ba loss=2% rate=5M")
	if err != nil {
		t.Fatal(err)
	}
	want := []step{{5 * time.Second, "cut ab"}, {8 * time.Second, "heal"}, {20 * time.Second, "set ba loss=2% rate=5M"}}
	if !slices.Equal(steps, want) {
		t.Errorf("got %v", steps)
	}
	for _, bad := range []string{"cut", "5s", "5s break", "5s set", "5s cut now", "-1s cut"} {
		if got, err := parseScript(bad); err == nil && !(bad == "5s" && len(got) == 1) { // without a command it shows
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestMeter stages batches at a known rate, some of them late, and looks at a peer that has had no batch yet.
func TestMeter(t *testing.T) {
	const batch, every = 1_000_000, 700 * time.Millisecond // 11.4 Mbit/s
	const want = float64(batch) * 8 / 0.7
	begin := time.Unix(0, 0)
	for _, c := range []struct {
		span time.Duration
		late func(i int64) time.Duration
	}{
		{8 * time.Second, func(int64) time.Duration { return 0 }},
		{8 * time.Second, func(i int64) time.Duration { return time.Duration(i%3) * 300 * time.Millisecond }}, // three at once
		{3 * time.Second, func(int64) time.Duration { return 0 }},
	} {
		m := meter{begin: begin}
		for since := time.Duration(0); since < c.span; since += watchPause {
			n := int64(since / every)
			for n > 0 && time.Duration(n)*every+c.late(n) > since {
				n--
			}
			m.sample(begin.Add(since), n*batch, since.Milliseconds()%3)
		}
		if got := m.rate(begin.Add(c.span), 0); got < 0.95*want || got > 1.05*want {
			t.Errorf("%v: %.0f bit/s in %d steps, want %.0f", c.span, got, m.steps, want)
		}
	}
	m := meter{begin: begin, arrived: 500}
	m.sample(begin, 0, 0)
	if got := m.rate(begin.Add(2*time.Second), 1500); got != 4000 {
		t.Errorf("without a batch: %v bit/s", got)
	}
}

func TestParseInterval(t *testing.T) {
	from, bits, ok := parseInterval("[  5]   4.00-5.01   sec  11.2 MBytes  94117 Kbits/sec                  ")
	if !ok || from != 4*time.Second || bits != 94_117_000 {
		t.Errorf("got %v, %v, %v", from, bits, ok)
	}
	for _, other := range []string{"", "-----", "[ ID] Interval           Transfer     Bitrate", "[  5] local 10.77.0.2 port 5201 connected to 10.77.0.1 port 39"} {
		if from, bits, ok := parseInterval(other); ok {
			t.Errorf("%q is taken for %v, %v", other, from, bits)
		}
	}
}

// samples are counters of a line that carries 8 kbit/s from silent on.
func samples(silent, span time.Duration) (all []tun.Counters) {
	for at := time.Duration(0); at <= span; at += cutSamples {
		c := tun.Counters{At: time.Hour + at}
		c.OutBytes = 500 + uint64(max(0, at-silent).Seconds()*1000)
		all = append(all, c)
	}
	return all
}

func TestRecoveryOfRates(t *testing.T) {
	all := samples(time.Second, 5*time.Second)
	if got := mean(all, 2*time.Second, 4*time.Second); got != 8000 {
		t.Errorf("mean is %v", got)
	}
	if got, ok := reaches(all, 7000); !ok || got < 1400*time.Millisecond || got > 1600*time.Millisecond {
		t.Errorf("reaches it at %v, %v", got, ok)
	}
	if got, ok := reaches(all, 9000); ok {
		t.Errorf("reaches what it never had at %v", got)
	}
}

func TestTable(t *testing.T) {
	tb := table{head: []string{"goodput", "0", "1 %"}}
	tb.add("QUIC × 1", "95", "4.0")
	var b bytes.Buffer
	tb.print(&b)
	if want := "| goodput  |  0 | 1 % |\n|----------|---:|----:|\n| QUIC × 1 | 95 | 4.0 |\n\n"; b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first\n", "second\n"} {
		if err := keep(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before\n\n" + reportBegin + text + reportEnd; string(got) != want {
			t.Errorf("got %q", got)
		}
	}
}

// TestLineOverCommand runs the verb line as a user does: a command inside, with a script beside it.
func TestLineOverCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("makes real network namespaces: not in a -short run (see make proofs)")
	}
	if err := tun.Available(); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	const command = `($A ip -o address; $B ip -o address; echo $ADDR_A $ADDR_B) >"$0"`
	if err := runLine(t.Context(), []string{"-both", "rtt=10ms", "-script", "0s set ab loss=3%", "--", "sh", "-c", command, out}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"10.77.0.1/24", "10.77.0.2/24", "fd77::1/64", "fd77::2/64", "10.77.0.1 10.77.0.2"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}
