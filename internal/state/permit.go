package state

import (
	"slices"
	"strings"
)

// Local is what a permission needs to know of this node, for one resource.
type Local struct {
	Role  Role
	Disks []Disk // by volume, in the order of the peers' lists

	AllowTwoPrimaries bool
	RemoteReads       bool   // reads can be served from a connected peer, so a Primary needs no good disk of its own
	Fetched           []bool // by volume: so can what its disk lacks, whatever RemoteReads says
	Fencing           bool   // fencing is resource-only or resource-and-stonith
	VerifyAlg         bool   // verify-alg is set
}

// PeerView is what a permission needs to know of a peer.
type PeerView struct {
	Name  string
	Conn  Conn   // the connection's state, or Connected
	Repl  []Conn // by volume; below Connected, or empty, while there is no link
	Role  Role
	Disks []Disk // by volume; what is known of them, also while there is no link
}

func (p PeerView) connected() bool { return p.Conn >= Connected }

// busy reports whether a resync or a verify runs, or is being started, on any volume.
func (p PeerView) busy() bool {
	return slices.ContainsFunc(p.Repl, func(c Conn) bool { return c > Connected && c < Ahead })
}

func diskAt(disks []Disk, i int) Disk {
	if i < len(disks) {
		return disks[i]
	}
	return DUnknown
}

// usable reports whether volume i has UpToDate data here, or at a connected peer that reads can go to.
func usable(l Local, peers []PeerView, i int) bool {
	if l.Disks[i] == UpToDate {
		return true
	}
	return (l.RemoteReads || i < len(l.Fetched) && l.Fetched[i]) && slices.ContainsFunc(peers, func(p PeerView) bool {
		return p.connected() && diskAt(p.Disks, i) == UpToDate
	})
}

// MayPromote decides a promotion. With force, data that is only Inconsistent, Outdated or Consistent is taken as it is; a
// second Primary is refused even then.
func MayPromote(l Local, peers []PeerView, force bool) *Refusal {
	if l.Role == Primary {
		return nil
	}
	for _, p := range peers {
		if p.connected() && p.Role == Primary && !l.AllowTwoPrimaries {
			return Refused(SSTwoPrimaries, "%s is Primary; make it Secondary first", p.Name)
		}
	}
	if len(l.Disks) == 0 {
		return Refused(SSNoUpToDateDisk, "the resource has no volume attached")
	}
	for i, d := range l.Disks {
		switch {
		case usable(l, peers, i):
		case force && d >= Inconsistent && d != DUnknown:
		case d == Diskless || d == Failed:
			return Refused(SSNoUpToDateDisk, "volume %d has no local disk", i)
		default:
			return Refused(SSNoUpToDateDisk, "volume %d is %s; connect to a peer that is UpToDate, or use --force to take the data as it is", i, d)
		}
	}
	if force || !l.Fencing {
		return nil
	}
	return unfenced(l, peers)
}

// unfenced refuses a promotion that fencing has to come before: a peer is out of sight and not known to be outdated.
func unfenced(l Local, peers []PeerView) *Refusal {
	for _, p := range peers {
		if p.connected() {
			continue
		}
		for i := range l.Disks {
			if d := diskAt(p.Disks, i); d > Outdated {
				return Refused(SSPrimaryNop, "%s is out of sight and may still be Primary", p.Name)
			}
		}
	}
	return nil
}

// MayDemote decides a demotion: openers are those who have an export open.
func MayDemote(openers []string) *Refusal {
	if len(openers) == 0 {
		return nil
	}
	return Refused(SSDeviceInUse, "held open by: "+strings.Join(openers, ", "))
}

// MayAttach decides whether volume i may get a backing disk.
func MayAttach(l Local, i int) *Refusal {
	if diskAt(l.Disks, i) != Diskless {
		return Refused(ErrDiskConfigured, "")
	}
	return nil
}

// MayDetach decides whether volume i may give its backing disk up. With force a Primary may lose its data.
func MayDetach(l Local, peers []PeerView, i int, force bool) *Refusal {
	if i >= len(l.Disks) || l.Disks[i] == Diskless || l.Role != Primary || force {
		return nil
	}
	rest := l
	rest.Disks = slices.Clone(l.Disks)
	rest.Disks[i] = Diskless
	if usable(rest, peers, i) {
		return nil
	}
	return Refused(SSNoUpToDateDisk, "volume %d is in use here and no peer can serve it; make this node Secondary first", i)
}

