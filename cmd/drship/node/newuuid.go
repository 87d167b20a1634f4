package node

import (
	"context"
	"slices"

	"drship/cmd/drship/control"
	"drship/internal/state"
	"drship/journal"
	"drship/wan/frame"
)

// verbNewUUID begins a new data generation. With clear-bitmap a fresh pair declares its disks equal, so that no first synchronisation is
// needed, nor for a volume that was added; without it the generation is begun against the peers that are out of sight.
func verbNewUUID(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	r.mu.Lock()
	a := r.att
	local, peers := r.viewsLocked()
	r.mu.Unlock()
	if a == nil {
		return nil, state.Refused(state.SSNoLocalDisk, "attach the disk first")
	}
	if !q.Yes("clear-bitmap") {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.newGenerationLocked(a) {
			return nil, state.Refused(state.ErrConnected, "no peer is out of sight whose data is the same as here")
		}
		if err := a.save(); err != nil {
			return nil, err
		}
		r.tellLocked()
		return nil, nil
	}
	if !a.declares(q.Volume) {
		return nil, notFresh(r.node.env.Node)
	}
	if q.Volume != control.AnyVolume && a.fresh() > 1 {
		return nil, &refused{exit: control.ExitUsage, text: "the volumes of a resource that have no data yet are declared equal together", hint: "drship new-current-uuid --clear-bitmap " + r.name}
	}
	if a.fresh() < len(a.meta.Volumes) { // nobody is at work on those that are declared
		local.Role = state.Secondary
		for i := range peers {
			peers[i].Role = state.Secondary
		}
	}
	if f := state.MayDeclareEqual(local, peers); f != nil {
		return nil, f
	}
	if r.lacksNew() {
		return nil, state.Refused(state.SSNoRemoteDisk, "a peer has no such volume yet: adjust it first")
	}
	if err := r.declareAll(ctx, a); err != nil {
		return nil, err
	}
	r.renegotiate(nil)
	return nil, nil
}

// fresh is how many volumes have no data yet.
func (a *attachment) fresh() (n int) {
	for i := range a.meta.Volumes {
		if untouched(&a.meta.Volumes[i]) {
			n++
		}
	}
	return n
}

// declares reports whether the volume that a request means, or any where it means all, has no data yet.
func (a *attachment) declares(number int) bool {
	return slices.ContainsFunc(a.meta.Volumes, func(v journal.VolumeMeta) bool {
		return untouched(&v) && (number == control.AnyVolume || number == int(v.Volume))
	})
}

// lacksNew reports whether a peer in sight has data where a volume here has none, or no such volume.
func (r *Resource) lacksNew() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		for i, v := range p.view.Volumes {
			if i < len(r.att.meta.Volumes) && untouched(&r.att.meta.Volumes[i]) && v.UUIDs.Current != state.JustCreated {
				return true
			}
		}
	}
	return false
}

// declareAll declares the data here and at every connected peer equal; new handshakes have to follow. Called with the token held.
func (r *Resource) declareAll(ctx context.Context, a *attachment) error {
	id := random()
	for _, s := range r.sessions() {
		if _, err := s.require(ctx, frame.RequestNewUUIDs, id); err != nil {
			return err
		}
	}
	return r.declareEqual(a, id)
}

func notFresh(node string) *state.Refusal {
	return state.Refused(state.ErrDataNotCurrent, "%s has data already, not just metadata that was created: it cannot be declared equal", node)
}

// untouched reports whether nothing has happened to the data since create-md.
func (a *attachment) untouched() bool {
	return !slices.ContainsFunc(a.meta.Volumes, func(v journal.VolumeMeta) bool { return !untouched(&v) })
}

// grantNewUUIDs declares the data here equal to the peer's, on the peer's word.
func (r *Resource) grantNewUUIDs(ctx context.Context, id uint64) frame.Reply {
	release, err := r.acquire(ctx)
	if err != nil {
		return refusal(err)
	}
	defer release()
	a := r.attachment()
	switch {
	case a == nil:
		return reply(state.Refused(state.SSNoLocalDisk, "%s has no disk", r.node.env.Node))
	case r.currentRole() == state.Primary && a.untouched() || a.fresh() == 0:
		return reply(notFresh(r.node.env.Node))
	}
	return refusal(r.declareEqual(a, id))
}

// declareEqual takes over the generation that both sides are said to have, for the volumes without data.
func (r *Resource) declareEqual(a *attachment, id uint64) error {
	for _, p := range a.group.Peers() {
		for i, v := range a.meta.Volumes {
			if untouched(&a.meta.Volumes[i]) {
				p.Bitmap(v.Volume).ClearAll()
			}
		}
		if err := p.FlushBitmaps(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range a.meta.Volumes {
		if !untouched(&a.meta.Volumes[i]) {
			continue
		}
		r.changeIDsLocked(a, i, func(ids state.IDs) state.IDs { return ids.ClearBitmap(id) })
		a.meta.Volumes[i].Disk = state.UpToDate
		a.meta.Volumes[i].Flags &^= volumeCarried
	}
	if r.role == state.Primary {
		a.markPrimary(true)
	}
	return a.save()
}
