package node

import (
	"context"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/ship"
	"drship/internal/state"
)

// scheduleTick is how often the node looks whether something scheduled is due.
const scheduleTick = 2 * time.Second

// schedules starts what is due, and keeps the turns of resyncs, until ctx ends.
func (n *Node) schedules(ctx context.Context) {
	t := time.NewTicker(scheduleTick)
	defer t.Stop()
	last := n.env.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.turns:
			n.dependencies()
		case <-t.C:
			now := n.env.Now()
			for _, r := range n.all() {
				r.scheduled(ctx, last, now)
				r.keepCeilings()
				r.tellDiskRate()
			}
			last = now
			n.dependencies()
		}
	}
}

// scheduled goes on with an interrupted verify, or starts one that is due between last and now. Only the side that sends
// does, and where neither does, the one whose name comes first.
func (r *Resource) scheduled(ctx context.Context, last, now time.Time) {
	var resume *verifyResume
	r.verifies.read(func(d *verifyData) { resume = d.Resume })
	for _, s := range r.sessions() {
		due := r.verifyDue(s, last, now)
		o := verifyOrder{volume: control.AnyVolume, scheduled: true}
		if resume != nil && resume.Peer == s.peer.name {
			o.resume = resume
		} else if !due {
			continue
		}
		if !s.leads() || !r.mayVerify(s) {
			if due {
				r.log.Info("scheduled verify does not run now", "peer", s.peer.name)
			}
			continue
		}
		if err := s.verifyHere(ctx, o); err != nil {
			r.log.Warn("scheduled verify could not start", "peer", s.peer.name, "err", err)
		}
	}
}

// leads reports whether a scheduled verify is this side's.
func (s *session) leads() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.source != nil {
		return true
	}
	// A Run without a stream is left of a verify that the peer made, or waits for a stream: the peer's either way.
	return s.run == nil && s.r.role != state.Primary && state.Role(s.peer.view.Role) != state.Primary && s.r.node.env.Node < s.peer.name
}

func (r *Resource) mayVerify(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, views := r.viewsLocked()
	for _, v := range views {
		if v.Name == s.peer.name {
			return state.MayVerify(l, v) == nil
		}
	}
	return false
}

func (r *Resource) verifyDue(s *session, last, now time.Time) bool {
	r.mu.Lock()
	text := s.peer.cfg.Net.VerifySchedule
	r.mu.Unlock()
	if text == "" {
		return false
	}
	c, err := config.ParseCron(text)
	return err == nil && ship.Due(c.Next, r.name, last, now)
}

// nextVerify is when the next verify begins by schedule; zero without one.
func (r *Resource) nextVerify(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first time.Time
	for _, p := range r.peers {
		if p.cfg.Net.VerifySchedule == "" {
			continue
		}
		c, err := config.ParseCron(p.cfg.Net.VerifySchedule)
		if err != nil {
			continue // refused when the configuration was read
		}
		if at := ship.NextRun(c.Next, r.name, now); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}
