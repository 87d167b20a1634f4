package sim

import (
	"bytes"
	"flag"
	"testing"
	"testing/synctest"
)

var (
	seeds = flag.Int("seeds", 40, "how many seeds to run; a quarter of it with -short")
	first = flag.Uint64("seed", 1, "the first seed")
	keep  = flag.Bool("log", false, "print the nodes' logs of every run")
)

// TestSimulation runs whole pairs through what their seeds stand for.
func TestSimulation(t *testing.T) {
	n := uint64(*seeds)
	if testing.Short() {
		n = (n + 3) / 4
	}
	for seed := *first; seed < *first+n; seed++ {
		p := draw(seed)
		var log bytes.Buffer
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			if err := simulate(p, dir, &log); err != nil {
				t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run Simulation -seed %d -seeds 1 -log", seed, err, seed)
			}
		})
		if *keep {
			t.Logf("seed %d:\n%s", seed, log.String())
		}
		if t.Failed() {
			return
		}
	}
}
