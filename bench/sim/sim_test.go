package sim

import (
	"bytes"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var (
	seeds  = flag.Int("seeds", 300, "how many seeds to run; with -short a thirtieth of it")
	first  = flag.Uint64("seed", 1, "the first seed")
	keep   = flag.Bool("log", false, "print the nodes' logs of every run")
	edits  = flag.String("edits", "", "make the plan of every seed simpler: what a run with -shrink has printed")
	states = flag.String("states", "", "a file that gets, behind what it has, which states were met and which changes between them")
	small  = flag.Int("shrink", 0, "try so many times to make the plan of a failing seed simpler")
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
	simpler, err := parseEdits(*edits)
	if err != nil {
		t.Fatal(err)
	}
	everySeed(t, 1, func(t *testing.T, seed uint64, log *lockedBuffer, met *atlas) bool {
		p := draw(seed)
		err := simulateIn(t, p.edited(simpler), log, met)
		if err == nil {
			return true
		}
		t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run Simulation -seed %d -seeds 1 -log -edits '%s'", seed, err, seed, *edits)
		less := shrink(p, simpler, *small, func(p plan) bool { return simulateIn(t, p, new(lockedBuffer), newAtlas()) != nil })
		if len(less) > len(simpler) {
			t.Logf("fails as well with -edits '%s': %v", formatEdits(less), p.edited(less).moments)
		}
		return false
	})
}

// simulateIn runs a plan in a bubble of its own.
func simulateIn(t *testing.T, p plan, log *lockedBuffer, met *atlas) (err error) {
	dir := t.TempDir()
	synctest.Test(t, func(*testing.T) { err = simulate(p, dir, log, met) })
	return err
}

// TestThreeNodes runs one Primary with a near and a far peer through what their seeds stand for.
func TestThreeNodes(t *testing.T) {
	everySeed(t, 5, func(t *testing.T, seed uint64, log *lockedBuffer, met *atlas) bool {
		p := drawTrio(seed)
		dir := t.TempDir()
		var err error
		synctest.Test(t, func(*testing.T) { err = simulateTrio(p, dir, log, met) })
		if err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run ThreeNodes -seed %d -seeds 1 -log", seed, err, seed)
		}
		return err == nil
	})
}

// everySeed runs one of so many seeds asked for, on all processors, until one fails.
func everySeed(t *testing.T, of uint64, run func(t *testing.T, seed uint64, log *lockedBuffer, met *atlas) bool) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // runs are short and make much that is soon dropped
	n := (uint64(*seeds) + of - 1) / of
	if testing.Short() {
		n = (n + 29) / 30
	}
	var mu sync.Mutex
	all := newAtlas()
	var ran atomic.Uint64
	var failed atomic.Bool // one is enough
	one := func(t *testing.T, seed uint64) {
		var log lockedBuffer
		met := newAtlas()
		if !run(t, seed, &log, met) {
			failed.Store(true)
		}
		if *keep {
			t.Logf("seed %d:\n%s", seed, log.String())
		}
		mu.Lock()
		defer mu.Unlock()
		all.add(met)
	}
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for at := ran.Add(1); at <= n && !failed.Load(); at = ran.Add(1) {
					one(t, *first+at-1)
				}
			})
		}
	})
	if err := all.write(*states, fmt.Sprintf("%s: %d seeds", t.Name(), n)); err != nil {
		t.Error(err)
	}
}
