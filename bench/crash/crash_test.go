package main

import (
	"flag"
	"os"
	"testing"

	"drship/bench/pair/pairtest"
)

var moments = flag.Int("moments", 15, "crashes to go through")

// TestCrash is the short form of make crash: three pairs, one for each protocol, five moments each.
func TestCrash(t *testing.T) {
	ctx := pairtest.Real(t)
	var seed uint64 = 20
	for _, protocol := range []string{"A", "B", "C"} {
		t.Run(protocol, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "drship-crash-")
			if err != nil {
				t.Fatal(err)
			}
			s := settings{moments: *moments / 3, seed: seed, protocol: protocol, dir: dir, out: t.Output()}
			if err := s.run(ctx); err != nil {
				t.Fatal(err)
			}
		})
		seed += 100
	}
}
