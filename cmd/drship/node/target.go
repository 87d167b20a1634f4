package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/state"
	"drship/journal"
	"drship/receiver"
	"drship/wan/frame"
)

// becomeTarget prepares this side for a stream. What its start means is made durable at its place in the stream, by
// StreamStarted.
func (r *Resource) becomeTarget(s *session, m *frame.StreamStart) error {
	release, err := r.acquire(s.ctx)
	if err != nil {
		return err
	}
	defer release()
	a := r.attachment()
	if a == nil {
		return errors.New("the peer wants to replicate to a node without a disk")
	}
	if r.writesHere() {
		return errors.New("the peer wants to replicate to a Primary")
	}
	r.alignStart(m)
	if len(m.UUIDs) != len(a.meta.Volumes) || len(m.Volume) != len(m.UUIDs) {
		return fmt.Errorf("the peer names identifiers for %d volumes, there are %d", len(m.UUIDs), len(a.meta.Volumes))
	}
	if err := r.takeTurn(s); err != nil {
		return err
	}
	r.endOthers(s)
	s.stopVerify(errVerifyStopped)
	s.stopSource()
	if s.currentRun() == nil {
		run := a.target.Start(s.ctx, s.link)
		r.mu.Lock()
		s.run = run
		r.mu.Unlock()
		s.work.Go(func() { s.watchRun(run) })
	}
	return nil
}

// watchRun ends the session when the target half has failed: the peer may have nothing to send for a long time, and would wait
// for acknowledgements that nobody gives.
func (s *session) watchRun(run *receiver.Run) {
	select {
	case <-run.Done():
		if err := run.Err(); !errors.Is(err, receiver.ErrStopped) && s.ctx.Err() == nil {
			s.end(fmt.Errorf("replicate from %s: %w", s.peer.name, err))
		}
	case <-s.ctx.Done():
	}
}

// StreamStarted takes over identifiers and disk states. What this side wrote itself is in the source's bitmap by now, or the
// source has it: the journal goes.
func (h hooks) StreamStarted(ctx context.Context, m *frame.StreamStart) error {
	h.r.mu.Lock()
	s := h.r.targetSessionLocked()
	h.r.mu.Unlock()
	if s != nil {
		if err := h.r.beforeResync(ctx, s, m, "before-resync-target"); err != nil {
			return err
		}
	}
	if err := h.r.targetStarts(m); err != nil {
		return err
	}
	h.r.broadcastState()
	return nil
}

func (r *Resource) targetStarts(m *frame.StreamStart) error {
	defer r.node.resyncTurns()
	r.mu.Lock()
	defer r.mu.Unlock()
	a, s := r.att, r.targetSessionLocked()
	if a == nil || s == nil {
		return errors.New("a stream started for a session that is gone")
	}
	s.adopt, s.given, s.shares = nil, nil, nil
	if err := r.changeSourceLocked(a, s, m); err != nil {
		return err
	}
	for i := range a.meta.Volumes {
		s.given = append(s.given, state.Disk(m.Volume[i].Disk))
		s.shares = append(s.shares, shareOf(m, i, &a.meta.Volumes[i]))
		if m.Mode == frame.ModeResync {
			s.adopt = append(s.adopt, fromWire(m.UUIDs[i]))
		}
		r.volumeStartsLocked(a, s, i, fromWire(m.UUIDs[i]))
	}
	if m.Mode == frame.ModeResync && s.repl == state.WFBitMapT {
		r.passLocked(s.peer, state.WFSyncUUID)
	}
	s.repl = targetState(m.Mode)
	s.total, s.since, s.before = m.Blocks, time.Now(), resynced(a.target.Stats())
	if m.Mode == frame.ModeAhead {
		return nil
	}
	a.meta.Flags &^= metaOwnOrder | metaServed
	a.meta.Epoch = max(a.meta.Epoch, m.From.Epoch)
	if m.Mode == frame.ModeJournal {
		a.crashed, a.meta.Primary = false, false
		a.meta.Flags &^= metaGivesUp // by journal nothing is replaced
	}
	if err := a.save(); err != nil {
		return err
	}
	return a.group.DropJournal(s.peer.name)
}

// share is what a stream is to one volume of its target.
type share uint8

const (
	shareNone    share = iota // nothing: the source does not have it, or has no data for it, or the stream carries none
	shareJournal              // what it lacks comes by journal
	shareResync
)

func shareOf(m *frame.StreamStart, i int, v *journal.VolumeMeta) share {
	switch theirs := &m.Volume[i]; {
	case m.Mode == frame.ModeAhead, state.Disk(theirs.Disk) == state.Diskless, theirs.UUIDs.Current == state.JustCreated:
		return shareNone
	case m.Mode == frame.ModeJournal:
		return shareJournal
	case v.Disk > state.Inconsistent && divided(m) && theirs.OOS == 0:
		return shareJournal
	}
	return shareResync
}

