package sender

import (
	"context"
	"errors"
	"time"

	"drship/internal/block"
	"drship/journal"
)

// fallBehindLocked stops journaling for the peers that fill the journal: those that have more than half of it before
// them, or all if none has. Called with order held.
func (g *Group) fallBehindLocked() {
	half := g.limit / 2
	lags := func(p *Peer) bool {
		p.mu.Lock()
		applied := p.marks.Applied
		p.mu.Unlock()
		_, bytes, _ := g.log.Backlog(applied)
		return bytes > half
	}
	if g.untrackLocked(lags) == 0 {
		g.untrackLocked(func(*Peer) bool { return true })
	}
}

// untrackLocked moves the chosen peers from journal to bitmap and starts the conversion of what the journal holds for
// them. Called with order held.
func (g *Group) untrackLocked(chosen func(*Peer) bool) int {
	n := 0
	for _, p := range g.peers {
		if p.tracking != byJournal || !chosen(p) {
			continue
		}
		n++
		p.tracking, p.since = byBitmap, g.clock.now()
		p.converted = make(chan struct{})
		p.protocol.Store(0) // nobody waits for this peer until it is tracked by journal again
		g.journaling--
		g.counters.JournalFull.Add(1)
		g.converters.Add(1)
		go p.convert(g.last, p.converted)
	}
	return n
}

// convert turns the peer's part of the journal, up to end, into bits; then the journal may forget it.
func (p *Peer) convert(end block.Seq, done chan struct{}) {
	g := p.group
	defer g.converters.Done()
	if err := p.convertTo(end); err != nil {
		// The journal cannot be read: everything may differ.
		g.logger.Error("journal is lost for a peer; all blocks count as out of sync", "peer", p.name, "err", err)
		for _, b := range p.bitmaps {
			b.SetAll()
		}
	}
	if err := p.FlushBitmaps(); err != nil && !errors.Is(err, journal.ErrFailed) {
		g.logger.Error("bitmap is not durable", "peer", p.name, "err", err)
	}
	p.mu.Lock()
	p.releaseLocked()
	p.mu.Unlock()
	close(done)
	g.hooks.JournalFull(p.name)
	if err := g.trim(); err != nil {
		g.logger.Error("journal keeps what it no longer needs", "err", err)
	}
	p.wake()
}

func (p *Peer) convertTo(end block.Seq) error {
	g := p.group
	if err := g.log.Commit(end, false); err != nil {
		return err
	}
	p.mu.Lock()
	applied := p.marks.Applied
	p.mu.Unlock()
	if !g.log.Covers(applied) {
		applied = g.log.Start()
	}
	return g.log.Ranges(applied, func(vol uint16, r block.Range) error {
		if b := p.Bitmap(vol); b != nil {
			b.Set(r)
		}
		return nil
	})
}

// journalLost is called where a record that was submitted could not be committed. All peers go to their bitmaps, and
// so does the range, whose record the conversion cannot find any more.
func (g *Group) journalLost(err error, v *Volume, r block.Range) {
	g.order.Lock()
	n := g.untrackLocked(func(*Peer) bool { return true })
	for _, p := range g.peers {
		p.bitmaps[v.index].Set(r)
	}
	g.order.Unlock()
	if n > 0 {
		g.logger.Error("journal failed; tracking all peers by bitmap", "err", err)
	}
}

// conversionDone is called with order held.
func (p *Peer) conversionDone() bool {
	if p.converted == nil {
		return true
	}
	select {
	case <-p.converted:
		return true
	default:
		return false
	}
}

func (p *Peer) awaitConversion(ctx context.Context) error {
	p.group.order.Lock()
	done := p.converted
	p.group.order.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// track makes the journal responsible for the peer from now on and returns the position from which it is. Covered
// says that this is the peer's own position, with everything behind it in the journal.
func (p *Peer) track(position block.Seq) (from block.Seq, covered bool) {
	g := p.group
	g.order.Lock()
	defer g.order.Unlock()
	p.endChaseLocked()
	p.mu.Lock()
	p.congestion.Reset(time.Now())
	p.mu.Unlock()
	if p.tracking == byBitmap && g.store.Failed() == nil {
		p.tracking = byJournal
		g.journaling++
		return g.last, g.last == position
	}
	if g.log.Covers(position) {
		return position, true
	}
	if position.Epoch == g.last.Epoch && g.last.Less(position) && g.partial() {
		// A crash lost the end of the journal. The peer has it, and all before; what the disk here lacks would go back there with older records.
		return g.last, false
	}
	return g.log.Start(), false
}
