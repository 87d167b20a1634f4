package sender

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate admits requests to a resource: it counts those inside, can hold new ones back (suspended I/O) and can be shut
// (no longer Primary).
type gate struct {
	mu     sync.Mutex
	open   bool
	held   chan struct{} // not nil while suspended; closed by resume
	frozen atomic.Bool   // while suspended: those inside wait, too, before they are answered
	inside int
	idle   chan struct{} // not nil while someone waits for the last request to leave
}

func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	for g.open && g.held != nil {
		held := g.held
		g.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.mu.Lock()
	}
	if !g.open {
		g.mu.Unlock()
		return ErrNotPrimary
	}
	g.inside++
	g.mu.Unlock()
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	g.inside--
	if g.inside == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
	g.mu.Unlock()
}

func (g *gate) setOpen(open bool) {
	g.mu.Lock()
	g.open = open
	if !open {
		g.releaseLocked()
	}
	g.mu.Unlock()
}

func (g *gate) suspend() {
	g.mu.Lock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
	g.mu.Unlock()
}

// freeze is suspend for those inside as well: none of them is answered before resume.
func (g *gate) freeze() {
	g.frozen.Store(true)
	g.suspend()
}

// thawed returns at once unless the gate is frozen; again says that it had to wait. When the gate was shut meanwhile it is an error: what
// waited for is not known.
func (g *gate) thawed(ctx context.Context) (again bool, err error) {
	if !g.frozen.Load() {
		return false, nil
	}
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return false, ErrNotPrimary
	}
	return true, nil
}

func (g *gate) resume() {
	g.mu.Lock()
	g.releaseLocked()
	g.mu.Unlock()
}

func (g *gate) releaseLocked() {
	g.frozen.Store(false)
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}

func (g *gate) suspended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held != nil
}

// drained returns when no request is inside. Call it after setOpen(false) or suspend, else it may never come.
func (g *gate) drained(ctx context.Context) error {
	g.mu.Lock()
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}
