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

// passedDisk is a state that a disk, or each of them, was in for a moment.
type passedDisk struct {
	face.PassedDisk
	volume int // its index; allVolumes
}

const allVolumes = -1

// passDisksLocked notes a state that every disk goes through. Called with mu held.
func (r *Resource) passDisksLocked(d state.Disk) { r.passDiskLocked(allVolumes, d) }

// passDiskLocked notes a state that the disk of volume i goes through. Called with mu held.
func (r *Resource) passDiskLocked(i int, d state.Disk) {
	r.passSeq++
	r.passedDisks = append(r.passedDisks[max(0, len(r.passedDisks)+1-maxPassed):], passedDisk{face.PassedDisk{Seq: r.passSeq, Disk: d}, i})
}

// passedOfLocked is what the disk of volume i went through. Called with mu held.
func (r *Resource) passedOfLocked(i int) (out []face.PassedDisk) {
	for _, p := range r.passedDisks {
		if p.volume == i || p.volume == allVolumes {
			out = append(out, p.PassedDisk)
		}
	}
	return out
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