// divided reports whether a resync says of each volume how many blocks are to come.
func divided(m *frame.StreamStart) bool {
	var sum uint64
	for i := range m.Volume {
		sum += m.Volume[i].OOS
	}
	return sum > 0
}

// volumeStartsLocked is what the start of a stream means for volume i. Called with mu held; the caller saves.
func (r *Resource) volumeStartsLocked(a *attachment, s *session, i int, theirs state.IDs) {
	v, ours := &a.meta.Volumes[i], a.ids(i, s.peer.name)
	switch s.shares[i] {
	case shareJournal:
		a.setIDs(i, s.peer.name, ours.Adopt(theirs))
		v.Disk = r.goodDiskLocked(a, s.given[i])
	case shareResync:
		if untouched(v) {
			v.Flags |= volumeFirst
		}
		if (len(r.peers) < 2 || untouched(v)) && theirs.Bitmap != 0 {
			a.setIDs(i, s.peer.name, ours.StartSyncTarget(theirs.Bitmap))
		} // else a third node could make nothing of what is in between, and may have to finish it
		v.Disk, a.cured = state.Inconsistent, false
	}
}

func targetState(m frame.Mode) state.Conn {
	switch m {
	case frame.ModeResync:
		return state.SyncTarget
	case frame.ModeAhead:
		return state.Behind
	}
	return state.Connected
}

// ResyncFinished implements receiver.Hooks: this side is equal to the source as of at.
func (h hooks) ResyncFinished(_ context.Context, at block.Seq) error {
	r := h.r
	r.mu.Lock()
	a := r.att
	s := r.targetSessionLocked()
	if a == nil || s == nil || len(s.adopt) != len(a.meta.Volumes) {
		r.mu.Unlock()
		return errors.New("a resync ended that nobody started")
	}
	r.mu.Unlock()
	r.keepDiscarded(a, s.peer.name)
	r.mu.Lock()
	if len(s.adopt) != len(a.meta.Volumes) {
		r.mu.Unlock()
		return errors.New("another stream started as a resync ended")
	}
	for i := range a.meta.Volumes {
		if s.shares[i] != shareResync {
			continue
		}
		a.setIDs(i, s.peer.name, a.ids(i, s.peer.name).Adopt(s.adopt[i]))
		a.meta.Volumes[i].Disk = r.goodDiskLocked(a, s.given[i])
		a.meta.Volumes[i].Flags &^= volumeCarried | volumeFirst
	}
	s.adopt, s.repl = nil, state.Connected
	a.crashed, a.meta.Primary = false, false
	err := a.save()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	p := a.group.Peer(s.peer.name)
	for i, v := range a.meta.Volumes {
		if s.shares[i] == shareResync {
			p.Bitmap(v.Volume).ClearAll()
		}
	}
	if err := p.FlushBitmaps(); err != nil {
		return err
	}
	if err := r.wholeAgain(a); err != nil {
		return err
	}
	r.log.Info("resync done", "peer", s.peer.name, "at", at)
	r.broadcastState()
	r.helperSoon(s.peer, "after-resync-target")
	return nil
}

// Consistent tells the target whether its data is worth a way back.
func (h hooks) Consistent() bool {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	return h.r.att != nil && h.r.att.worstShown() >= state.Outdated
}

func (r *Resource) targetSessionLocked() *session {
	for _, p := range r.peers {
		if p.session != nil && p.session.run != nil {
			return p.session
		}
	}
	return nil
}

// Worthless tells the target which volumes have nothing to go back to.
func (h hooks) Worthless(number uint16) bool {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	if h.r.att == nil {
		return false
	}
	for i := range h.r.att.meta.Volumes {
		if v := &h.r.att.meta.Volumes[i]; v.Volume == number {
			return empty(v)
		}
	}
	return false
}

// HistoryFull implements receiver.Hooks.
func (h hooks) HistoryFull(err error) {
	h.r.log.Warn("no room for the way back: until the resync is done, this side cannot be promoted to a consistent point", "err", err)
	h.r.node.changed()
}

// StoreFailed implements receiver.Hooks.
func (h hooks) StoreFailed(err error) {
	h.r.log.Error("state directory failed: this side stages nothing more", "err", err)
	h.r.node.changed()
}

// stopRun ends the target half of the session, if it is on, and waits for it. What is staged stays staged.
func (s *session) stopRun() {
	s.r.mu.Lock()
	run := s.run
	s.run = nil
	s.r.mu.Unlock()
	if run == nil {
		return
	}
	if err := run.Stop(); err != nil && s.ctx.Err() == nil {
		s.r.log.Warn("target side stopped", "peer", s.peer.name, "err", err)
	}
}
