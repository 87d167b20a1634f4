package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"drship/internal/state"
	"drship/wan/frame"
)

// Fencing makes sure that a peer out of sight is not, or does not become, a second Primary: the handler fence-peer sees to that by
// other ways than this link (the cluster manager, a power switch) and says by its exit code what it has reached.

// fencingLocked is the policy: dont-care, resource-only or resource-and-stonith. Called with mu held.
func (r *Resource) fencingLocked() string {
	if f := r.cfg.Net.Fencing; f != "" {
		return f
	}
	return fencingNone
}

const (
	fencingNone    = "dont-care"
	fencingStonith = "resource-and-stonith"
)

// streamEnds is called by a stream that ends, before the writes that wait for the peer are let go on: with resource-and-stonith none is
// answered until the peer is fenced.
func (r *Resource) streamEnds(s *session, a *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fencingLocked() != fencingStonith || r.role != state.Primary || !r.lostCountsLocked(s, context.Cause(s.ctx)) || s.leaving {
		return
	}
	s.frozen = true
	r.fencing++
	a.group.Freeze()
}

// lostCountsLocked reports whether the end of a session leaves a Primary alone with its data. Called with mu held.
func (r *Resource) lostCountsLocked(s *session, reason error) bool {
	return r.att != nil && s.ready && r.role == state.Primary && r.att.worstDisk() == state.UpToDate && !errors.Is(reason, errRenegotiate)
}

// lostLocked is called as a session ends that was in use. A Primary goes on in a generation of its own: at once, or, where I/O is
// frozen, once the peer is fenced. Called with mu held.
func (r *Resource) lostLocked(s *session, reason error) error {
	a, p := r.att, s.peer
	switch {
	case !r.lostCountsLocked(s, reason):
		return r.thawLocked(a, s)
	case r.fencingLocked() == fencingNone || p.outdated() || s.leaving:
		return errors.Join(r.goOnAloneLocked(a), r.thawLocked(a, s))
	}
	frozen := s.frozen
	if !frozen {
		if err := r.goOnAloneLocked(a); err != nil {
			return err
		}
	}
	if !r.node.helpers.goDo(func() { r.fenceLost(a, p, frozen) }) {
		return r.thawLocked(a, s) // the node stops
	}
	return nil
}

// thawLocked takes back what streamEnds froze, where it turned out that it need not have. Called with mu held.
func (r *Resource) thawLocked(a *attachment, s *session) error {
	if !s.frozen {
		return nil
	}
	s.frozen = false
	r.unfreezeLocked(a)
	return nil
}

func (r *Resource) unfreezeLocked(a *attachment) {
	r.fencing = max(r.fencing-1, 0)
	if a != nil && r.fencing == 0 && !r.suspend {
		a.group.Resume()
	}
}

func (r *Resource) goOnAloneLocked(a *attachment) error {
	if !r.newGenerationLocked(a) {
		return nil
	}
	if err := a.save(); err != nil {
		return err
	}
	r.tellLocked()
	return nil
}

// fenceLost runs fence-peer for a peer that went out of sight and lets frozen I/O go on where that is safe.
func (r *Resource) fenceLost(a *attachment, p *peer, frozen bool) {
	verdict := r.fence(r.node.helpers.ctx, p)
	defer r.node.changed()
	if !frozen {
		return
	}
	r.mu.Lock()
	if r.att != a || r.fencing == 0 {
		r.mu.Unlock()
		return
	}
	if !verdict.Safe && !p.inSight() {
		r.mu.Unlock()
		r.log.Error("I/O stays frozen: the peer is not fenced. Where you know that it is down: drship resume-io "+r.name, "peer", p.name)
		return
	}
	err := r.goOnAloneLocked(a)
	if err == nil {
		r.unfreezeLocked(a)
	}
	r.mu.Unlock()
	if err != nil {
		r.log.Error("I/O stays frozen: the new generation is not durable", "err", err)
	}
	r.broadcastState()
}

// peerIsBackLocked forgets what fencing said of a peer, durably, and lets I/O go on that was frozen because the peer was out of sight.
// Called with mu held.
func (r *Resource) peerIsBackLocked(p *peer) {
	if p.known != nil && r.att != nil {
		r.setPeerDiskLocked(p, state.DUnknown)
		if err := r.att.save(); err != nil {
			r.log.Error("that the peer is back is not durable", "peer", p.name, "err", err)
		}
	}
	p.known = nil
	if r.fencing > 0 && r.att != nil {
		r.fencing = 1
		r.unfreezeLocked(r.att)
	}
}

// fence runs fence-peer and takes over what it says.
func (r *Resource) fence(ctx context.Context, p *peer) state.FenceVerdict {
	code := r.helper(ctx, "fence-peer", p)
	r.mu.Lock()
	defer r.mu.Unlock()
	own := state.Diskless
	if r.att != nil {
		own = r.att.worstShown()
	}
	v := state.Fenced(code, own)
	r.log.Info("fence-peer helper returned "+v.Text, "peer", p.name, "exit", code)
	if p.inSight() || r.att == nil {
		return v
	}
	if v.PeerDisk != state.DUnknown {
		r.setPeerDiskLocked(p, v.PeerDisk)
	}
	if v.OutdateSelf && r.role != state.Primary {
		r.outdateLocked()
	}
	if err := r.att.save(); err != nil {
		r.log.Error("what fence-peer said is not durable", "err", err)
	}
	return v
}

