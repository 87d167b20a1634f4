package node

import (
	"drship/internal/state"
	"drship/wan/frame"
)

// volumeCarried in VolumeMeta.Flags: create-md was told that the disk was carried over, and nothing happened to it since.
const volumeCarried uint32 = 1 << 1

// bothCarried reports whether this side is the one to declare both equal, because both were created for disks that are.
func (r *Resource) bothCarried(s *session, theirs *frame.State) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.att
	if a == nil || !s.link.Dialled() || len(r.peers) != 1 || theirs.Flags&frame.FlagCarried == 0 || !a.untouched() {
		return false
	}
	for _, v := range a.meta.Volumes {
		if v.Flags&volumeCarried == 0 {
			return false
		}
	}
	for _, v := range theirs.Volumes {
		if v.UUIDs.Current != state.JustCreated {
			return false
		}
	}
	return true
}

// declareCarried does what new-current-uuid --clear-bitmap does, once the handshake is over.
func (r *Resource) declareCarried(s *session) {
	release, err := r.acquire(s.ctx)
	if err != nil {
		return // the session ended
	}
	defer release()
	r.mu.Lock()
	a := r.att
	local, peers := r.viewsLocked()
	r.mu.Unlock()
	if a == nil || !a.untouched() {
		return // somebody was faster
	}
	if f := state.MayDeclareEqual(local, peers); f != nil {
		err = f
	} else {
		err = r.declareAll(s.ctx, a)
	}
	if err != nil {
		r.log.Warn("disks that were carried over are not declared equal", "peer", s.peer.name, "err", err,
			"hint", "drship new-current-uuid --clear-bitmap "+r.name)
		return
	}
	r.log.Info("disks were carried over and count as equal", "peer", s.peer.name)
	s.end(errRenegotiate)
}
