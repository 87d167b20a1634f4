package state

import "slices"

// MayResize decides whether a volume may grow now, on the word of this node.
func MayResize(l Local, peers []PeerView) *Refusal {
	if slices.Contains(l.Disks, Diskless) {
		return Refused(ErrNoDisk, "")
	}
	if l.Role != Primary {
		for _, p := range peers {
			if p.connected() && p.Role == Primary {
				return Refused(ErrNoPrimary, "resize on %s, which is Primary", p.Name)
			}
		}
		return Refused(ErrNoPrimary, "")
	}
	for _, p := range peers {
		switch {
		case !p.connected():
			return Refused(SSNeedConnection, "%s is out of sight; both sides grow together", p.Name)
		case p.busy() || slices.ContainsFunc(p.Repl, func(c Conn) bool { return c >= Ahead }):
			return Refused(ErrResizeResync, "wait until %s is in sync", p.Name)
		case slices.ContainsFunc(p.Disks, func(d Disk) bool { return d != UpToDate }):
			return Refused(ErrResizeResync, "the data of %s is not UpToDate", p.Name)
		}
	}
	return nil
}

// ResizeTo is the size that a volume takes: what is asked for, or all that every side has room for. rooms are the sizes of
// the disks; wanted is 0 for as much as possible. All in bytes.
func ResizeTo(current, wanted int64, rooms []int64) (int64, *Refusal) {
	room := slices.Min(rooms)
	switch {
	case wanted == 0:
		wanted = max(room, current)
	case wanted < current:
		return 0, Refused(ErrImplicitShrink, "the volume has %d bytes", current)
	case wanted > room:
		return 0, Refused(ErrDiskTooSmall, "the smallest disk has room for %d bytes", room)
	}
	return wanted, nil
}

// MayDeclareEqual decides whether disks may be said to hold the same, so that no first synchronisation is needed: with every peer in sight, and
// nobody at work on the data.
func MayDeclareEqual(l Local, peers []PeerView) *Refusal {
	if l.Role == Primary {
		return Refused(ErrDataNotCurrent, "this node is Primary")
	}
	if len(peers) == 0 {
		return Refused(SSNeedConnection, "there is no peer")
	}
	for _, p := range peers {
		switch {
		case !p.connected():
			return Refused(SSNeedConnection, "%s is out of sight", p.Name)
		case p.Role == Primary:
			return Refused(ErrDataNotCurrent, "%s is Primary", p.Name)
		case p.busy():
			return Refused(SSResyncRunning, "")
		}
	}
	return nil
}
