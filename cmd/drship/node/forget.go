package node

import (
	"context"
	"fmt"
	"slices"

	"drship/cmd/drship/control"
	"drship/internal/state"
	"drship/journal"
)

// verbForgetPeer frees what is kept for a peer that will not come back, whether it is in the configuration still or not: its slots of generation
// identifiers, its bitmaps, and what the journal holds for it. Should it come back, everything is taken to differ.
func verbForgetPeer(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	if q.Peer == "" {
		return nil, &refused{exit: control.ExitUsage, text: "forget-peer wants the name of a peer", hint: "drship forget-peer " + r.name + ":PEER"}
	}
	if r.attachment() == nil {
		return nil, r.withStore(ctx, func(s *journal.Store) error {
			meta, err := s.Meta()
			if err != nil {
				return err
			}
			return forgetStored(s, &meta, q.Peer)
		})
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	a := r.attachment()
	if a == nil {
		return nil, state.Refused(state.SSTransientState, "the disks were detached meanwhile; try again")
	}
	return nil, r.forget(a, q.Peer)
}

// forget is verbForgetPeer with the disks attached and the token held.
func (r *Resource) forget(a *attachment, name string) error {
	if r.anyWanted(name) {
		return state.Refused(state.ErrNetConfigured, "%s is connected, or being waited for; disconnect first: drship disconnect %s:%s", name, r.name, name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.peerLocked(name); p != nil {
		p.known = nil
	}
	meta := a.whole()
	if err := forgetStored(a.store, &meta, name); err != nil {
		return err
	}
	if err := a.divide(meta, r.host.Volumes); err != nil {
		return err
	}
	if p := a.group.Peer(name); p != nil {
		if err := p.Forget(); err != nil {
			return fmt.Errorf("free the journal of %s: %w", name, err)
		}
	}
	r.log.Info("forgotten", "peer", name)
	return nil
}

// forgetStored takes a peer out of the metadata, and then its bitmaps away: one without a slot is never taken for equal, so that a crash in between
// costs a full sync at most.
func forgetStored(s *journal.Store, meta *journal.Meta, name string) error {
	known := false
	for i := range meta.Volumes {
		v := &meta.Volumes[i]
		at := slices.IndexFunc(v.Peers, func(p journal.PeerMeta) bool { return p.Name == name })
		if at < 0 {
			continue
		}
		known = true
		if id := v.Peers[at].Bitmap; id > state.JustCreated && !slices.Contains(v.History[:], id) { // what it has stays known as an older generation
			copy(v.History[1:], v.History[:])
			v.History[0] = id
		}
		v.Peers = slices.Delete(slices.Clone(v.Peers), at, at+1)
	}
	if !known {
		return &refused{exit: control.ExitRefused, text: "nothing is kept for a peer " + name, hint: "drship show-gi lists the peers of a resource that is down"}
	}
	if err := s.SetMeta(*meta); err != nil {
		return fmt.Errorf("forget peer %s: %w", name, err)
	}
	return s.ForgetPeer(name)
}
