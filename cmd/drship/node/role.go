package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"drship/internal/state"
	"drship/wan/frame"
)

// viewsLocked is what the permissions want to know. Called with mu held.
func (r *Resource) viewsLocked() (state.Local, []state.PeerView) {
	l := state.Local{Role: r.role, Fencing: r.cfg.Net.Fencing != "" && r.cfg.Net.Fencing != "dont-care", VerifyAlg: r.cfg.Net.VerifyAlg != "",
		RemoteReads: len(r.peers) == 1 && (r.att == nil || r.role == state.Primary)}
	l.Fetched = r.fetchedLocked()
	if r.att != nil {
		for i := range r.att.meta.Volumes {
			l.Disks = append(l.Disks, r.att.disk(i))
		}
	} else {
		for range r.host.Volumes {
			l.Disks = append(l.Disks, state.Diskless)
		}
	}
	var peers []state.PeerView
	for _, p := range r.peers {
		v := state.PeerView{Name: p.name, Conn: p.conn, Role: state.RoleUnknown}
		for i := range l.Disks {
			v.Disks = append(v.Disks, p.knownDisk(i))
		}
		if p.inSight() {
			v.Role = state.Role(p.view.Role)
			for i := range p.view.Volumes {
				if i < len(v.Disks) {
					v.Disks[i] = state.Disk(p.view.Volumes[i].Disk)
				}
				v.Repl = append(v.Repl, r.replLocked(p))
			}
		}
		peers = append(peers, v)
	}
	return l, peers
}

// Promote makes the resource Primary.
func (r *Resource) Promote(ctx context.Context, force bool) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	a := r.att
	if r.role == state.Primary {
		r.mu.Unlock()
		if force {
			return r.declareNew(a)
		}
		return nil
	}
	f := r.mayPromoteLocked(force)
	if f != nil && (f.Code == state.SSTwoPrimaries || f.Code == state.SSPrimaryNop && a != nil) {
		r.mu.Unlock()
		if f.Code == state.SSTwoPrimaries {
			r.awaitDemotion(ctx)
		} else {
			r.fenceForPromotion(ctx)
		}
		r.mu.Lock()
		f = r.mayPromoteLocked(force)
	}
	if f != nil {
		r.mu.Unlock()
		return f
	}
	r.wanted = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.wanted = false
		r.mu.Unlock()
	}()
	if err := r.askPeers(ctx); err != nil {
		return err
	}
	r.endServices()
	if a == nil {
		return r.promoteRemote(ctx)
	}
	idle := r.idlePeers() // what they have was not agreed on with this node
	back, err := r.settleTarget(ctx, a, force)
	if err != nil {
		return err
	}
	renegotiate, err := r.becomePrimary(a, force, back)
	if err != nil {
		return err
	}
	if renegotiate || r.partial() {
		r.renegotiate(nil)
	} else {
		if len(idle) > 0 {
			r.renegotiate(idle)
		}
		if err := r.shipToEqualPeers(a); err != nil {
			return err
		}
	}
	r.broadcastState()
	return nil
}

func (r *Resource) mayPromoteLocked(force bool) *state.Refusal {
	local, peers := r.usedLocked()
	return state.MayPromote(local, peers, force)
}

// demotionGrace is how long the word of a peer that has just been demoted may be on its way.
const demotionGrace = 500 * time.Millisecond

// awaitDemotion waits a moment for a peer to be Primary no longer: whoever demoted it and promotes this side next may be faster than its word.
func (r *Resource) awaitDemotion(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, demotionGrace)
	defer cancel()
	notices, stop := r.node.watchers.subscribe()
	defer stop()
	for {
		r.mu.Lock()
		f := r.mayPromoteLocked(true)
		r.mu.Unlock()
		if f == nil || f.Code != state.SSTwoPrimaries {
			return
		}
		select {
		case <-notices:
		case <-ctx.Done():
			return
		}
	}
}

// askPeers asks every connected peer to let this node be Primary.
func (r *Resource) askPeers(ctx context.Context) error {
	for _, s := range r.sessions() {
		reply, err := s.ask(ctx, frame.RequestPrimary, 0)
		if err != nil && s.ctx.Err() != nil {
			continue // gone meanwhile: as if it had not been connected
		}
		if err != nil {
			return err
		}
		if reply.Code != 0 {
			return refusalOf(reply)
		}
	}
	return nil
}

func (r *Resource) sessions() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*session
	for _, p := range r.peers {
		if p.inSight() {
			all = append(all, p.session)
		}
	}
	return all
}

