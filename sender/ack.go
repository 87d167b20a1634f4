package sender

import (
	"container/heap"
	"context"

	"drship/internal/block"
)

// ackWaiter is one write that waits for a peer.
type ackWaiter struct {
	seq   block.Seq
	proto byte          // 0: that of the stream
	done  chan struct{} // one token
}

// ackHeap holds the waiting writes of a peer, oldest first. Bounded by the requests in flight.
type ackHeap []ackWaiter

func (h ackHeap) Len() int           { return len(h) }
func (h ackHeap) Less(i, j int) bool { return h[i].seq.Less(h[j].seq) }
func (h ackHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *ackHeap) Push(x any) { *h = append(*h, x.(ackWaiter)) }

// Pop implements heap.Interface.
func (h *ackHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}

// ackChan takes a channel from the group's own pool: one of the whole process would hand channels from one simulated world
// to the next.
func (g *Group) ackChan() chan struct{} {
	if ch, ok := g.ackChans.Get().(chan struct{}); ok {
		return ch
	}
	return make(chan struct{}, 1)
}

// await returns when every connected peer has the record at seq as its protocol asks. A peer that goes away, or that
// is tracked by bitmap, holds nobody up, unless the group is frozen: then the answer waits until it no longer is, and for the peers
// that are connected by then.
func (g *Group) await(ctx context.Context, seq block.Seq) error {
	for again := true; again; {
		err := g.awaitPeers(ctx, seq)
		if err != nil {
			return err
		}
		if again, err = g.gate.thawed(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) awaitPeers(ctx context.Context, seq block.Seq) error {
	if seq.IsZero() {
		return nil
	}
	for _, p := range g.peers {
		if proto := p.protocol.Load(); proto == 'A' || proto == 0 {
			continue
		}
		if err := p.await(ctx, seq, 0); err != nil {
			return err
		}
	}
	return nil
}

// await waits for one peer, by a protocol of its own where one is given.
func (p *Peer) await(ctx context.Context, seq block.Seq, proto byte) error {
	p.mu.Lock()
	if p.stream == nil || !p.needsAckLocked(seq, proto) {
		p.mu.Unlock()
		return nil
	}
	done := p.group.ackChan()
	heap.Push(&p.waiters, ackWaiter{seq, proto, done})
	p.mu.Unlock()
	c := &p.group.counters
	c.PeerWaits.Add(1)
	defer c.PeerWaits.Add(-1)
	select {
	case <-done:
		p.group.ackChans.Put(done)
		return nil
	case <-ctx.Done():
		return ctx.Err() // the channel is not pooled: a token may still come
	}
}

// needsAckLocked reports whether a write at seq still has to wait for this peer. Called with mu held.
func (p *Peer) needsAckLocked(seq block.Seq, proto byte) bool {
	actual := p.protocol.Load()
	if actual != 0 && proto != 0 {
		actual = uint32(proto)
	}
	switch actual {
	case 'B':
		return p.marks.Received.Less(seq)
	case 'C':
		return p.marks.Staged.Less(seq)
	}
	return false
}

// releaseLocked lets go on whoever no longer has to wait; all of them when the peer is gone. Called with mu held.
func (p *Peer) releaseLocked() {
	for len(p.waiters) > 0 {
		if p.stream != nil && p.needsAckLocked(p.waiters[0].seq, p.waiters[0].proto) {
			return
		}
		w := heap.Pop(&p.waiters).(ackWaiter)
		w.done <- struct{}{}
	}
}
