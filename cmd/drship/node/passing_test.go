package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"drship/internal/state"
	"drship/wan"
)

// Each way in which a session ends is one of DRBD's states.
func TestEnding(t *testing.T) {
	for _, c := range []struct {
		reason error
		want   state.Conn
	}{
		{errDisconnected, state.Disconnecting},
		{fmt.Errorf("%w: split brain", errDropped), state.Disconnecting},
		{errGoneAway, state.TearDown},
		{errRenegotiate, state.TearDown},
		{fmt.Errorf("%w (told by the peer)", wan.ErrNotWanted), state.TearDown},
		{fmt.Errorf("link: %w", wan.ErrPingTimeout), state.NetworkFailure},
		{errors.New("sendmsg: network is unreachable"), state.NetworkFailure},
		{fmt.Errorf("%w: no answer", wan.ErrTimeout), state.Timeout},
		{fmt.Errorf("%w for 42s", errKnockedOut), state.Timeout},
		{fmt.Errorf("wait for the state of bob: %w", context.DeadlineExceeded), state.Timeout},
		{fmt.Errorf("%w: message %T has no place behind the handshake", wan.ErrProtocol, 1), state.ProtocolError},
		{fmt.Errorf("%w: it was restarted", wan.ErrPeerLost), state.BrokenPipe},
		{wan.ErrPeerClosed, state.BrokenPipe},
	} {
		if got := ending(c.reason); got != c.want {
			t.Errorf("%v: %v, want %v", c.reason, got, c.want)
		}
	}
}

func TestPassedIsBounded(t *testing.T) {
	r := &Resource{}
	p := &peer{}
	for range 5 * maxPassed {
		r.passLocked(p, state.TearDown, state.Unconnected)
		r.passDisksLocked(state.Attaching)
	}
	if len(p.passed) != maxPassed || len(r.passedDisks) != maxPassed || p.passed[maxPassed-1].Seq+1 != r.passSeq {
		t.Errorf("%d of the connection up to %d, %d of the disks; counted %d", len(p.passed), p.passed[len(p.passed)-1].Seq, len(r.passedDisks), r.passSeq)
	}
}
