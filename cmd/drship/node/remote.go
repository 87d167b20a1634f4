package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/digest"
	"drship/internal/state"
	"drship/sender"
	"drship/wan/frame"
)

// A Primary whose disk is gone, or not good yet, has its peer carry out the requests of its clients. The peer makes the write order then, as a
// Primary does: what it writes stands in its journal or bitmap, and comes here by catch-up or resync once a disk is attached. When that is
// done the order comes home: requests are held for a moment, the peer ends its service, and this node goes on in an epoch of its own.

const (
	moveTimeout = 20 * time.Second // for the peer to apply all there is, before it serves
	remoteGrace = 10 * time.Second // for a session that this side ended itself to come back, while requests wait
	remoteRetry = time.Second      // between two tries to be served, or to come home
)

// remoteIO is what a Primary without a good disk has. Guarded by Resource.mu.
type remoteIO struct {
	client *sender.Remote
	server *session // whose peer serves; nil while none does
	used   bool     // a peer has served: only one that has all of that may go on
	waits  uint64   // counts the times that it began to wait for a peer
}

// servantLocked is the session whose peer can carry out this node's requests: it has all that was written, or gets it by journal. With more than
// one peer there is none: the others would not hear of what is written. Called with mu held.
func (r *Resource) servantLocked() *session {
	if len(r.peers) != 1 || !r.peers[0].inSight() {
		return nil
	}
	p := r.peers[0]
	if !p.cfg.Net.AllowRemoteRead {
		return nil
	}
	for _, v := range p.view.Volumes {
		if state.Disk(v.Disk) != state.UpToDate {
			return nil
		}
	}
	if r.att != nil && (p.session.source == nil || p.session.source.stream.Mode() != frame.ModeJournal) {
		return nil
	}
	return p.session
}

// moveToPeer gives the disks up and lets the peer serve. With clean the disks are good up to here: what is missing later is only what the peer
// has written. Clients see a pause. Called with the token held; where it fails, everything is as before.
func (r *Resource) moveToPeer(ctx context.Context, a *attachment, clean bool) error {
	r.mu.Lock()
	s := r.servantLocked()
	r.mu.Unlock()
	if s == nil {
		return state.Refused(state.SSNoUpToDateDisk, "no peer can serve: it takes one connected peer that is UpToDate")
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	err := a.group.Suspend(ctx)
	if err == nil {
		err = s.awaitApplied(ctx, a)
	}
	if err == nil {
		err = r.leaveDisks(a, clean)
	}
	if err != nil {
		r.mu.Lock()
		if !r.suspend && r.fencing == 0 {
			a.group.Resume()
		}
		r.mu.Unlock()
		return fmt.Errorf("hand over to %s: %w", s.peer.name, err)
	}
	r.renegotiate([]string{s.peer.name})
	if err := a.close(context.WithoutCancel(ctx)); err != nil {
		r.log.Warn("disks were given up, not without errors", "err", err)
	}
	r.node.changed()
	return nil
}

// awaitApplied returns when the peer has everything on its disk.
func (s *session) awaitApplied(ctx context.Context, a *attachment) error {
	p := a.group.Peer(s.peer.name)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.Marks().Applied.Less(a.group.End()) {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ctx.Done():
			return fmt.Errorf("it still lacks writes: %w", ctx.Err())
		}
	}
	return nil
}

