package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// victim of a moment.
type victim int

const (
	killPrimary victim = iota
	killSecondary
	killBoth
)

// sequel of a moment: who takes over.
type sequel int

const (
	takeOver    sequel = iota // the secondary is promoted, the old primary returns as its target
	comeBack                  // the primary returns and stays the source
	secondFirst               // both died: the secondary alone is started and promoted, the old primary returns later
)

// plan of one moment, drawn by the run's seed.
type plan struct {
	victim victim
	sequel sequel
	load   time.Duration // under load before the kill
	gap    time.Duration // between two kills, and before a dead secondary is started again
	again  bool          // who returns is killed once more while it recovers
	settle time.Duration // from that start to that kill
}

func draw(rng *rand.Rand) plan {
	p := plan{
		load:   time.Duration(20+rng.IntN(900)) * time.Millisecond,
		gap:    time.Duration(rng.IntN(60)) * time.Millisecond,
		again:  rng.Float64() < 0.25,
		settle: time.Duration(rng.IntN(400)) * time.Millisecond,
	}
	switch x := rng.Float64(); {
	case x < 0.45:
		p.victim = killPrimary
		p.sequel = sequel(rng.IntN(2))
	case x < 0.70:
		p.victim = killSecondary
		p.sequel = comeBack
	default:
		p.victim = killBoth
		p.sequel = comeBack + sequel(rng.IntN(2))
	}
	return p
}

func (p plan) String() string {
	who := [...]string{"kill primary", "kill secondary", "kill both"}[p.victim]
	then := [...]string{"secondary takes over", "primary stays the source", "secondary takes over alone"}[p.sequel]
	again := ""
	if p.again {
		again = fmt.Sprintf(", killed again %v into its recovery", p.settle)
	}
	return fmt.Sprintf("%s after %v, %s%s", who, p.load, then, again)
}
