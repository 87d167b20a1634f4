package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drship/internal/block"
	"drship/internal/state"
	"drship/journal"
	"drship/receiver"
	"drship/wan/frame"
)

// Several peers: one node ships to all others, which keep quiet among themselves as long as it does.
//
//   - Whoever receives marks what it receives in its bitmaps against the other receivers (package receiver, others.go); the source
//     says how far each of them has come, which clears those marks again.
//   - The source's identifiers go along with the stream: its own, and those of its slots for others.
//   - Two Secondaries of which one has a source leave each other alone (state.Bystanders). Once none of them has, they shake hands
//     anew: whoever stands behind is brought up to date.
//   - A node has one source at most: a new one ends what ran before, in either direction.

const (
	// newsEvery is how often targets hear how far the others have come.
	newsEvery = 500 * time.Millisecond
	// peerSource in PeerMeta.Flags: what is staged here came from this peer.
	peerSource uint32 = 1
	// peerSharing: it was told of this side's generation, and that it has it is not known yet.
	peerSharing uint32 = 2
)

// alias reports whether the resource is meant by the name of one that stood on top of it.
func (r *Resource) alias(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg != nil && slices.Contains(r.cfg.Aliases, name)
}

// followsLocked reports whether somebody ships to this node, the peer of except left out. Called with mu held.
func (r *Resource) followsLocked(except *session) bool {
	for _, p := range r.peers {
		if s := p.session; s != nil && s != except && (s.run != nil || s.targeted) {
			return true
		}
	}
	return false
}

// severalFlagsLocked is what a State says where there is more than one peer. Called with mu held.
func (r *Resource) severalFlagsLocked(s *session) (flags uint32) {
	if len(r.peers) < 2 || r.att == nil {
		return 0
	}
	if r.followsLocked(s) {
		flags |= frame.FlagFollows
	}
	if r.att.meta.Flags&metaOwnOrder == 0 {
		flags |= frame.FlagReceived
	}
	return flags
}

// positionFor is where this side's data stands, as a peer may take it. Amid a resync it stands there for the source of that resync alone:
// another one goes by its own books, from as far back as they reach.
func (a *attachment) positionFor(peer string) block.Seq {
	if a.worstDisk() <= state.Inconsistent && a.source() != peer {
		return block.Seq{}
	}
	return a.position()
}

// source names the peer that what is staged here came from; "" if that is not known.
func (a *attachment) source() string {
	for _, p := range a.eldest().Peers {
		if p.Flags&peerSource != 0 {
			return p.Name
		}
	}
	return ""
}

// setSource notes the source; save makes it durable.
func (a *attachment) setSource(peer string) {
	for i := range a.meta.Volumes {
		a.setIDs(i, peer, a.ids(i, peer)) // there is a slot from now on
		for k := range a.meta.Volumes[i].Peers {
			p := &a.meta.Volumes[i].Peers[k]
			p.Flags &^= peerSource
			if p.Name == peer {
				p.Flags |= peerSource
			}
		}
	}
}

// others are the bitmaps that the target half marks.
func (r *Resource) others(a *attachment) []receiver.Other {
	if len(r.peers) < 2 {
		return nil
	}
	var list []receiver.Other
	for _, p := range r.peers {
		o := receiver.Other{Name: p.name, Bitmaps: map[uint16]*journal.Bitmap{}}
		for _, v := range a.meta.Volumes {
			o.Bitmaps[v.Volume] = a.group.Peer(p.name).Bitmap(v.Volume)
		}
		list = append(list, o)
	}
	return list
}

// meetPeers prepares an attachment for several peers: one that there is no slot for was never compared with the data here, and may lack
// all of it.
func (r *Resource) meetPeers(a *attachment) error {
	applied, _ := a.store.Staging().Marks()
	a.target.SetSource(a.source(), applied)
	if a.untouched() {
		return nil // it has no data to compare yet
	}
	return r.suspectPeers(a, func(p *peer) bool { return !a.hasSlot(p.name) })
}

func (a *attachment) hasSlot(peer string) bool {
	for _, p := range a.eldest().Peers {
		if p.Name == peer {
			return true
		}
	}
	return false
}

// suspectPeers marks everything as different from the chosen peers, and then gives them a slot. The caller saves.
func (r *Resource) suspectPeers(a *attachment, chosen func(p *peer) bool) error {
	for _, p := range r.peers {
		gp := a.group.Peer(p.name)
		if gp == nil || !chosen(p) {
			continue
		}
		if err := gp.SetAll(); err != nil {
			return fmt.Errorf("mark everything as different from %s: %w", p.name, err)
		}
		for i := range a.meta.Volumes {
			a.setIDs(i, p.name, a.ids(i, p.name))
		}
	}
	return nil
}

// hearsFirst reports whether this side waits for the peer's state before it takes its own token: of two nodes the one whose name sorts first
// takes its token first, so that three nodes never wait for each other in a ring.
func (r *Resource) hearsFirst(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.peers) > 1 && s.peer.name < r.node.env.Node
}

// settledState is what this side says of itself in a handshake. Unless somebody ships to it, it applies what is staged before: then every
// block that the peer may lack is marked. Called with the token held.
func (r *Resource) settledState(ctx context.Context, s *session) (*frame.State, error) {
	for drained := false; ; drained = true {
		r.mu.Lock()
		a := r.att
		if drained || a == nil || len(r.peers) < 2 || r.followsLocked(s) {
			m := r.stateLocked(s)
			s.turn = r.turn
			r.mu.Unlock()
			return m, nil
		}
		r.mu.Unlock()
		if err := drain(ctx, a); err != nil {
			return nil, fmt.Errorf("apply what is staged: %w", err)
		}
	}
}

