package node

import (
	"fmt"

	"drship/internal/state"
)

// servesLocallyLocked reports whether clients use the disks here. Called with mu held.
func (r *Resource) servesLocallyLocked() bool { return r.role == state.Primary && r.remote == nil }

// invalidateServing gives up the data of a Primary that its clients go on using: they read from a peer what was not fetched from it yet. Called
// with the token held.
func (r *Resource) invalidateServing(a *attachment) error {
	r.mu.Lock()
	err := r.lackAllLocked(a)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for i, d := range a.disks {
		if err := d.Sync(); err != nil {
			return fmt.Errorf("make durable that volume %d is worthless: %w", a.meta.Volumes[i].Volume, err)
		}
	}
	r.broadcastState()
	return nil
}

// lackAllLocked notes that every disk lacks everything. Called with mu held.
func (r *Resource) lackAllLocked(a *attachment) error {
	local, peers := r.viewsLocked()
	local.RemoteReads = true
	if f := mayInvalidate(local, peers); f != nil {
		return f
	}
	for i := range a.meta.Volumes {
		if r.keeperLocked(i, nil) == nil {
			return state.Refused(state.SSNoUpToDateDisk, "no peer can serve volume %d meanwhile: it takes one that is connected, UpToDate and not behind", a.meta.Volumes[i].Volume)
		}
	}
	for i := range a.meta.Volumes {
		a.meta.Volumes[i].Flags |= volumePartial
	}
	if err := a.save(); err != nil {
		return err
	}
	for i, v := range a.meta.Volumes {
		a.parts[i].Lack(wholeVolume(v.Size))
	}
	for _, p := range r.peers {
		if p.inSight() {
			r.passLocked(p, state.StartingSyncT)
		}
	}
	return nil
}
