package journal

import (
	"sync"
	"sync/atomic"
)

const gateClosed = int64(1) << 62

// gate lets calls in until it is shut, and lets whoever shut it wait for those inside. Calls may nest.
type gate struct {
	state atomic.Int64 // calls inside, plus gateClosed once shut
	once  sync.Once
	idle  chan struct{} // closed once shut and empty
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

// enter reports whether the gate is open; if so the caller leaves it again.
func (g *gate) enter() bool {
	if g.state.Add(1)&gateClosed != 0 {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateClosed {
		g.once.Do(func() { close(g.idle) })
	}
}

// shut refuses new calls; it reports whether this call was the one that shut the gate.
func (g *gate) shut() bool {
	old := g.state.Or(gateClosed)
	if old == 0 {
		g.once.Do(func() { close(g.idle) })
	}
	return old&gateClosed == 0
}

// wait returns when the gate is shut and nobody is inside.
func (g *gate) wait() { <-g.idle }
