package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"drship/bench/device"
	"drship/bench/pair/pairtest"
	"drship/bench/wan/tun"
)

// rounds of the test, each with a pair of its own.
var rounds = flag.Int("rounds", 3, "faults to go through")

func TestMain(m *testing.M) {
	tun.Main()
	os.Exit(m.Run())
}

// short are the rounds of the test command, the first three of them unless it is told otherwise.
var short = []settings{
	{protocol: "C", fault: "power-both"},
	{protocol: "A", fault: "power-return"},
	{protocol: "B", fault: "catch-up"},
	{protocol: "C", fault: "power"},
	{protocol: "C", fault: "full"},
	{protocol: "C", fault: "cut"},
	{protocol: "A", fault: "freeze"},
	{protocol: "C", fault: "power-peer"},
	{protocol: "A", fault: "kill"},
}

// TestReal is the short form of make real.
func TestReal(t *testing.T) {
	ctx := pairtest.Real(t)
	bin, err := findPostgres()
	if err := errors.Join(err, device.Available(), tun.Available()); err != nil {
		t.Skip(err) // make deps has installed what could be
	}
	t.Logf("PostgreSQL in %s", bin)
	for i, s := range short[:min(*rounds, len(short))] {
		t.Run(fmt.Sprintf("%s under %s", s.fault, s.protocol), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "drship-real-")
			if err != nil {
				t.Fatal(err)
			}
			s.rounds, s.seed, s.dir, s.out, s.verbose = 1, uint64(40+i), dir, t.Output(), true
			if err := s.run(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}