// setPeerDiskLocked notes what is known of a peer's disks while it is out of sight. Called with mu held; the caller saves.
func (r *Resource) setPeerDiskLocked(p *peer, d state.Disk) {
	p.known = make([]state.Disk, len(r.att.meta.Volumes))
	for i := range r.att.meta.Volumes {
		p.known[i] = d
		r.att.setPeerDisk(i, p.name, d)
	}
}

// leftLocked takes note of a peer that went away in order and said that its data is no longer the newest. Called with mu held.
func (r *Resource) leftLocked(p *peer) error {
	if r.att == nil || r.fencingLocked() == fencingNone || len(p.view.Volumes) != len(r.att.meta.Volumes) {
		return nil
	}
	for _, v := range p.view.Volumes {
		if state.Disk(v.Disk) > state.Outdated {
			return nil
		}
	}
	r.setPeerDiskLocked(p, state.Outdated)
	return r.att.save()
}

// outdated reports whether the peer is known not to have the newest data. Called with mu held.
func (p *peer) outdated() bool {
	return len(p.known) > 0 && !slices.ContainsFunc(p.known, func(d state.Disk) bool { return d > state.Outdated })
}

// knownDisk is what is known of volume i of a peer out of sight.
func (p *peer) knownDisk(i int) state.Disk {
	if i < len(p.known) {
		return p.known[i]
	}
	return state.DUnknown
}

// fenceForPromotion fences every peer out of sight that may still be Primary, where fencing asks for it.
func (r *Resource) fenceForPromotion(ctx context.Context) {
	r.mu.Lock()
	var out []*peer
	for _, p := range r.peers {
		if !p.inSight() && !p.outdated() {
			out = append(out, p)
		}
	}
	r.mu.Unlock()
	for _, p := range out {
		r.fence(ctx, p)
	}
}

// unfenceSoon tells a peer's fence that the peer may be used again, once it is equal.
func (r *Resource) unfenceSoon(p *peer) {
	r.mu.Lock()
	on := r.fencingLocked() != fencingNone
	r.mu.Unlock()
	if on {
		r.helperSoon(p, "unfence-peer")
	}
}

// Outdate marks the data here as older than a Primary's.
func (r *Resource) Outdate(ctx context.Context) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	defer r.mu.Unlock()
	local, peers := r.viewsLocked()
	if r.att == nil {
		return state.Refused(state.SSNoLocalDisk, "attach the disk first")
	}
	if f := state.MayOutdate(local, peers); f != nil {
		return f
	}
	r.outdateLocked()
	defer r.node.changed()
	return r.att.save()
}

// outdateLocked outdates every volume that is better than that. Called with mu held; the caller saves.
func (r *Resource) outdateLocked() {
	for i := range r.att.meta.Volumes {
		v := &r.att.meta.Volumes[i]
		if v.Disk > state.Outdated && v.Disk != state.DUnknown {
			v.Disk = state.Outdated
		}
	}
	r.log.Info("disk", "is", state.Outdated)
}

// grantOutdate does what RequestOutdate asks for: the peer is Primary and leaves in order.
func (r *Resource) grantOutdate(p *peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.att == nil:
		return state.Refused(state.SSNoLocalDisk, "")
	case r.role == state.Primary:
		return state.Refused(state.SSRefusedByPeer, "%s is Primary", r.node.env.Node)
	case state.Role(p.view.Role) != state.Primary:
		return state.Refused(state.SSNotSupported, "%s is not Primary and has nothing that this side lacks", p.name)
	}
	r.outdateLocked()
	return r.att.save()
}

// leaveInOrder outdates whoever stays behind a Primary, where fencing is on: the peer, or this side itself.
func (r *Resource) leaveInOrder(s *session) {
	r.mu.Lock()
	on, role, a := r.fencingLocked() != fencingNone, r.role, r.att
	theirs := state.Role(s.peer.view.Role)
	remote := r.remote != nil || s.peer.view.Flags&frame.FlagRemote != 0 // nobody's data is older for it
	r.mu.Unlock()
	if !on || a == nil || remote {
		return
	}
	var err error
	switch {
	case role == state.Primary:
		err = r.outdatePeer(s, a)
	case theirs == state.Primary:
		r.mu.Lock()
		r.outdateLocked()
		err = a.save()
		r.mu.Unlock()
	}
	if err != nil {
		r.log.Warn("nobody was outdated", "peer", s.peer.name, "err", err)
	}
}

func (r *Resource) outdatePeer(s *session, a *attachment) error {
	reply, err := s.ask(s.ctx, frame.RequestOutdate, 0)
	if err != nil {
		return err
	}
	if reply.Code != 0 {
		return fmt.Errorf("%s refused: %s", s.peer.name, reply.Text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setPeerDiskLocked(s.peer, state.Outdated)
	return a.save()
}

func (r *Resource) awaitsFence() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fencing > 0
}
