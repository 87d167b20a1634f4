package node

import (
	"context"
	"errors"
	"slices"

	"drship/internal/face"
	"drship/internal/state"
	"drship/wan"
)

// maxPassed bounds what is kept of the states that a peer, or a disk, was in for a moment: what one change goes through is a handful.
const maxPassed = 16

// passLocked notes states that the connection with a peer goes through. Called with mu held.
func (r *Resource) passLocked(p *peer, through ...state.Conn) {
	for _, c := range through {
		r.passSeq++
		p.passed = append(p.passed, face.PassedConn{Seq: r.passSeq, Conn: c})
	}
	p.passed = slices.Clone(p.passed[max(0, len(p.passed)-maxPassed):]) // snapshots hold on to the one before
}

// passDisksLocked notes a state that every disk goes through. Called with mu held.
func (r *Resource) passDisksLocked(d state.Disk) {
	r.passSeq++
	r.passedDisks = append(slices.Clone(r.passedDisks[max(0, len(r.passedDisks)+1-maxPassed):]), face.PassedDisk{Seq: r.passSeq, Disk: d})
}

// ending is the state of DRBD's in which a connection ends for a reason.
func ending(reason error) state.Conn {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(reason, t) })
	}
	switch {
	case is(errDisconnected, errDropped):
		return state.Disconnecting
	case is(errGoneAway, errRenegotiate, wan.ErrNotWanted, wan.ErrReplaced, wan.ErrClosed):
		return state.TearDown
	case is(errKnockedOut, wan.ErrTimeout, context.DeadlineExceeded):
		return state.Timeout
	case is(wan.ErrProtocol):
		return state.ProtocolError
	case is(wan.ErrPeerClosed, wan.ErrPeerLost):
		return state.BrokenPipe
	}
	return state.NetworkFailure
}
