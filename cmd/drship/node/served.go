package node

import (
	"context"
	"errors"
	"fmt"

	"drship/internal/digest"
	"drship/internal/state"
	"drship/sender"
	"drship/wan/frame"
)

// service is what this side does for a Primary without a good disk. Guarded by Resource.mu.
type service struct {
	server *sender.Server
	a      *attachment
}

// grantServe lets the peer's clients use the data here.
func (s *session) grantServe(ctx context.Context, arg uint64) error {
	r := s.r
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	f := r.mayServeLocked(s, arg&frame.ServeMore != 0)
	a := r.att
	on := s.service != nil
	r.mu.Unlock()
	if f != nil || on {
		return errors.Join(refusalOrNil(f))
	}
	if s.currentRun() == nil { // as a target it has applied all there is
		if err := a.target.Drain(ctx); err != nil {
			return fmt.Errorf("apply what is staged: %w", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.meta.Flags&metaServed == 0 {
		a.meta.Flags |= metaServed
		if err := a.save(); err != nil {
			return err
		}
	}
	alg, err := digest.Parse(r.digestName())
	if err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.service = &service{a: a, server: a.group.Serve(sender.ServeConfig{Link: s.link, Digest: alg, Begin: func() error { return r.serveBegins(s, a) }})}
	r.log.Info("serving the peer's clients: it has no good disk", "peer", s.peer.name)
	return nil
}

func refusalOrNil(f *state.Refusal) error {
	if f == nil {
		return nil
	}
	return f
}

// mayServeLocked: only UpToDate data, that of nobody else, and for a Primary that was served before only if nobody else wrote here since. Called with mu held.
func (r *Resource) mayServeLocked(s *session, more bool) *state.Refusal {
	here := r.node.env.Node
	switch {
	case r.att == nil:
		return state.Refused(state.SSNoLocalDisk, "%s has no disk", here)
	case r.role == state.Primary:
		return state.Refused(state.SSTwoPrimaries, "%s is Primary", here)
	case r.wanted:
		return state.Refused(state.SSConcurrentChange, "%s is being promoted", here)
	case state.Role(s.peer.view.Role) != state.Primary:
		return state.Refused(state.SSNotSupported, "%s serves a Primary only", here)
	case len(r.peers) != 1:
		return state.Refused(state.SSNotSupported, "with more than one peer nobody is served")
	case !r.att.good():
		return state.Refused(state.SSNoUpToDateDisk, "the data of %s is %v", here, r.att.worstShown())
	case more && r.att.meta.Flags&metaServed == 0:
		return state.Refused(state.ErrDataNotCurrent, "%s was Primary, or a target, since it served; its data is not what the clients know: secondary, then primary, on the other side", here)
	}
	return nil
}

// serveBegins makes durable that this side writes now, as a promotion does. Where no stream keeps the peer's data equal it is in a generation of
// its own.
func (r *Resource) serveBegins(s *session, a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att != a || s.service == nil || r.role == state.Primary {
		return errors.New("the service has ended")
	}
	start, err := a.group.Begin(max(a.meta.Epoch, s.peer.view.Position.Epoch))
	if err != nil {
		return err
	}
	a.meta.Epoch, a.meta.Primary = start.Epoch, true
	a.meta.Flags |= metaOwnOrder
	for i := range a.meta.Volumes {
		if s.source == nil {
			a.setIDs(i, s.peer.name, a.ids(i, s.peer.name).LoseSight(random()))
		}
	}
	if err := a.save(); err != nil {
		return err
	}
	r.serving = true
	a.group.Open()
	r.log.Info("writing for the peer", "peer", s.peer.name, "epoch", fmt.Sprintf("%x", start.Epoch))
	return nil
}

// endService ends the service of a session, if there is one, and settles what it wrote. Whoever comes second waits for the first.
func (r *Resource) endService(s *session) {
	r.serviceEnds.Lock()
	defer r.serviceEnds.Unlock()
	r.mu.Lock()
	sv := s.service
	s.service = nil
	r.mu.Unlock()
	if sv == nil {
		return
	}
	sv.server.Stop()
	if !sv.server.Begun() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err := sv.a.group.Shut(ctx)
	if err == nil {
		err = sv.a.group.Settle()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = false
	if err == nil {
		sv.a.meta.Primary = sv.a.crashed
		err = sv.a.save()
	}
	if err != nil { // what is hot is compared at the next start, as after a crash
		r.log.Error("the service ended without a clean activity log", "err", err)
		return
	}
	r.log.Info("the service for the peer's clients ended", "peer", s.peer.name)
}

// endServices ends every service, before this side becomes something else. Called with the token held.
func (r *Resource) endServices() {
	r.mu.Lock()
	var all []*session
	for _, p := range r.peers {
		if p.session != nil {
			all = append(all, p.session)
		}
	}
	r.mu.Unlock()
	for _, s := range all {
		r.endService(s)
	}
}

// grantHome ends the service once the peer has everything.
func (s *session) grantHome(ctx context.Context) error {
	r := s.r
	r.mu.Lock()
	sv, src, a := s.service, s.source, r.att
	r.mu.Unlock()
	if sv == nil || a == nil {
		return state.Refused(state.SSNotSupported, "%s does not serve", r.node.env.Node)
	}
	if src == nil { // equal, and nothing was written since
		if sv.server.Begun() {
			return state.Refused(state.ErrDataNotCurrent, "%s has written, and has no stream yet", r.node.env.Node)
		}
		r.endService(s)
		return nil
	}
	if !s.awaitDrained(ctx, a) {
		return state.Refused(state.SSTransientState, "%s still has writes to send", r.node.env.Node)
	}
	r.endService(s)
	return nil
}

// servesLocked names the peer whose clients use the data here, "" where there is none. Called with mu held.
func (r *Resource) servesLocked() string {
	for _, p := range r.peers {
		if p.session != nil && p.session.service != nil && state.Role(p.view.Role) == state.Primary {
			return p.name
		}
	}
	return ""
}

// mayLeave refuses to disconnect a Primary without a good disk from the peer that serves it, unless by force.
func (r *Resource) mayLeave(names []string, force bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.remote == nil && (r.att == nil || !r.att.lacking()) {
		return nil
	}
	local, peers := r.viewsLocked()
	for _, p := range peers {
		if !named(names, p.Name) || p.Conn == state.StandAlone {
			continue
		}
		if f := state.MayDisconnect(local, peers, p, force); f != nil {
			return f
		}
	}
	return nil
}

// remoteMessage takes a message between a Primary without a disk and the side that serves it. It reports whether m is one.
func (s *session) remoteMessage(m frame.Message) (bool, error) {
	r := s.r
	switch m := m.(type) {
	case *frame.IO:
		r.mu.Lock()
		sv := s.service
		var reads *sender.Server
		serving := r.serving
		if sv == nil && m.Op == frame.OpRead {
			reads = s.readsLocked()
		}
		r.mu.Unlock()
		switch {
		case sv != nil:
			return true, sv.server.Handle(s.ctx, m)
		case reads != nil:
			return true, reads.Handle(s.ctx, m)
		case m.Op == frame.OpRead && !serving: // of a source that is not followed yet: it asks again
			return true, s.link.Send(s.ctx, &frame.IOReply{ID: m.ID, Code: frame.IOFailed})
		}
		return true, nil // whoever serves next is asked again
	case *frame.IOReply:
		r.mu.Lock()
		rem, fetch := r.remote, s.fetch
		r.mu.Unlock()
		switch {
		case rem != nil && rem.server == s:
			rem.client.Handle(m)
		case rem == nil && fetch != nil:
			fetch.Handle(m)
		}
		return true, nil
	}
	return false, nil
}