// leaveDisks makes durable that the data here is not the newest any more, and turns the clients to the peer. Requests are held.
func (r *Resource) leaveDisks(a *attachment, clean bool) error {
	if clean {
		if err := a.group.Settle(); err != nil {
			r.log.Warn("the disk cannot be left in order: what was hot is compared when it is back", "err", err)
			clean = false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := a.meta
	a.meta.Volumes = append(a.meta.Volumes[:0:0], a.meta.Volumes...)
	left := state.Inconsistent
	if clean {
		left = state.Outdated
	}
	for i := range a.meta.Volumes {
		a.meta.Volumes[i].Disk = min(a.meta.Volumes[i].Disk, left)
	}
	a.meta.Primary = a.crashed || !clean
	if err := a.save(); err != nil {
		a.meta = before
		return err
	}
	sizes := map[uint16]int64{}
	for _, v := range a.meta.Volumes {
		sizes[v.Volume] = v.Size
	}
	r.att = nil
	r.passDisksLocked(state.Failed)
	r.startRemoteLocked(sizes)
	return nil
}

// startRemoteLocked turns the clients to whichever peer comes to serve. Called with mu held.
func (r *Resource) startRemoteLocked(sizes map[uint16]int64) {
	alg, err := digest.Parse(r.digestName())
	if err != nil {
		alg = digest.CRC32C
	}
	r.remote = &remoteIO{client: sender.NewRemote(sender.RemoteConfig{Sizes: sizes, Digest: alg, Logger: r.log})}
	if r.suspend {
		_ = r.remote.client.Suspend(r.node.helpers.ctx) // nobody is inside yet, so that it does not wait
	}
	r.showRemoteLocked(r.remote.client, sizes)
	r.waitForPeerLocked(remoteGrace)
}

// waitForPeerLocked lets requests wait for a peer: for as long as grace, and then as on-no-data-accessible says. Called with mu held.
func (r *Resource) waitForPeerLocked(grace time.Duration) {
	rem := r.remote
	rem.server = nil
	rem.client.Lost()
	rem.waits++
	n := rem.waits
	if r.cfg.Options.OnNoDataAccessible == "suspend-io" {
		return
	}
	if grace == 0 {
		rem.client.Fail()
		return
	}
	ctx := r.node.helpers.ctx
	r.node.helpers.goDo(func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.remote == rem && rem.waits == n && rem.server == nil {
			r.log.Error("no data accessible: no disk here and no peer that serves; requests fail")
			rem.client.Fail()
			r.node.changed()
		}
	})
}

// remoteLostLocked is called as a session ends. Called with mu held.
func (r *Resource) remoteLostLocked(s *session, reason error) {
	if r.remote == nil || r.remote.server != s {
		return
	}
	grace := time.Duration(0)
	if comesBack(reason) {
		grace = remoteGrace
	} else {
		r.helperSoon(s.peer, "pri-on-incon-degr")
		r.log.Error("the peer that served is gone", "peer", s.peer.name, "on-no-data-accessible", r.cfg.Options.OnNoDataAccessible)
	}
	r.waitForPeerLocked(grace)
}

// seekService asks the peer to serve until it does, and comes home when the disk here is good again. It is part of the session.
func (r *Resource) seekService(s *session) {
	tick := time.NewTicker(remoteRetry)
	defer tick.Stop()
	said := ""
	for {
		served, err := r.askService(s)
		if served {
			r.awaitHome(s)
			return
		}
		if err == nil || s.ctx.Err() != nil {
			return // nothing to be served, or nobody to serve it
		}
		if text := err.Error(); text != said {
			r.log.Error("the peer does not serve", "peer", s.peer.name, "err", err)
			said = text
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// askService asks the peer once. It returns false and no error where this node has no need of it.
func (r *Resource) askService(s *session) (bool, error) {
	r.mu.Lock()
	rem := r.remote
	needed := rem != nil && rem.server == nil
	arg := uint64(0)
	if needed && rem.used {
		arg = frame.ServeMore
	}
	r.mu.Unlock()
	if !needed {
		return false, nil
	}
	reply, err := s.ask(s.ctx, frame.RequestServe, arg)
	if err != nil {
		return false, err
	}
	if reply.Code != 0 {
		return false, refusalOf(reply)
	}
	r.mu.Lock()
	if r.remote != rem || s.ctx.Err() != nil {
		r.mu.Unlock()
		return false, nil
	}
	rem.server, rem.used = s, true
	r.mu.Unlock()
	r.log.Info("served by the peer", "peer", s.peer.name)
	r.node.changed()
	if err := rem.client.Serve(s.ctx, s.link); err != nil {
		return false, nil // the session ends
	}
	return true, nil
}

// awaitHome waits until the disk here has everything, and takes the order of writes back.
func (r *Resource) awaitHome(s *session) {
	notices, stop := r.node.watchers.subscribe()
	defer stop()
	tick := time.NewTicker(remoteRetry)
	defer tick.Stop()
	for {
		home, err := r.comeHome(s)
		if err != nil && s.ctx.Err() == nil {
			r.log.Warn("the peer serves on", "peer", s.peer.name, "err", err)
		}
		if home {
			return
		}
		select {
		case <-notices:
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		if err != nil { // not at every notice
			select {
			case <-tick.C:
			case <-s.ctx.Done():
				return
			}
		}
	}
}

// homewardLocked reports whether the disk here has, or is about to have, everything. Called with mu held.
func (r *Resource) homewardLocked(s *session) bool {
	return r.remote != nil && r.remote.server == s && r.role == state.Primary && r.att != nil && r.att.cured && !r.suspend
}

// comeHome takes the order of writes back from the peer that serves, if the disk here is good for it.
func (r *Resource) comeHome(s *session) (bool, error) {
	r.mu.Lock()
	ready := r.homewardLocked(s)
	r.mu.Unlock()
	if !ready {
		return false, nil
	}
	release, err := r.acquire(s.ctx)
	if err != nil {
		return false, err
	}
	defer release()
	r.mu.Lock()
	a, rem := r.att, r.remote
	ready = r.homewardLocked(s)
	r.mu.Unlock()
	if !ready {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
	defer cancel()
	err = rem.client.Suspend(ctx)
	if err == nil {
		err = s.endOfService(ctx)
	}
	if err != nil {
		r.resumeRemote(rem)
		return false, err
	}
	if err := r.goHome(ctx, s, a, rem); err != nil {
		r.resumeRemote(rem)
		s.end(fmt.Errorf("take the order of writes back: %w", err)) // the peer serves again in the next session
		return true, err
	}
	r.log.Info("the disk here is good again: it serves", "peer", s.peer.name)
	r.broadcastState()
	return true, nil
}

func (r *Resource) resumeRemote(rem *remoteIO) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.suspend {
		rem.client.Resume()
	}
}

// endOfService asks the peer to end its service, once it sees that this side has everything.
func (s *session) endOfService(ctx context.Context) error {
	reply, err := s.ask(ctx, frame.RequestHome, 0)
	if err != nil {
		return err
	}
	if reply.Code == int32(state.ErrDataNotCurrent) { // it began to write after the handshake found both equal
		s.end(errRenegotiate)
	}
	if reply.Code != 0 {
		return refusalOf(reply)
	}
	return nil
}

// goHome makes this node the one that writes. Nothing is under way: the peer has ended its service, and everything it had is here.
func (r *Resource) goHome(ctx context.Context, s *session, a *attachment, rem *remoteIO) error {
	s.stopVerify(errVerifyStopped)
	s.stopRun()
	if err := a.target.Drain(ctx); err != nil {
		return fmt.Errorf("apply what is staged: %w", err)
	}
	r.mu.Lock()
	a.setDisks(state.UpToDate)
	r.mu.Unlock()
	if _, err := r.becomePrimary(a, false, false); err != nil {
		r.mu.Lock()
		a.setDisks(state.Outdated)
		r.mu.Unlock()
		return err
	}
	rem.client.Close() // what was held goes to the disk here
	return r.shipToEqualPeers(a)
}

// promoteRemote makes a node without a disk Primary, on its peer's data. Called with the token held.
func (r *Resource) promoteRemote(ctx context.Context) error {
	r.mu.Lock()
	s := r.servantLocked()
	if s == nil {
		r.mu.Unlock()
		return state.Refused(state.SSNoUpToDateDisk, "there is no disk here, and no single connected peer that is UpToDate and could serve")
	}
	sizes := map[uint16]int64{}
	for _, v := range s.peer.view.Volumes {
		sizes[v.Volume] = v.Size
	}
	r.role = state.Primary
	r.era++
	r.startRemoteLocked(sizes)
	r.mu.Unlock()
	r.broadcastState()
	served, err := r.askService(s)
	if served {
		s.work.Go(func() { r.awaitHome(s) })
		r.log.Info("role", "is", state.Primary, "served by", s.peer.name)
		return nil
	}
	r.mu.Lock()
	r.endRemoteLocked()
	r.mu.Unlock()
	r.broadcastState()
	if err == nil {
		err = fmt.Errorf("the connection to %s broke", s.peer.name)
	}
	return errors.Join(err, ctx.Err())
}

// demoteRemote makes a Primary without a good disk Secondary. Called with the token held.
func (r *Resource) demoteRemote(ctx context.Context, force bool) error {
	r.mu.Lock()
	rem := r.remote
	r.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if rem.client.Served() || !force {
		if err := rem.client.Suspend(wait); err != nil && !force {
			r.resumeRemote(rem)
			return fmt.Errorf("wait for requests in flight: %w", err)
		}
	}
	r.mu.Lock()
	r.endRemoteLocked()
	var err error
	if a := r.att; a != nil && a.cured {
		a.setDisks(state.UpToDate)
		err = a.save()
	}
	r.mu.Unlock()
	r.log.Info("role", "is", state.Secondary)
	r.broadcastState()
	return err
}

// endRemoteLocked takes the volumes from the clients. Called with mu held.
func (r *Resource) endRemoteLocked() {
	rem := r.remote
	r.role, r.remote, r.suspend, r.fencing = state.Secondary, nil, false, 0
	r.front.Store(nil)
	rem.client.Close()
}

// goodDiskLocked is the state of a disk that has become equal to the peer's: Outdated where that is. While the peer serves this node's clients it writes on: what is here is a little
// older until the order of writes comes home. Called with mu held.
func (r *Resource) goodDiskLocked(a *attachment, peer state.Disk) state.Disk {
	if peer == state.Outdated {
		return state.Outdated
	}
	if r.remote == nil {
		return state.UpToDate
	}
	a.cured = true
	return state.Outdated
}

// noData reports whether requests wait for want of a peer that serves.
func (m *remoteIO) noData() bool { return !m.client.Served() && !m.client.Failing() }