// settleTarget brings the data to the point at which it is promoted: all that is staged, or, amid a resync, the last
// consistent point: then it reports true.
func (r *Resource) settleTarget(ctx context.Context, a *attachment, force bool) (back bool, err error) {
	for _, s := range r.sessions() {
		s.stopVerify(errVerifyStopped)
		s.stopRun()
		r.mu.Lock()
		s.targeted = false
		r.mu.Unlock()
	}
	at, undo := a.target.CanRollback()
	r.mu.Lock()
	inconsistent := a.worstDisk() < state.Outdated
	r.mu.Unlock()
	if !inconsistent || !undo || !force {
		if err := a.target.Drain(ctx); err != nil {
			return false, fmt.Errorf("apply what is staged: %w", err)
		}
		return false, nil
	}
	r.log.Warn("resync was not finished: going back to the last consistent point", "at", at)
	// The bits go first: once it is back, the target no longer knows what the source had given it.
	ranges, err := a.target.Overwritten(ctx)
	if err != nil {
		return false, fmt.Errorf("list what the resync has overwritten: %w", err)
	}
	for _, p := range a.group.Peers() {
		for _, v := range ranges {
			p.Bitmap(v.Volume).Set(v.Range)
		}
		if err := p.FlushBitmaps(); err != nil {
			return false, err
		}
	}
	if _, err := a.target.Rollback(ctx); err != nil {
		return false, fmt.Errorf("go back to the last consistent point: %w", err)
	}
	return true, nil
}

// becomePrimary makes the promotion durable and opens the volumes. It reports whether the peers have to be shaken hands
// with again, because the data now counts as better than it was.
func (r *Resource) becomePrimary(a *attachment, force, back bool) (renegotiate bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	atLeast := a.meta.Epoch
	for _, p := range r.peers {
		atLeast = max(atLeast, p.view.Position.Epoch)
	}
	if err := r.ownEndLocked(a); err != nil {
		return false, err
	}
	start, err := a.group.Begin(atLeast)
	if err != nil {
		return false, err
	}
	a.meta.Epoch = start.Epoch
	a.meta.Primary = true
	a.meta.Flags |= metaOwnOrder
	a.meta.Flags &^= metaServed | metaGivesUp
	if force && r.needsForceLocked(a) {
		if a.worstDisk() <= state.Inconsistent && !back && len(r.peers) > 1 {
			// What is here is neither what this nor what that peer has: nothing is known to be equal.
			if err := r.suspectPeers(a, func(*peer) bool { return true }); err != nil {
				return false, err
			}
		}
		r.forceUpToDateLocked(a)
		renegotiate = true
	}
	r.newGenerationLocked(a)
	a.markPrimary(true)
	if err := a.save(); err != nil {
		return false, err
	}
	r.tellLocked()
	if r.role != state.Primary {
		r.era++
	}
	r.role, r.remote, a.cured = state.Primary, nil, false
	r.showLocalLocked(a.group)
	a.group.Open()
	r.log.Info("role", "is", r.role, "epoch", fmt.Sprintf("%x", start.Epoch))
	return renegotiate, nil
}

// needsForceLocked reports whether the data here is not good, and no peer makes up for what a disk lacks. Called with mu held.
func (r *Resource) needsForceLocked(a *attachment) bool {
	_, peers := r.viewsLocked()
	for i := range a.meta.Volumes {
		lacks := a.disk(i) < state.UpToDate && !slices.ContainsFunc(peers, func(p state.PeerView) bool {
			return p.Conn == state.Connected && i < len(p.Disks) && p.Disks[i] == state.UpToDate
		})
		if lacks || a.meta.Volumes[i].Disk < state.UpToDate {
			return true
		}
	}
	return false
}

// forceUpToDateLocked declares the data here to be the good one, on the administrator's word.
func (r *Resource) forceUpToDateLocked(a *attachment) {
	for i := range a.meta.Volumes {
		lacks := a.parts[i].Missing() > 0 && !a.parts[i].Gone()
		if a.meta.Volumes[i].Disk == state.UpToDate && !lacks {
			continue
		}
		id := random()
		r.changeIDsLocked(a, i, func(ids state.IDs) state.IDs { return ids.ForceNew(id) })
		a.meta.Volumes[i].Disk = state.UpToDate
		a.meta.Volumes[i].Flags &^= volumeFirst
		if lacks {
			if err := a.parts[i].Forgive(); err != nil {
				r.log.Error("that the disk lacks nothing is not durable", "volume", a.meta.Volumes[i].Volume, "err", err)
			}
		}
	}
}

// shipToEqualPeers opens a stream to each connected peer that has none. It was equal up to now: it starts at the new
// epoch. A peer out of sight keeps its mark: what it lacks of an older epoch must stay in the journal.
func (r *Resource) shipToEqualPeers(a *attachment) error {
	for _, p := range a.group.Peers() {
		s := r.sessionOf(p.Name())
		if s == nil || s.currentSource() != nil {
			continue
		}
		p.StartHere()
		if err := r.openSource(s, a.group.End(), false); err != nil {
			return err
		}
	}
	return nil
}

func (r *Resource) sessionOf(peer string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.peerLocked(peer); p != nil && p.inSight() {
		return p.session
	}
	return nil
}

