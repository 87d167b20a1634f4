package sender

import (
	"context"
	"fmt"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/wan/frame"
)

// Where a resource has several peers.

// Tell has the target told m before any batch with a write that is submitted from now on; it takes the place of what it was to be
// told before. m is the stream's from now on. It never waits.
func (s *Stream) Tell(m *frame.Peers) {
	s.news.Store(m)
	s.peer.wake()
}

// tell sends what Tell left.
func (s *Stream) tell(ctx context.Context) error {
	m := s.news.Swap(nil)
	if m == nil {
		return nil
	}
	if err := s.cfg.Link.Send(ctx, m); err != nil {
		return fmt.Errorf("tell %s of the other peers: %w", s.peer.name, err)
	}
	return nil
}

// InStep returns the position up to which the peer has staged everything, and whether nothing else is known to differ: it is tracked by
// journal, no bit is set against it and no resync runs.
func (p *Peer) InStep() (block.Seq, bool) {
	p.mu.Lock()
	ok := p.stream != nil && p.stream.resync == nil && p.stream.repair == nil && p.stream.Mode() == frame.ModeJournal
	staged := p.marks.Staged
	p.mu.Unlock()
	return staged, ok && p.ByJournal() && p.OutOfSync() == 0
}

// Rebase makes pos the end of the write order, where this side stands by what it received: its own journal, which is empty, goes on from
// there, and a peer at the same position needs nothing. No request may be inside, and no stream may run. A position before the end is left
// alone: positions never go back.
func (g *Group) Rebase(pos block.Seq) error {
	g.order.Lock()
	defer g.order.Unlock()
	if !g.log.End().Less(pos) || g.log.Start() != g.log.End() {
		return nil
	}
	if err := g.log.Reset(pos); err != nil {
		return fmt.Errorf("take over the position %v: %w", pos, err)
	}
	g.last, g.start = pos, pos
	g.found.Store(&pos)
	for _, p := range g.peers {
		p.mu.Lock()
		p.marks = ship.Start(pos, pos, pos)
		p.mu.Unlock()
	}
	return nil
}

// Forget frees the journal of a peer that will not come back: the group knows it no longer. No stream may run.
func (p *Peer) Forget() error {
	g := p.group
	g.order.Lock()
	if p.tracking == byJournal && !p.forgotten.Load() {
		p.tracking = byBitmap
		g.journaling--
	}
	p.converted = nil
	p.forgotten.Store(true)
	g.order.Unlock()
	return g.trim()
}
