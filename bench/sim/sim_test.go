package sim

import (
	"bytes"
	"flag"
	"sync"
	"testing"
	"testing/synctest"
)

var (
	seeds = flag.Int("seeds", 60, "how many seeds to run; a tenth of it with -short")
	first = flag.Uint64("seed", 1, "the first seed")
	keep  = flag.Bool("log", false, "print the nodes' logs of every run")
	edits = flag.String("edits", "", "make the plan of every seed simpler: what a run with -shrink has printed")
	small = flag.Int("shrink", 0, "try so many times to make the plan of a failing seed simpler")
)

// lockedBuffer takes the logs of all nodes of a run.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSimulation runs whole pairs through what their seeds stand for.
func TestSimulation(t *testing.T) {
	n := uint64(*seeds)
	if testing.Short() {
		n = (n + 9) / 10
	}
	simpler, err := parseEdits(*edits)
	if err != nil {
		t.Fatal(err)
	}
	met := newAtlas()
	for seed := *first; seed < *first+n; seed++ {
		p := draw(seed)
		var log lockedBuffer
		err := simulateIn(t, p.edited(simpler), &log, met)
		if *keep {
			t.Logf("seed %d:\n%s", seed, log.String())
		}
		if err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run Simulation -seed %d -seeds 1 -log -edits '%s'", seed, err, seed, *edits)
			less := shrink(p, simpler, *small, func(p plan) bool { return simulateIn(t, p, new(lockedBuffer), newAtlas()) != nil })
			if len(less) > len(simpler) {
				t.Logf("fails as well with -edits '%s': %v", formatEdits(less), p.edited(less).moments)
			}
			return
		}
	}
	t.Logf("%d seeds met %v", n, met)
}

// simulateIn runs a plan in a bubble of its own.
func simulateIn(t *testing.T, p plan, log *lockedBuffer, met *atlas) (err error) {
	dir := t.TempDir()
	synctest.Test(t, func(*testing.T) { err = simulate(p, dir, log, met) })
	return err
}

// TestThreeNodes runs one Primary with a near and a far peer through what their seeds stand for.
func TestThreeNodes(t *testing.T) {
	n := uint64(*seeds)
	if testing.Short() {
		n = (n + 9) / 10
	}
	met := newAtlas()
	for seed := *first; seed < *first+n; seed++ {
		p := drawTrio(seed)
		var log lockedBuffer
		dir := t.TempDir()
		var err error
		synctest.Test(t, func(*testing.T) { err = simulateTrio(p, dir, &log, met) })
		if *keep {
			t.Logf("seed %d:\n%s", seed, log.String())
		}
		if err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run ThreeNodes -seed %d -seeds 1 -log", seed, err, seed)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds met %v", n, met)
}