// Demote makes the resource Secondary.
func (r *Resource) Demote(ctx context.Context, force bool) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	return r.demote(ctx, force)
}

// openerGrace is how long a client that has just said good-bye may still be on its way out.
const openerGrace = time.Second

// openers says who has the resource open. Clients that hang up just before a demotion are waited for: their connection
// ends a moment after they do.
func (r *Resource) openers(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, openerGrace)
	defer cancel()
	notices, stop := r.node.watchers.subscribe()
	defer stop()
	for {
		who := r.node.exports.openers(r.name)
		if len(who) == 0 {
			return nil
		}
		select {
		case <-notices:
		case <-ctx.Done():
			return who
		}
	}
}

// demote is Demote with the token held. With force clients lose the volumes under them.
func (r *Resource) demote(ctx context.Context, force bool) error {
	if r.currentRole() != state.Primary {
		return nil
	}
	if f := state.MayDemote(r.openers(ctx)); f != nil && !force {
		return f
	}
	r.mu.Lock()
	a, remote := r.att, r.remote != nil
	r.mu.Unlock()
	if remote {
		return r.demoteRemote(ctx, force)
	}
	if r.awaitsFence() && !force {
		return state.Refused(state.SSTransientState, "I/O is frozen until the peer is fenced: answer it, or drship resume-io %s", r.name)
	}
	if err := a.group.Shut(ctx); err != nil {
		a.group.Open()
		return fmt.Errorf("wait for requests in flight: %w", err)
	}
	if err := a.group.Settle(); err != nil {
		// What cannot be made durable stays hot: the next start compares it, as after a crash.
		r.log.Error("demoted without a clean activity log", "err", err)
		r.mu.Lock()
		r.role = state.Secondary
		r.front.Store(nil)
		r.mu.Unlock()
		r.broadcastState()
		return nil
	}
	r.mu.Lock()
	r.role, r.suspend, r.fencing = state.Secondary, false, 0
	r.front.Store(nil)
	a.meta.Primary = a.crashed
	a.markPrimary(false)
	err := a.save()
	r.mu.Unlock()
	r.log.Info("role", "is", state.Secondary)
	r.broadcastState()
	return err
}

// invalidate gives up the data here: it is synced in full from a peer. With local false a peer asked for it, and sees to the
// new handshake itself once it has the answer.
func (r *Resource) invalidate(ctx context.Context, local bool) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	a := r.att
	if a == nil {
		r.mu.Unlock()
		return state.Refused(state.SSNoLocalDisk, "attach the disk first")
	}
	if local && r.servesLocallyLocked() {
		r.mu.Unlock()
		return r.invalidateServing(a)
	}
	l, peers := r.viewsLocked()
	l.RemoteReads = false
	if f := mayInvalidate(l, peers); f != nil {
		r.mu.Unlock()
		return f
	}
	for _, p := range r.peers {
		if p.inSight() {
			r.passLocked(p, state.StartingSyncT)
		}
	}
	a.setDisks(state.Inconsistent)
	a.forsakeLocked(r.peers)
	err = a.save()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, p := range a.group.Peers() {
		if err := p.SetAll(); err != nil {
			return err
		}
	}
	if local {
		r.renegotiate(nil)
	}
	return nil
}

// forsakeLocked gives up the generation of data that is worthless while no peer is in sight: whoever comes brings it all, related or not.
func (a *attachment) forsakeLocked(peers []*peer) {
	if slices.ContainsFunc(peers, (*peer).inSight) {
		return
	}
	for i := range a.meta.Volumes {
		for _, p := range peers {
			a.setIDs(i, p.name, state.Created())
		}
	}
}

// mayInvalidate lets the data go where some peer can give it back.
func mayInvalidate(l state.Local, peers []state.PeerView) *state.Refusal {
	f := state.Refused(state.SSNeedConnection, "there is no peer to sync from")
	for _, p := range peers {
		if f = state.MayInvalidate(l, p); f == nil {
			return nil
		}
	}
	return f
}

// invalidateRemote asks a peer to give up its data.
func (r *Resource) invalidateRemote(ctx context.Context, names []string) error {
	var asked []string
	for _, s := range r.sessions() {
		if !named(names, s.peer.name) {
			continue
		}
		asked = append(asked, s.peer.name)
		reply, err := s.ask(ctx, frame.RequestSyncFromMe, 0)
		if err != nil {
			return err
		}
		if reply.Code != 0 {
			return refusalOf(reply)
		}
	}
	if len(asked) == 0 {
		return state.Refused(state.SSNeedConnection, "connect first")
	}
	r.mu.Lock()
	for _, name := range asked {
		r.passLocked(r.peerLocked(name), state.StartingSyncS)
	}
	r.mu.Unlock()
	r.renegotiate(asked)
	return nil
}
