package node

import (
	"context"
	"errors"
	"reflect"
	"time"

	"drship/internal/state"
	"drship/wan/frame"
)

// What a source tells its targets of the other peers, and what that makes of the identifiers.

// newsLoop tells the targets now and then how far the others have come.
func (r *Resource) newsLoop(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.tell()
		case <-ctx.Done():
			return
		}
	}
}

// tellLocked gives every stream what its target does not know yet. Writes that are submitted after it returns are behind it in each stream.
// Called with mu held, and with the metadata saved.
func (r *Resource) tellLocked() {
	if len(r.peers) < 2 || r.att == nil {
		return
	}
	for _, p := range r.peers {
		s := p.session
		if s == nil || s.source == nil {
			continue
		}
		if m := r.newsLocked(s); !reflect.DeepEqual(m, s.news) {
			s.news = m
			s.source.stream.Tell(m)
		}
	}
}

// tell is tellLocked without the lock.
func (r *Resource) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tellLocked()
}

func (r *Resource) newsLocked(s *session) *frame.Peers {
	a, m := r.att, &frame.Peers{}
	for i := range a.meta.Volumes {
		ids := a.ids(i, s.peer.name)
		m.UUIDs, m.Older = append(m.UUIDs, toWire(ids)), append(m.Older, ids.Older)
	}
	for _, p := range r.peers {
		if p == s.peer {
			continue
		}
		o := frame.OtherPeer{Name: p.name}
		for i := range a.meta.Volumes {
			o.Bitmap = append(o.Bitmap, a.ids(i, p.name).Bitmap)
		}
		if gp := a.group.Peer(p.name); gp != nil && p.inSight() && p.session.source != nil {
			if staged, ok := gp.InStep(); ok {
				o.InStep, o.Staged = true, staged
			}
		}
		m.Others = append(m.Others, o)
	}
	return m
}

// Told takes over what the source says of itself and of others.
func (h hooks) Told(_ context.Context, m *frame.Peers) error {
	r := h.r
	r.mu.Lock()
	a, s := r.att, r.targetSessionLocked()
	if a == nil || s == nil || len(m.UUIDs) != len(a.meta.Volumes) {
		r.mu.Unlock()
		return errors.New("the source speaks of volumes that there are none of")
	}
	changed, slots := r.hearLocked(a, s, m)
	var err error
	if changed || slots {
		err = a.save()
	}
	settled := s.adopt == nil && s.repl == state.Connected && a.worstDisk() == state.UpToDate
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, o := range m.Others {
		if settled && o.InStep {
			a.target.OtherHas(o.Name, o.Staged)
		}
	}
	if changed {
		r.broadcastState()
	}
	return nil
}

// hearLocked takes over identifiers: the source's own, at once or at the end of the resync that runs, and those of its slots. Called with mu
// held; the caller saves.
func (r *Resource) hearLocked(a *attachment, s *session, m *frame.Peers) (changed, slots bool) {
	for i := range a.meta.Volumes {
		theirs, ours := fromWire(m.UUIDs[i]), a.ids(i, s.peer.name)
		theirs.Older = m.Older[i]
		switch {
		case s.adopt != nil && s.shares[i] == shareResync:
			s.adopt[i] = theirs
		case s.adopt != nil && s.shares[i] == shareNone:
		case ours.Adopt(theirs) != ours:
			a.setIDs(i, s.peer.name, ours.Adopt(theirs))
			slots = true
			changed = changed || (theirs.Current^ours.Current)&^1 != 0
		}
		for _, o := range m.Others {
			if o.Name == s.peer.name || r.peerLocked(o.Name) == nil {
				continue
			}
			if ids := a.ids(i, o.Name); ids.Bitmap != o.Bitmap[i] {
				ids.Bitmap = o.Bitmap[i]
				a.setIDs(i, o.Name, ids)
				slots = true
			}
		}
	}
	return changed, slots
}

// rotateLocked begins a new generation on a volume. Called with mu held; the caller saves, and tells.
func (r *Resource) rotateLocked(a *attachment, i int) bool {
	g := state.Generation{IDs: a.ids(i, "")}
	for _, p := range r.peers {
		s := state.Slot{Bitmap: a.ids(i, p.name).Bitmap, Sharing: a.sharing(i, p.name), InSight: p.inSight()}
		if s.InSight && i < len(p.view.Volumes) {
			s.Has = p.view.Volumes[i].UUIDs.Current
		}
		g.Slots = append(g.Slots, s)
	}
	next, ok := g.Rotate(random())
	if !ok {
		return false
	}
	for k, p := range r.peers {
		ids := next.IDs
		if len(r.peers) == 1 { // several peers tell each other all that they remember
			ids = ids.Keep(a.ids(i, p.name), p.has(i))
		}
		ids.Bitmap = next.Slots[k].Bitmap
		a.setIDs(i, p.name, ids)
		a.setSharing(i, p.name, next.Slots[k].Sharing)
	}
	return true
}

// has is the generation of a volume's data that the peer was heard to have last; 0 where it was not heard.
func (p *peer) has(i int) uint64 {
	if i >= len(p.view.Volumes) {
		return 0
	}
	return p.view.Volumes[i].UUIDs.Current
}

// sharing reports whether a peer may have Current although its slot names another generation: it was told of Current, and did not confirm
// it yet.
func (a *attachment) sharing(i int, peer string) bool {
	for _, p := range a.meta.Volumes[i].Peers {
		if p.Name == peer {
			return p.Flags&peerSharing != 0
		}
	}
	return false
}

// setSharing notes that; save makes it durable.
func (a *attachment) setSharing(i int, peer string, on bool) {
	for k := range a.meta.Volumes[i].Peers {
		if p := &a.meta.Volumes[i].Peers[k]; p.Name == peer {
			p.Flags &^= peerSharing
			if on {
				p.Flags |= peerSharing
			}
		}
	}
}

// startsSync is what the start of a stream means for the identifiers here. With several peers a slot goes on naming what the peer has, which
// keeps the name until the end; where that is no name, both get one.
func (r *Resource) startsSync(a *attachment, i int, peer string, id uint64) state.IDs {
	ids := a.ids(i, peer)
	if len(r.peers) < 2 {
		return ids.StartSyncSource(id).Keep(ids, r.peerLocked(peer).has(i))
	}
	if v := r.peerLocked(peer).view.Volumes; ids.Bitmap == state.JustCreated || ids.Bitmap == 0 && i < len(v) && v[i].UUIDs.Current == state.JustCreated {
		ids = ids.StartSyncSource(id)
	}
	a.setIDs(i, peer, ids)
	a.setSharing(i, peer, ids.Bitmap != 0)
	return ids
}
