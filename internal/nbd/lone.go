package nbd

import (
	"sync/atomic"
	"time"
)

// A lone request — nothing else is buffered or in flight, nor was for some requests before it, and requests were
// served fast of late — is served without giving the reading role away first: waking another worker would cost as
// much as the request. That must not hold up requests that arrive meanwhile, so a guard takes the role away from a
// worker that is still serving after one to two ticks. After that, or after a request that merely was slow, the
// next lonePenalty requests are handed over at once.
const (
	loneStreak  = 16
	loneTick    = 500 * time.Microsecond
	loneSlow    = 200 * time.Microsecond // a service that takes longer is not fast
	lonePenalty = 64
	loneLength  = 64 << 10 // bytes; a longer request is no candidate
)

// lone is the state of serving under the reading role.
//
// Invariant: turn only grows. It is odd while a worker serves under the role; whoever makes it even, the worker or the
// guard, holds the role from then on.
type lone struct {
	streak  int // requests in a row that came alone; goes with the reading role
	turn    atomic.Uint64
	penalty atomic.Int32  // requests still to be handed over at once
	awake   atomic.Bool   // the guard is ticking
	wake    chan struct{} // starts its ticking
	stop    chan struct{} // ends it
}

// isLone reports whether q may be served under the reading role.
func (s *session) isLone(q *request) bool {
	if s.in.Buffered() > 0 || s.inFlight.Load() > 1 {
		s.lone.streak = 0
		return false
	}
	s.lone.streak = min(s.lone.streak+1, loneStreak)
	return s.lone.streak == loneStreak && s.lone.penalty.Load() == 0 &&
		q.length <= loneLength && q.cmd != CmdFlush && q.flags&CmdFlagFUA == 0
}

// serveLone serves q under the reading role; it reports whether the worker still holds it.
func (s *session) serveLone(q *request) bool {
	turn := s.lone.turn.Add(1)
	if !s.lone.awake.Load() && s.lone.awake.CompareAndSwap(false, true) {
		s.lone.wake <- struct{}{}
	}
	start := time.Now()
	s.serve(q)
	if time.Since(start) > loneSlow {
		s.lone.penalty.Store(lonePenalty)
	}
	return s.lone.turn.CompareAndSwap(turn, turn+1)
}

// serveTimed serves q after the role was handed over, and finds out whether the export has become fast again.
func (s *session) serveTimed(q *request) {
	penalty := s.lone.penalty.Load()
	if penalty == 0 {
		s.serve(q)
		return
	}
	start := time.Now()
	s.serve(q)
	next := int32(lonePenalty)
	if time.Since(start) <= loneSlow {
		next = penalty - 1
	}
	// If another worker was quicker, its finding is as good as this one.
	s.lone.penalty.CompareAndSwap(penalty, next)
}

// guard takes the reading role from workers that serve under it for too long. It ticks only while there is traffic.
func (s *session) guard() {
	t := time.NewTicker(loneTick)
	defer t.Stop()
	for {
		t.Stop()
		select {
		case <-s.lone.wake:
		case <-s.lone.stop:
			return
		}
		t.Reset(loneTick)
		for seen, ticking := uint64(0), true; ticking; {
			select {
			case <-t.C:
			case <-s.lone.stop:
				return
			}
			seen, ticking = s.look(seen)
		}
	}
}

// look is one tick of the guard: seen is the turn at the tick before. It reports false when nothing has moved since.
func (s *session) look(seen uint64) (turn uint64, ticking bool) {
	turn = s.lone.turn.Load()
	switch {
	case turn != seen:
		return turn, true
	case turn%2 == 1:
		if s.lone.turn.CompareAndSwap(turn, turn+1) {
			s.lone.penalty.Store(lonePenalty)
			s.handOver()
		}
		return turn, true
	}
	s.lone.awake.Store(false)
	if s.lone.turn.Load() == turn {
		return turn, false
	}
	// A request came between the two looks. Whoever sets awake first makes the guard go on: here, or by wake.
	return turn, s.lone.awake.CompareAndSwap(false, true)
}
