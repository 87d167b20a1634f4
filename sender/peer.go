package sender

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/journal"
)

// tracking says where a peer's missing writes are found.
type tracking int

const (
	byJournal tracking = iota // in the journal, behind its applied mark; and what its bitmap holds beside
	byBitmap                  // in its bitmap alone: the journal was given up for it
)

// Peer is what the sender knows of one peer, connected or not.
//
//	            journal full                     drained, or connected again
//	byJournal ───────────────> byBitmap(converting) ──> byBitmap ───────────> byJournal (and a resync)
//	                                                     Ahead, or chased
type Peer struct {
	name    string
	group   *Group
	bitmaps []*journal.Bitmap // as Group.volumes

	// Guarded by Group.order.
	tracking  tracking
	since     time.Time     // when tracking became byBitmap
	converted chan struct{} // closed when the journal's part of the bitmap is complete; nil if none was begun

	onWay *onWay // nil unless the peer is chased

	mu         sync.Mutex // guards what follows
	marks      ship.Marks
	stream     *Stream // nil while not connected as source
	waiters    ackHeap
	congestion ship.Congestion

	keeps     []atomic.Bool // by volume: it has a good disk of its own
	forgotten atomic.Bool   // nothing is kept for it any more

	protocol atomic.Uint32 // of the stream that runs: 'A', 'B', 'C'; 0 if none. Read on the write path
	kick     chan struct{}

	// gathering says that the pump sleeps for a bounded time to let a batch grow, and looks again by itself.
	gathering atomic.Bool
}

func newPeer(g *Group, name string) (*Peer, error) {
	p := &Peer{name: name, group: g, kick: make(chan struct{}, 1), keeps: make([]atomic.Bool, len(g.volumes))}
	for _, v := range g.volumes {
		b, err := g.store.Bitmap(name, v.number, v.disk.Size())
		if err != nil {
			return nil, fmt.Errorf("open bitmap of volume %d for %s: %w", v.number, name, err)
		}
		p.bitmaps = append(p.bitmaps, b)
	}
	// A peer that was not heard of since the start has at least what the journal gave up.
	p.marks = ship.Start(g.log.Start(), g.log.Start(), g.last)
	return p, nil
}

// Name is the peer's node name.
func (p *Peer) Name() string { return p.name }

// Bitmap returns the bitmap of a volume against this peer, nil if there is no such volume.
func (p *Peer) Bitmap(volume uint16) *journal.Bitmap {
	for i, v := range p.group.volumes {
		if v.number == volume {
			return p.bitmaps[i]
		}
	}
	return nil
}

// OutOfSync returns the number of blocks that are known to differ, over all volumes.
func (p *Peer) OutOfSync() uint64 {
	var n uint64
	for _, b := range p.bitmaps {
		n += b.Count()
	}
	return n
}

// SetAll marks everything as out of sync, durably.
func (p *Peer) SetAll() error {
	for _, b := range p.bitmaps {
		b.SetAll()
	}
	return p.FlushBitmaps()
}

// FlushBitmaps makes the bitmaps against this peer durable.
func (p *Peer) FlushBitmaps() error {
	for _, b := range p.bitmaps {
		if err := b.Flush(); err != nil {
			return fmt.Errorf("flush bitmap for %s: %w", p.name, err)
		}
	}
	return nil
}

// JournalToBitmap marks everything that the journal still holds as out of sync, durably. The caller drops the journal
// afterwards, if this node is to be a target.
func (p *Peer) JournalToBitmap() error {
	g := p.group
	start := g.log.Start()
	if start == g.log.End() {
		return p.FlushBitmaps()
	}
	err := g.log.Ranges(start, func(vol uint16, r block.Range) error {
		if b := p.Bitmap(vol); b != nil {
			b.Set(r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("turn journal into bitmap for %s: %w", p.name, err)
	}
	return p.FlushBitmaps()
}

// Marks returns the peer's marks.
func (p *Peer) Marks() ship.Marks {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks
}

// ByJournal reports whether the journal holds what the peer lacks.
func (p *Peer) ByJournal() bool {
	p.group.order.Lock()
	defer p.group.order.Unlock()
	return p.tracking == byJournal
}

// Lag is how far the peer is behind: the age of the oldest write that it has not staged, and the bytes to be sent.
// Where the journal was given up, the age is that of the decision.
func (p *Peer) Lag() (time.Duration, int64, uint64) {
	p.group.order.Lock()
	now, mode, since := p.group.clock.now(), p.tracking, p.since
	p.group.order.Unlock()
	if mode == byBitmap {
		blocks := p.OutOfSync()
		return max(now.Sub(since), 0), int64(blocks) * block.Size, blocks
	}
	p.mu.Lock()
	staged := p.marks.Staged
	p.mu.Unlock()
	records, bytes, oldest := p.group.log.Backlog(staged)
	if records == 0 || oldest.IsZero() {
		return 0, 0, 0
	}
	return max(now.Sub(oldest), 0), bytes, records
}

// Drained reports whether the peer has applied everything and nothing is out of sync.
func (p *Peer) Drained() bool {
	end := p.group.End()
	p.mu.Lock()
	applied := p.marks.Applied
	p.mu.Unlock()
	return !applied.Less(end) && p.OutOfSync() == 0
}

// StartHere puts the peer's position at the end of the write order, because it is known to be equal up to there.
func (p *Peer) StartHere() {
	end := p.group.End()
	p.mu.Lock()
	p.marks = ship.Start(end, end, end)
	p.mu.Unlock()
}

func (p *Peer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}
