package verify

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

func TestMain(m *testing.M) {
	tun.Main() // the process that is the line
	os.Exit(m.Run())
}

// overLine is a pair in two network namespaces, with a line of 100 Mbit/s and 50 ms round trip between them, and a volume of data
// that does not compress, equal on both sides.
func overLine(ctx context.Context, t *testing.T, size int64, net ...string) *pair.Pair {
	t.Helper()
	if err := tun.Available(); err != nil {
		t.Skipf("no line between namespaces: %v", err)
	}
	link := emu.Params{Rate: lineRate * 8, Delay: 25 * time.Millisecond}
	line, err := tun.Start(tun.Config{Link: [2]emu.Params{link, link}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := line.Close(); err != nil {
			t.Error(err)
		}
	})
	o := pair.Options{Sizes: []int64{size}, Protocol: "A", Net: append(pair.QuickTiming(), net...)}
	o.Over(line)
	p := pairtest.New(t, o)
	for _, n := range p.Nodes {
		scatter(t, n.Backing(0), size, size)
	}
	if err := p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"create-md", "up"} {
		for _, n := range p.Nodes {
			args := []string{}
			if verb == "create-md" {
				args = append(args, "--assume-clean")
			}
			do(ctx, t, n, verb, args...)
		}
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Node("alice").Promote(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

const lineRate = 100_000_000 / 8 // bytes a second

// lagOf is how far the peer is behind.
func lagOf(t *testing.T, s pair.Status) time.Duration {
	var all []struct {
		Connections []struct {
			Ours struct {
				Lag float64 `json:"lag-ms"`
			} `json:"drship"`
		} `json:"connections"`
	}
	if err := json.Unmarshal([]byte(s.String()), &all); err != nil {
		t.Fatal(err)
	}
	return time.Duration(all[0].Connections[0].Ours.Lag * float64(time.Millisecond))
}

// lagFor is the mean lag over a time of small writes.
func lagFor(ctx context.Context, t *testing.T, n *pair.Node, lasting time.Duration) time.Duration {
	t.Helper()
	var sum time.Duration
	samples := 0
	for end := time.Now().Add(lasting); time.Now().Before(end); samples++ {
		s, err := n.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		sum += lagOf(t, s)
	}
	return sum / time.Duration(samples)
}

// smallWrites writes a block every 5 ms or so, until stop.
func smallWrites(ctx context.Context, t *testing.T, n *pair.Node, size int64) (stop func()) {
	t.Helper()
	v, err := n.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		defer v.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		buf := make([]byte, 4096)
		for ctx.Err() == nil {
			fillRandom(buf, byte(rng.Uint32()))
			if err := v.WriteAt(context.WithoutCancel(ctx), buf, rng.Int64N(size/4096)*4096, false); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-time.After(time.Duration(rng.ExpFloat64() * float64(5*time.Millisecond))):
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); work.Wait() }
}

// A resync over a shaped line takes 30 % of it, foretells its end, and costs writers little. What is exact in virtual time (sender
// TestTheEndIsForetold, bench/sim TestLagBesideAResync) is only looked at broadly here: a busy machine carries less than its line.
func TestResyncOverALine(t *testing.T) {
	ctx := pairtest.Real(t)
	const volume = 48 << 20
	p := overLine(ctx, t, volume)
	alice := p.Node("alice")
	stop := smallWrites(ctx, t, alice, volume)
	defer stop()
	before := lagFor(ctx, t, alice, 6*time.Second)
	begin := time.Now()
	do(ctx, t, p.Node("bob"), "invalidate")
	if _, err := alice.Wait(ctx, "a pace that is measured", func(s pair.Status) bool {
		return s.Replication() == "SyncSource" && strings.Contains(paceOf(t, s).Why, "network")
	}); err != nil {
		t.Fatal(err)
	}
	beside := lagFor(ctx, t, alice, 6*time.Second)
	type guess struct{ at, eta time.Duration }
	var guesses []guess
	var middle pace
	if _, err := alice.Wait(ctx, "the end", func(s pair.Status) bool {
		if g := paceOf(t, s); g.ETA > 0 && s.Replication() == "SyncSource" {
			guesses = append(guesses, guess{time.Since(begin), time.Duration(g.ETA) * time.Millisecond})
			if len(guesses) == 20 {
				middle = g
			}
		}
		return s.InSync()
	}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	wrong := 0
	for _, g := range guesses {
		if rest := took - g.at; g.at > took/10 && (g.eta < rest*7/10-time.Second || g.eta > rest*13/10+time.Second) {
			wrong++
		}
	}
	t.Logf("lag %v, beside the resync %v; %+v; %v for %d MiB; %d of %d guesses of its end were wrong by more than 30 %%",
		before, beside, middle, took, volume>>20, wrong, len(guesses))
	if middle.Want < lineRate*30/100*7/10 || middle.Want > lineRate*30/100*12/10 {
		t.Errorf("30 %% of a line of %d bytes a second: %+v", lineRate, middle)
	}
	if beside > before*3/2+10*time.Millisecond {
		t.Errorf("lag grew from %v to %v", before, beside)
	}
	if wrong*5 > len(guesses) {
		t.Errorf("%d of %d guesses of the end were wrong", wrong, len(guesses))
	}
}
