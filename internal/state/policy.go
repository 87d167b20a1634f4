package state

import (
	"fmt"
	"slices"
)

// Policies are the settings that solve conflicts. An empty string is DRBD's default, "disconnect". Both sides must have the
// same ones, seen from their own side: see Mirror.
type Policies struct {
	AfterSB0   string // after-sb-0pri
	AfterSB1   string // after-sb-1pri
	AfterSB2   string // after-sb-2pri
	RRConflict string // rr-conflict
	AlwaysASBP bool   // always-asbp: policies also where there is no direct common ancestor
}

// The values of the policies.
const (
	Disconnect            = "disconnect"
	DiscardYoungerPrimary = "discard-younger-primary"
	DiscardOlderPrimary   = "discard-older-primary"
	DiscardZeroChanges    = "discard-zero-changes"
	DiscardLeastChanges   = "discard-least-changes"
	DiscardLocal          = "discard-local"
	DiscardRemote         = "discard-remote"
	Consensus             = "consensus"
	ViolentlyAs0P         = "violently-as0p"
	DiscardSecondary      = "discard-secondary"
	CallPriLostAfterSB    = "call-pri-lost-after-sb"
	CallPriLost           = "call-pri-lost"
	Violently             = "violently"
	RetryConnect          = "retry-connect"
	AutoDiscard           = "auto-discard"
)

// Validate reports the first value that its setting does not have.
func (p Policies) Validate() error {
	for _, s := range []struct {
		name, value string
		allowed     []string
	}{
		{"after-sb-0pri", p.AfterSB0, []string{DiscardYoungerPrimary, DiscardOlderPrimary, DiscardZeroChanges, DiscardLeastChanges, DiscardLocal, DiscardRemote}},
		{"after-sb-1pri", p.AfterSB1, []string{Consensus, ViolentlyAs0P, DiscardSecondary, CallPriLostAfterSB}},
		{"after-sb-2pri", p.AfterSB2, []string{ViolentlyAs0P, CallPriLostAfterSB}},
		{"rr-conflict", p.RRConflict, []string{Violently, CallPriLost, RetryConnect, AutoDiscard}},
	} {
		if s.value != "" && s.value != Disconnect && !slices.Contains(s.allowed, s.value) {
			return fmt.Errorf("%s has no value %q", s.name, s.value)
		}
	}
	return nil
}

// Mirror returns the same policies as the peer sees them: what is local here is remote there.
func (p Policies) Mirror() Policies {
	switch p.AfterSB0 {
	case DiscardLocal:
		p.AfterSB0 = DiscardRemote
	case DiscardRemote:
		p.AfterSB0 = DiscardLocal
	}
	return p
}

// solution is what an after-sb policy found.
type solution struct {
	result int  // ±1, or ResultSplitHard where it found no answer
	demote bool // the victim is Primary and has to demote first
	warn   string
}

var unsolved = solution{result: ResultSplitHard}

// afterSplitBrain applies the policy for the number of Primaries. The changes are those of the whole resource, so that
// all its volumes are decided alike.
func afterSplitBrain(self, peer Side, changes [2]uint64, pol Policies) solution {
	zero := afterSB0(self, peer, changes, pol.AfterSB0)
	switch primaries(self, peer) {
	case 0:
		return zero
	case 1:
		return afterSB1(self, zero, pol.AfterSB1)
	}
	switch pol.AfterSB2 {
	case ViolentlyAs0P:
		return zero
	case CallPriLostAfterSB:
		zero.demote = zero.result != ResultSplitHard
		return zero
	}
	return unsolved
}

func primaries(self, peer Side) int {
	n := 0
	for _, r := range [...]Role{self.Role, peer.Role} {
		if r == Primary {
			n++
		}
	}
	return n
}

func afterSB0(self, peer Side, changes [2]uint64, policy string) solution {
	switch policy {
	case DiscardYoungerPrimary, DiscardOlderPrimary:
		return byAge(self, peer, changes, policy)
	case DiscardZeroChanges:
		return solution{result: byZeroChanges(self, peer, changes)}
	case DiscardLeastChanges:
		return solution{result: byLeastChanges(self, peer, changes)}
	case DiscardLocal:
		return solution{result: -ResultBitmap}
	case DiscardRemote:
		return solution{result: ResultBitmap}
	}
	return unsolved
}

// byAge goes by the Bitmap identifier's lowest bit: who has it was Primary as the link broke, which is the older one.
func byAge(self, peer Side, changes [2]uint64, policy string) solution {
	older, peerOlder := self.IDs.Bitmap&wasPrimary != 0, peer.IDs.Bitmap&wasPrimary != 0
	if older == peerOlder {
		s := solution{result: byZeroChanges(self, peer, changes)}
		if s.result == ResultSplitHard {
			s.result = byLeastChanges(self, peer, changes)
		}
		s.warn = "Discard younger/older primary did not find a decision\nUsing discard-least-changes instead"
		return s
	}
	if older == (policy == DiscardYoungerPrimary) {
		return solution{result: ResultBitmap}
	}
	return solution{result: -ResultBitmap}
}

func byZeroChanges(self, peer Side, changes [2]uint64) int {
	switch {
	case changes[0] == 0 && changes[1] == 0:
		return tieBreak(self, peer)
	case changes[1] == 0:
		return ResultBitmap
	case changes[0] == 0:
		return -ResultBitmap
	}
	return ResultSplitHard
}

func byLeastChanges(self, peer Side, changes [2]uint64) int {
	switch {
	case changes[0] < changes[1]:
		return -ResultBitmap
	case changes[0] > changes[1]:
		return ResultBitmap
	}
	return tieBreak(self, peer)
}

func afterSB1(self Side, zero solution, policy string) solution {
	selfPrimary := self.Role == Primary
	victimPrimary := zero.result != ResultSplitHard && (zero.result < 0) == selfPrimary
	switch policy {
	case Consensus:
		if victimPrimary {
			return unsolved
		}
		return zero
	case ViolentlyAs0P:
		return zero
	case DiscardSecondary:
		if selfPrimary {
			return solution{result: ResultBitmap}
		}
		return solution{result: -ResultBitmap}
	case CallPriLostAfterSB:
		zero.demote = victimPrimary
		return zero
	}
	return unsolved
}