// MayConnect decides whether networking with a peer may begin.
func MayConnect(l Local, p PeerView, discardMyData bool) *Refusal {
	if discardMyData && l.Role == Primary {
		return Refused(ErrDiscardImpossible, "make this node Secondary first")
	}
	if p.Conn != StandAlone {
		return Refused(ErrNetConfigured, "")
	}
	return nil
}

// MayDisconnect decides whether networking with a peer may end. A Primary whose only good data is at that peer may not, unless
// by force.
func MayDisconnect(l Local, peers []PeerView, p PeerView, force bool) *Refusal {
	if p.Conn == StandAlone {
		return Refused(SSAlreadyStandAlone, "")
	}
	if p.Conn == Disconnecting {
		return Refused(SSTransientState, "")
	}
	if force || l.Role != Primary {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(peers), func(o PeerView) bool { return o.Name == p.Name })
	for i := range l.Disks {
		if !usable(l, others, i) {
			return Refused(SSNoUpToDateDisk, "volume %d is in use here and only %s has its data", i, p.Name)
		}
	}
	return nil
}

// MayInvalidate decides whether the local data may be overwritten from a peer. A node without a connection may always
// mark its own data as worthless, unless somebody uses it.
func MayInvalidate(l Local, p PeerView) *Refusal {
	if slices.Contains(l.Disks, Diskless) {
		return Refused(SSNoLocalDisk, "")
	}
	if l.Role == Primary && !(l.RemoteReads && p.connected()) {
		return Refused(SSNoUpToDateDisk, "this node is Primary; make it Secondary first")
	}
	if !p.connected() {
		return nil
	}
	return maySync(p, p.Disks, "the peer's")
}

// MayInvalidateRemote decides whether a peer's data may be overwritten from here.
func MayInvalidateRemote(l Local, p PeerView) *Refusal {
	switch {
	case slices.Contains(l.Disks, Diskless):
		return Refused(SSNoLocalDisk, "")
	case !p.connected():
		return Refused(SSNeedConnection, "")
	case p.Role == Primary:
		return Refused(SSRefusedByPeer, "%s is Primary; make it Secondary first", p.Name)
	}
	return maySync(p, l.Disks, "this node's")
}

// maySync checks what both directions of a full sync need.
func maySync(p PeerView, source []Disk, whose string) *Refusal {
	if p.busy() {
		return Refused(SSResyncRunning, "")
	}
	if slices.ContainsFunc(p.Disks, func(d Disk) bool { return d < Inconsistent }) {
		return Refused(SSNoRemoteDisk, "")
	}
	if slices.ContainsFunc(source, func(d Disk) bool { return d != UpToDate }) {
		return Refused(SSNoUpToDateDisk, "%s data is not UpToDate", whose)
	}
	return nil
}

// MayVerify decides whether an online verify with a peer may begin.
func MayVerify(l Local, p PeerView) *Refusal {
	switch {
	case !p.connected():
		return Refused(SSNeedConnection, "")
	case !l.VerifyAlg:
		return Refused(SSNoVerifyAlg, "set verify-alg in the net section")
	case p.busy():
		return Refused(SSResyncRunning, "")
	case slices.ContainsFunc(p.Repl, func(c Conn) bool { return c >= Ahead }):
		return Refused(SSTransientState, "replication to %s is behind; try again once it has caught up", p.Name)
	case slices.Contains(l.Disks, Diskless):
		return Refused(SSNoLocalDisk, "")
	case slices.Contains(p.Disks, Diskless):
		return Refused(SSNoRemoteDisk, "")
	}
	return nil
}

// MayOutdate decides whether this node's data may be marked Outdated.
func MayOutdate(l Local, peers []PeerView) *Refusal {
	if l.Role == Primary {
		return Refused(SSNoUpToDateDisk, "this node is Primary and uses the data")
	}
	if slices.ContainsFunc(peers, PeerView.connected) {
		return Refused(SSConnectedOutdates, "")
	}
	if slices.ContainsFunc(l.Disks, func(d Disk) bool { return d < Outdated }) {
		return Refused(SSLowerThanOutdated, "")
	}
	return nil
}

// Pauses says who holds a resync.
type Pauses struct{ User, Peer, Dependency bool }

// MayPauseSync decides pause-sync.
func MayPauseSync(p Pauses) *Refusal {
	if p.User {
		return Refused(ErrPauseIsSet, "")
	}
	return nil
}

// MayResumeSync decides resume-sync: what others hold, this node cannot resume.
func MayResumeSync(p Pauses) *Refusal {
	switch {
	case p.User:
		return nil
	case p.Dependency:
		return Refused(ErrPausedByDependency, "")
	case p.Peer:
		return Refused(ErrPausedByPeer, "")
	}
	return Refused(ErrPauseIsClear, "")
}