// drain applies what is staged, once a run that is on its way out lets it.
func drain(ctx context.Context, a *attachment) error {
	for {
		err := a.target.Drain(ctx)
		if !errors.Is(err, receiver.ErrBusy) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// aside deals with a peer, or a node here, that has a source. It reports true where the two leave each other alone; otherwise one of them is
// Primary, the other gives its source up, and both say anew where they stand.
func (r *Resource) aside(ctx context.Context, s *session, mine, theirs *frame.State) (bool, *frame.State, *frame.State, error) {
	if (mine.Flags|theirs.Flags)&frame.FlagFollows == 0 {
		return false, mine, theirs, nil
	}
	if state.Bystanders(attends(mine), attends(theirs)) {
		r.mu.Lock()
		s.peer.view = *theirs
		s.peer.explain = []string{"a third node ships to this one or to the peer: the two leave each other alone until it is gone"}
		r.mu.Unlock()
		r.becomeReady(s, state.Connected)
		return true, mine, theirs, s.sendState(0) // what changed before it was ready
	}
	if mine.Flags&frame.FlagFollows != 0 {
		r.endOthers(s)
	}
	mine, theirs, err := r.again(ctx, s)
	return false, mine, theirs, err
}

// attends is what Bystanders wants to know.
func attends(s *frame.State) state.Side {
	return state.Side{Role: state.Role(s.Role), Follows: s.Flags&frame.FlagFollows != 0}
}

// expectSource notes that the peer is about to ship to this side.
func (r *Resource) expectSource(s *session) {
	r.mu.Lock()
	s.targeted = len(r.peers) > 1
	r.mu.Unlock()
}

// takeTurn lets the peer ship to this side, unless another one has begun to since the two agreed on who has what.
func (r *Resource) takeTurn(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.peers) > 1 && s.turn != r.turn {
		return errRenegotiate
	}
	r.turn++
	s.turn, s.targeted = r.turn, true
	return nil
}

// endOthers ends every other session that data flows over, in either direction, and waits for it.
func (r *Resource) endOthers(s *session) {
	r.mu.Lock()
	var ending []*session
	for _, p := range r.peers {
		if o := p.session; o != nil && o != s && !o.idleLocked() {
			ending = append(ending, o)
		}
	}
	r.mu.Unlock()
	for _, o := range ending {
		o.end(errRenegotiate)
		<-o.done
	}
}

// idleLocked reports whether no data flows over the session. Called with mu held.
func (s *session) idleLocked() bool { return s.source == nil && s.run == nil && !s.targeted }

// settlesAnewLocked reports whether two Secondaries that left each other alone have to be shaken hands with again, because nobody ships to
// either any more. Called with mu held.
func (r *Resource) settlesAnewLocked(s *session) bool {
	return len(r.peers) > 1 && s.ready && s.idleLocked() && r.att != nil && r.role != state.Primary && state.Role(s.peer.view.Role) != state.Primary &&
		!r.followsLocked(s) && s.peer.view.Flags&frame.FlagFollows == 0
}

// sourceGone has idle sessions begin anew once the source that kept them idle is gone.
func (r *Resource) sourceGone() {
	r.mu.Lock()
	var ending []*session
	for _, p := range r.peers {
		if s := p.session; s != nil && r.settlesAnewLocked(s) {
			ending = append(ending, s)
		}
	}
	r.mu.Unlock()
	for _, s := range ending {
		s.end(errRenegotiate)
	}
}

// idlePeers are the connected peers over whose sessions no data flows.
func (r *Resource) idlePeers() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.peers) < 2 {
		return nil
	}
	for _, p := range r.peers {
		if p.inSight() && p.session.idleLocked() {
			names = append(names, p.name)
		}
	}
	return names
}

// otherPrimaryLocked names a Primary that this node sees beside a peer; "" if there is none. Called with mu held.
func (r *Resource) otherPrimaryLocked(than *peer) string {
	for _, p := range r.peers {
		if p != than && p.inSight() && state.Role(p.view.Role) == state.Primary {
			return p.name
		}
	}
	return ""
}

// changeSourceLocked notes who ships to this side now, and what that means for the others: a node that had no data yet knows of nothing that
// it shares with them. Called with mu held; the caller saves.
func (r *Resource) changeSourceLocked(a *attachment, s *session, m *frame.StreamStart) error {
	if len(r.peers) < 2 {
		return nil
	}
	if m.Mode != frame.ModeAhead && a.untouched() {
		if err := r.suspectPeers(a, func(p *peer) bool { return p != s.peer }); err != nil {
			return err
		}
	}
	a.setSource(s.peer.name)
	a.target.SetSource(s.peer.name, m.From)
	return nil
}

// ownEnd makes where this side stands by what it received the end of its own write order, before it ships to anybody.
func (r *Resource) ownEnd(a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ownEndLocked(a)
}

func (r *Resource) ownEndLocked(a *attachment) error {
	if len(r.peers) < 2 || a.meta.Flags&metaOwnOrder != 0 {
		return nil
	}
	_, staged := a.store.Staging().Marks()
	return a.group.Rebase(staged)
}
