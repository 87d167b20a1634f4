package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"drship/bench/wan/emu"
)

// fault of a round.
type fault int

const (
	kill         fault = iota // kill -9 of the primary's daemon
	freeze                    // SIGSTOP of the primary's daemon; it is killed, or goes on when the other has taken over
	cut                       // the line is cut; the primary goes on alone until its clients leave
	catchUp                   // the line is cut and healed; the primary is killed while the replica catches up
	full                      // the file system under the primary's state directory is full for a while, then kill -9
	powerPrimary              // the primary loses power
	powerReturn               // the primary loses power and comes back as primary
	powerBoth                 // both lose power; the replica alone comes back
	powerPeer                 // the replica loses power and comes back; then the primary does
	faultKinds
)

var faultNames = [faultKinds]string{"kill", "freeze", "cut", "catch-up", "full", "power", "power-return", "power-both", "power-peer"}

func (f fault) String() string { return faultNames[f] }

// plan of one round, drawn by the run's seed.
type plan struct {
	fault fault
	load  time.Duration // under load before the fault
	gap   time.Duration // between two parts of a fault
	again bool          // who comes back from a loss of power loses it once more while it recovers
	wait  bool          // freeze: the daemon goes on later. powerPeer, catchUp: wait for UpToDate before the second part
}

// draw makes a plan; name, where it is one, settles the fault.
func draw(rng *rand.Rand, name string) plan {
	p := plan{
		fault: fault(rng.IntN(int(faultKinds))),
		load:  time.Duration(1000+rng.IntN(2500)) * time.Millisecond,
		gap:   time.Duration(rng.IntN(1500)) * time.Millisecond,
		again: rng.IntN(4) == 0,
		wait:  rng.IntN(2) == 0,
	}
	if i := slices.Index(faultNames[:], name); i >= 0 {
		p.fault = fault(i)
	}
	return p
}

func (p plan) String() string {
	variant := ""
	switch {
	case p.fault == freeze && p.wait:
		variant = ", goes on later"
	case (p.fault == powerPeer || p.fault == catchUp) && p.wait:
		variant = ", UpToDate in between"
	}
	if p.again && p.fault >= powerPrimary {
		variant += ", and again in recovery"
	}
	return fmt.Sprintf("%v after %v, gap %v%s", p.fault, p.load, p.gap, variant)
}

// drawLine draws how the line between the two treats packets, each way.
func drawLine(rng *rand.Rand) emu.Params {
	return emu.Params{
		Delay: []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond}[rng.IntN(4)],
		Rate:  []int64{0, 200e6, 50e6}[rng.IntN(3)],
		Loss:  []float64{0, 0.002, 0.01}[rng.IntN(3)],
	}
}
