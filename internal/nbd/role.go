package nbd

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Serving a request under the reading role, without giving the role away first, saves waking another worker, which costs
// as much as a fast request. It is done in two cases, as long as most requests were served fast of late:
//
//   - A lone request: nothing else is buffered or in flight, nor was for some requests before it.
//   - Queued requests, where the export is so fast that it cannot be waiting for anything. Their replies are
//     held back until the requests in the buffer are served, and go out in one call.
//
// That must not hold up requests that arrive meanwhile, nor replies held back, so a guard takes the role away from a worker
// that is still serving after one to two ticks. From then on, until most requests are fast again, the role is handed over
// at once, and the export gets its requests in parallel.
const (
	guardTick  = 500 * time.Microsecond
	fastLone   = 100 * time.Microsecond // a lone request that takes longer is slow
	fastQueued = 20 * time.Microsecond  // a queued request that takes longer is slow
	loneStreak = 16                     // requests in a row that came alone before one counts as lone
	roleLength = 64 << 10               // bytes; a longer request is no candidate
	heldBack   = 64                     // replies that are held back at most
)

// role is the state of serving under the reading role.
//
// Invariant: turn only grows. It is odd while a worker serves under the role; whoever makes it even, the worker or the
// guard, holds the role from then on.
type role struct {
	streak     int // requests in a row that came alone; goes with the reading role
	turn       atomic.Uint64
	slowLone   share         // of requests slower than fastLone
	slowQueued share         // of requests slower than fastQueued
	awake      atomic.Bool   // the guard is ticking
	wake       chan struct{} // starts its ticking
	stop       chan struct{} // ends it
}

// timed takes note of a service of length d.
func (r *role) timed(d time.Duration) {
	r.slowLone.count(d > fastLone)
	r.slowQueued.count(d > fastQueued)
}

// share is the share of slow requests among those of late, as a sliding mean in units of 1/shareWhole. A share and not a
// mean time, so that a few requests that lost their processor for a while do not make a fast export look slow.
type share struct{ v atomic.Int32 }

const (
	shareWhole = 1 << 16
	shareSlow  = shareWhole / 4 // from here on an export is slow
	shareShift = 5              // a request counts 1/32
)

// count takes note of one request. Updates may get lost between workers, which does no harm.
func (h *share) count(slow bool) {
	old := h.v.Load()
	target := int32(0)
	if slow {
		target = shareWhole
	}
	h.v.Store(old + (target-old)>>shareShift)
}

// slow reports whether too many requests were slow.
func (h *share) slow() bool { return h.v.Load() >= shareSlow }

// keepsRole reports whether q may be served under the reading role.
func (s *session) keepsRole(q *request) bool {
	if s.in.Buffered() > 0 || s.inFlight.Load() > 1 {
		s.role.streak = 0
		return !s.role.slowQueued.slow() && q.isShort()
	}
	s.role.streak = min(s.role.streak+1, loneStreak)
	return s.role.streak == loneStreak && !s.role.slowLone.slow() && q.isShort()
}

// isShort reports whether a request asks for little and for nothing that waits for stable storage.
func (q *request) isShort() bool {
	return q.length <= roleLength && q.cmd != CmdFlush && q.flags&CmdFlagFUA == 0
}

// serveInRole serves q under the reading role; it reports whether the worker still holds it.
func (s *session) serveInRole(q *request) bool {
	turn := s.role.turn.Add(1)
	if !s.role.awake.Load() && s.role.awake.CompareAndSwap(false, true) {
		s.role.wake <- struct{}{}
	}
	var r reply
	s.serve(q, &r)
	if !s.role.turn.CompareAndSwap(turn, turn+1) {
		s.replies.send(&r, false)
		return false
	}
	s.replies.send(&r, s.hasNext())
	return true
}

// hasNext reports whether another whole request is in the read buffer, so that it can be served without waiting.
func (s *session) hasNext() bool {
	if s.in.Buffered() < RequestSize {
		return false
	}
	b, err := s.in.Peek(RequestSize)
	if err != nil || binary.BigEndian.Uint32(b) != protocol.TRANSMISSION_MAGIC_REQUEST {
		return false
	}
	if binary.BigEndian.Uint16(b[6:]) != CmdWrite {
		return true
	}
	return uint64(s.in.Buffered()) >= RequestSize+uint64(binary.BigEndian.Uint32(b[24:]))
}

// guard takes the reading role from workers that serve under it for too long. It ticks only while there is traffic.
func (s *session) guard() {
	t := time.NewTicker(guardTick)
	defer t.Stop()
	for {
		t.Stop()
		select {
		case <-s.role.wake:
		case <-s.role.stop:
			return
		}
		t.Reset(guardTick)
		for seen, ticking := uint64(0), true; ticking; {
			select {
			case <-t.C:
			case <-s.role.stop:
				return
			}
			seen, ticking = s.look(seen)
		}
	}
}

// look is one tick of the guard: seen is the turn at the tick before. It reports false when nothing has moved since.
func (s *session) look(seen uint64) (turn uint64, ticking bool) {
	turn = s.role.turn.Load()
	switch {
	case turn != seen:
		return turn, true
	case turn%2 == 1:
		if s.role.turn.CompareAndSwap(turn, turn+1) {
			s.role.slowLone.v.Store(shareWhole)
			s.role.slowQueued.v.Store(shareWhole)
			s.handOver()
			s.replies.flush()
		}
		return turn, true
	}
	s.role.awake.Store(false)
	if s.role.turn.Load() == turn {
		return turn, false
	}
	// A request came between the two looks. Whoever sets awake first makes the guard go on: here, or by wake.
	return turn, s.role.awake.CompareAndSwap(false, true)
}
