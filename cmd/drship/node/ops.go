package node

import (
	"context"
	"errors"

	"drship/internal/state"
)

// Attach opens the disks of a resource that is diskless, or of volumes that are.
func (r *Resource) Attach(ctx context.Context, volume int) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if a := r.attachment(); a != nil {
		some, err := r.attachGone(a, volume)
		if !some {
			return state.Refused(state.ErrDiskConfigured, "")
		}
		return errors.Join(err, r.resumeVolumes(a))
	}
	return r.attachAgain(ctx)
}

// Detach closes the disks, or that of one volume. Peers that are connected stay so, and see this side Diskless.
func (r *Resource) Detach(ctx context.Context, volume int) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if a := r.attachment(); a != nil {
		if done, err := r.detachSome(ctx, a, volume); done {
			return err
		}
	}
	return r.detachDisks(ctx)
}

// detachDisks is Detach with the token held.
func (r *Resource) detachDisks(ctx context.Context) error {
	r.mu.Lock()
	local, peers := r.viewsLocked()
	a, primary, serves := r.att, r.role == state.Primary && r.remote == nil, r.servesLocked()
	r.mu.Unlock()
	if a == nil {
		return nil
	}
	if serves != "" {
		return state.Refused(state.SSNoUpToDateDisk, "%s has no good disk and uses the data here", serves)
	}
	for i := range local.Disks {
		if f := state.MayDetach(local, peers, i, false); f != nil {
			return f
		}
	}
	if primary {
		return r.moveToPeer(ctx, a, true)
	}
	return r.dropDisks(ctx)
}

// dropDisks closes the disks. Sessions hold on to them: they end, and come back without. Called with the token held.
func (r *Resource) dropDisks(ctx context.Context) error {
	r.mu.Lock()
	a := r.att
	r.att = nil
	r.passDisksLocked(state.Failed)
	r.mu.Unlock()
	r.renegotiate(nil)
	err := a.close(ctx)
	r.node.changed()
	return err
}

// pauseSync holds the resync with every peer, or lets it go on.
func (r *Resource) pauseSync(on, keep bool) error {
	r.mu.Lock()
	pauses := state.Pauses{User: r.paused, Dependency: r.waits}
	for _, p := range r.peers {
		pauses.Peer = pauses.Peer || p.pausesUs()
	}
	var f *state.Refusal
	if on {
		f = state.MayPauseSync(pauses)
	} else {
		f = state.MayResumeSync(pauses)
	}
	if f != nil {
		r.mu.Unlock()
		return f
	}
	r.paused = on
	err := r.keepLocked(metaPauseSync, on && keep)
	r.mu.Unlock()
	r.applyPauses()
	r.broadcastState()
	return err
}

// keepLocked makes a pause outlast restarts, or ends that. Called with mu held.
func (r *Resource) keepLocked(flag uint32, on bool) error {
	a := r.att
	switch {
	case a == nil && on:
		return state.Refused(state.SSNoLocalDisk, "what is to last is kept with the metadata: attach first")
	case a == nil || a.meta.Flags&flag != 0 == on:
		return nil
	}
	a.meta.Flags ^= flag
	return a.save()
}

// hold holds replication to every peer, or lets it go on. The journal goes on growing.
func (r *Resource) hold(on, keep bool) error {
	r.mu.Lock()
	r.held = on
	err := r.keepLocked(metaHold, on && keep)
	var sources []*source
	for _, p := range r.peers {
		if p.session != nil && p.session.source != nil {
			sources = append(sources, p.session.source)
		}
	}
	r.mu.Unlock()
	for _, src := range sources {
		src.stream.Hold(on)
	}
	r.broadcastState()
	return err
}

// suspendIO holds back requests on an administrator's word.
func (r *Resource) suspendIO(ctx context.Context) error {
	r.mu.Lock()
	a, rem := r.att, r.remote
	r.mu.Unlock()
	var err error
	switch {
	case rem != nil:
		err = rem.client.Suspend(ctx)
	case a != nil:
		err = a.group.Suspend(ctx)
	default:
		return state.Refused(state.SSNoLocalDisk, "")
	}
	if err != nil {
		return errors.Join(err, r.resumeIO())
	}
	r.mu.Lock()
	r.suspend = true
	r.mu.Unlock()
	r.node.changed()
	return nil
}

// resumeIO lets requests go on: those that an administrator held back, and those that wait for a peer to be fenced, on the
// administrator's word that it is.
func (r *Resource) resumeIO() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.att
	if r.remote != nil {
		r.suspend = false
		r.remote.client.Resume()
		r.node.changed()
		return nil
	}
	if a == nil {
		return state.Refused(state.SSNoLocalDisk, "")
	}
	if r.fencing > 0 {
		if err := r.goOnAloneLocked(a); err != nil {
			return err
		}
	}
	r.suspend, r.fencing = false, 0
	a.group.Resume()
	r.node.changed()
	return nil
}
