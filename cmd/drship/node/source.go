package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/ship"
	"drship/internal/state"
	"drship/sender"
	"drship/wan/frame"
)

// crashDigest compares what was hot in a crash when the configuration names no csums-alg: nearly all of it is equal.
const crashDigest = digest.SHA256

// openSource starts to ship to a peer that stands at position. Called with the token held.
func (r *Resource) openSource(s *session, position block.Seq, resync bool) error {
	a := r.attachment()
	if err := r.ownEnd(a); err != nil {
		return err
	}
	p := a.group.Peer(s.peer.name)
	cfg, err := r.streamConfig(s, a)
	if err != nil {
		return err
	}
	cfg.Position, cfg.Resync = position, resync
	stream, err := p.Open(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	src := &source{stream: stream, cancel: cancel, done: make(chan struct{})}
	r.depend()
	r.mu.Lock()
	s.source, s.news = src, nil
	paused := r.paused || r.waits || s.peer.view.Flags&(frame.FlagPausedByUser|frame.FlagPausedByDependency) != 0
	held := r.held
	r.tellLocked()
	r.mu.Unlock()
	stream.PauseResync(paused)
	stream.Hold(held)
	if err := s.openFetch(a); err != nil {
		cancel()
		return err
	}
	s.work.Go(func() { r.healLoop(ctx, a) })
	s.work.Go(func() {
		defer close(src.done)
		defer r.node.resyncTurns()
		if err := stream.Run(ctx); err != nil && ctx.Err() == nil {
			s.end(fmt.Errorf("replicate to %s: %w", s.peer.name, err))
		}
	})
	return nil
}

// streamConfig takes the link's settings from the configuration.
func (r *Resource) streamConfig(s *session, a *attachment) (sender.StreamConfig, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	net, w := s.peer.cfg.Net, s.peer.cfg.WAN
	alg, err := digest.Parse(r.digestName())
	if err != nil {
		return sender.StreamConfig{}, fmt.Errorf("data-integrity-alg: %w", err)
	}
	red, effort := packing(w)
	red.Digest = alg
	csums := digest.None
	if net.CsumsAlg != "" {
		if csums, err = digest.Parse(net.CsumsAlg); err != nil {
			return sender.StreamConfig{}, fmt.Errorf("csums-alg: %w", err)
		}
	}
	crashed := a.crashed || s.peer.view.Flags&frame.FlagCrashedPrimary != 0
	switch {
	case crashed && csums == digest.None:
		csums = crashDigest
	case r.seed, s.peer.view.Flags&frame.FlagCarried != 0:
		if csums == digest.None {
			csums = crashDigest
		}
	case !crashed && net.CsumsAfterCrashOnly:
		csums = digest.None
	}
	return sender.StreamConfig{
		Link: s.link, Protocol: net.Protocol, Reduce: red, Effort: effort, Csums: csums, AheadDwell: r.node.env.AheadDwell,
		RTT:       func() time.Duration { return s.link.Stats().MinRTT },
		Pace:      func() ship.Pace { return r.pace(s) },
		ChasePace: func() ship.Pace { return r.chasePace(s) },
		LineRate:  func() int64 { return r.lineRate(s) },
		Ending:    func() { r.streamEnds(s, a) },
		Starting: func(ctx context.Context, m *frame.StreamStart) error {
			if err := r.beforeResync(ctx, s, m, "before-resync-source"); err != nil {
				return err
			}
			return r.sourceStarts(s, a, m)
		},
		Synced: func(context.Context) error { return r.sourceSynced(s, a) },
	}, nil
}

// sourceStarts makes durable what the start of a stream means for the identifiers here and tells the target what it
// means there.
func (r *Resource) sourceStarts(s *session, a *attachment, m *frame.StreamStart) error {
	defer r.node.resyncTurns()
	r.mu.Lock()
	defer r.mu.Unlock()
	id := random()
	divided := len(m.Volume) == len(a.meta.Volumes)
	if !divided {
		m.Volume = make([]frame.VolumeState, len(a.meta.Volumes))
	}
	for i, v := range a.meta.Volumes {
		ids := a.ids(i, s.peer.name)
		whole := m.Mode == frame.ModeResync && !(divided && s.catchesUp(i, m.Volume[i].OOS))
		if (whole || m.Mode != frame.ModeAhead && ids.Bitmap != 0) && !untouched(&v) {
			ids = r.startsSync(a, i, s.peer.name, id)
		}
		a.setIDs(i, s.peer.name, ids)
		m.Volume[i] = frame.VolumeState{Volume: v.Volume, Disk: uint8(v.Disk), Size: v.Size, UUIDs: toWire(ids), OOS: m.Volume[i].OOS}
		m.UUIDs = append(m.UUIDs, toWire(ids))
	}
	m.Keep = true
	s.repl, s.news = sourceState(m.Mode), nil
	if m.Mode == frame.ModeJournal && a.crashed && !r.writesHereLocked() {
		return r.uncrashLocked(a)
	}
	return a.save()
}

// catchesUp reports whether volume i needs no part in a resync: no block of it is marked, and the peer's is consistent. Called with mu held.
func (s *session) catchesUp(i int, marked uint64) bool {
	v := s.peer.view.Volumes
	return marked == 0 && i < len(v) && state.Disk(v[i].Disk) > state.Inconsistent
}

func sourceState(m frame.Mode) state.Conn {
	switch m {
	case frame.ModeResync:
		return state.SyncSource
	case frame.ModeAhead:
		return state.Ahead
	}
	return state.Connected
}

// sourceSynced is called when the target is equal, durably.
func (r *Resource) sourceSynced(s *session, a *attachment) error {
	r.mu.Lock()
	r.finishLocked(s, a)
	defer r.tell()
	r.seed = false
	s.repl, s.news = state.Connected, nil
	err := r.uncrashLocked(a)
	r.mu.Unlock()
	r.broadcastState()
	r.node.resyncTurns()
	r.unfenceSoon(s.peer)
	return err
}

// finishLocked closes the generation that the target has taken over. Called with mu held; the caller saves.
func (r *Resource) finishLocked(s *session, a *attachment) {
	for i := range a.meta.Volumes {
		if untouched(&a.meta.Volumes[i]) {
			continue
		}
		a.setSharing(i, s.peer.name, false)
		ids := a.ids(i, s.peer.name)
		if v := s.peer.view.Volumes; len(r.peers) > 1 && i < len(v) && (v[i].UUIDs.Current^ids.Current)&^1 != 0 {
			ids.Bitmap = v[i].UUIDs.Current // a generation behind still: it has not heard of the newest yet
			a.setIDs(i, s.peer.name, ids)
			continue
		}
		a.setIDs(i, s.peer.name, ids.FinishSyncSource())
	}
}

// confirmJournal closes the generation of a peer that catches up by journal, once it says that it has taken it over. Until
// then both sides can tell that it may not have. Called with mu held.
func (r *Resource) confirmJournalLocked(s *session) error {
	a := r.att
	if a == nil || s.source == nil || s.source.stream.Mode() != frame.ModeJournal || len(s.peer.view.Volumes) != len(a.meta.Volumes) {
		return nil
	}
	open := false
	for i, v := range s.peer.view.Volumes {
		if untouched(&a.meta.Volumes[i]) {
			continue
		}
		ids := a.ids(i, s.peer.name)
		if (ids.Current^v.UUIDs.Current)&^1 != 0 {
			return nil
		}
		open = open || ids.Bitmap != 0
	}
	if !open {
		return nil
	}
	r.finishLocked(s, a)
	if r.fencingLocked() != fencingNone {
		r.helperSoon(s.peer, "unfence-peer")
	}
	if err := a.save(); err != nil {
		return err
	}
	r.tellLocked()
	return nil
}

// uncrashLocked forgets a crash whose consequences are dealt with. Called with mu held.
func (r *Resource) uncrashLocked(a *attachment) error {
	a.crashed = false
	a.meta.Primary = r.writesHereLocked()
	return a.save()
}

// stopSource ends the stream to the peer, if there is one, and waits for it.
func (s *session) stopSource() {
	s.r.mu.Lock()
	src := s.source
	s.source = nil
	s.r.mu.Unlock()
	if src != nil {
		src.cancel()
		<-src.done
	}
}

// hooks is how both halves tell the resource what happened.
type hooks struct{ r *Resource }

// JournalFull implements sender.Hooks.
func (h hooks) JournalFull(peer string) {
	h.r.log.Warn("journal is full: the peer is tracked by bitmap", "peer", peer, "on-full", h.r.cfg.Journal.OnFull)
	if h.r.cfg.Journal.OnFull == "disconnect" {
		h.r.mu.Lock()
		p := h.r.peerLocked(peer)
		var s *session
		if p != nil {
			s, p.wanted, p.conn = p.session, false, state.StandAlone
			if h.r.net != nil {
				h.r.net.want(peer, false)
			}
		}
		h.r.mu.Unlock()
		if s != nil {
			s.end(errors.New("journal is full, and on-full says disconnect"))
		}
	}
	h.r.helperSoon(h.r.peerNamed(peer), "journal-full")
	h.r.node.changed()
}
