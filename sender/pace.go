package sender

import (
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/ship"
)

// crowdBytes is how much of applications' writes may wait to be sent before the resync yields, in bytes: more than a batch
// that just gathers.
const crowdBytes = 256 << 10

// paceLook is how often a resync that waits for its pace looks again: the pace may have changed.
const paceLook = 100 * time.Millisecond

// crowded reports whether applications' writes wait for the line.
func (s *Stream) crowded() bool {
	p := s.peer
	p.mu.Lock()
	sent, full := p.marks.Sent, s.flight.full(s.cfg.Window)
	p.mu.Unlock()
	if full || s.held.Load() {
		return full
	}
	_, backlog, _ := p.group.log.Backlog(sent)
	return backlog >= crowdBytes
}

// askEvery is how long an answer about the pace is good: blocks that are scattered go by the thousand.
const askEvery = time.Millisecond

// asked is the pace of the resync, and whether applications' writes wait for the line. It is called without Peer.mu: the answer may need
// locks that are held while the peer is asked for its figures.
func (s *Stream) asked() (ship.Pace, bool) {
	if now := time.Now(); now.Sub(s.askedAt) >= askEvery {
		s.askedAt, s.askedPace = now, s.paceNow()
		s.askedCrowd = !s.chasing.Load() && s.crowded()
	}
	return s.askedPace, s.askedCrowd
}

// paceWait sets the rate of this moment and says how long the next piece has to wait for it. Called with Peer.mu held.
func (rs *resync) paceWait(now time.Time, pace ship.Pace, crowded bool) time.Duration {
	if changed(rs.pace.Rate, pace.Rate) {
		rs.speed = ship.Speed{} // what was done at another rate says nothing of the rest
	}
	rs.pace = pace
	rs.rate = rs.control.Rate(now, pace.Control, pace.Rate, &rs.answered, rs.bytes)
	rs.yields = false
	if crowded {
		rate := pace.Control.Yield(rs.rate)
		rs.yields, rs.rate = rate != rs.rate, rate
	}
	if wait := rs.bucket.Wait(now, rs.rate); wait > 0 {
		return min(wait+time.Millisecond, paceLook)
	}
	return 0
}

// changed reports whether a rate was set anew, and not only measured a little differently. A moment without limit is none.
func changed(from, to int64) bool {
	return from > 0 && to > 0 && (to*4 > from*5 || to*5 < from*4)
}

// pieceBlocks is how many blocks go at once.
func (s *Stream) pieceBlocks(rs *resync) int {
	if s.cfg.Csums != digest.None {
		return int(ship.Piece(rs.rate*8, ship.Control{}, queryBlocks*block.Size) / block.Size)
	}
	return int(ship.Piece(rs.rate, rs.pace.Control, chunkBlocks*block.Size) / block.Size)
}

// described is the pace with what keeps the resync below it.
func (rs *resync) described() ship.Pace {
	p := rs.pace
	switch {
	case rs.yields:
		p.Rate, p.Why = rs.rate, "c-min-rate, because writes of applications wait for the line"
	case p.Rate > 0 && rs.rate*10 < p.Rate*9 && p.Control.Fill > 0:
		p.Rate, p.Why = rs.rate, "c-fill-target, below "+p.Why
	case p.Rate > 0 && rs.rate*10 < p.Rate*9:
		p.Rate, p.Why = rs.rate, "c-delay-target, below "+p.Why
	}
	return p
}
