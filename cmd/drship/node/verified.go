package node

import (
	"context"
	"time"

	"drship/internal/block"
	"drship/internal/face"
	"drship/internal/ship"
	"drship/internal/state"
	"drship/sender"
)

// The argument of RequestVerifyStart: with the highest bit set it asks the peer to be the side that reads, of one volume or
// all, from start to stop in units of 4 MiB, 0 for the end. Without it, it tells the peer that it is being compared, and
// counts blocks.
const (
	verifyAsk      = 1 << 63
	verifyUnit     = 4 << 20
	verifyUnits    = 1<<24 - 1
	verifyAnyVol   = 1<<15 - 1
	verifyVolShift = 48
)

// packVerify encodes an order for the peer; the borders move outwards to whole units.
func packVerify(o verifyOrder) (uint64, error) {
	vol := uint64(verifyAnyVol)
	if o.volume >= 0 {
		vol = uint64(o.volume)
	}
	start, stop := o.start/verifyUnit, (o.stop+verifyUnit-1)/verifyUnit
	if start > verifyUnits || stop > verifyUnits {
		return 0, state.Refused(state.ErrInvalidRequest, "start the verify on the side that sends: from here a range beyond 64 TiB cannot be named")
	}
	return verifyAsk | vol<<verifyVolShift | uint64(start)<<24 | uint64(stop), nil
}

func unpackVerify(arg uint64) verifyOrder {
	o := verifyOrder{volume: int(arg >> verifyVolShift & verifyAnyVol), start: int64(arg>>24&verifyUnits) * verifyUnit, stop: int64(arg&verifyUnits) * verifyUnit}
	if o.volume == verifyAnyVol {
		o.volume = -1
	}
	return o
}

// verifyAsked is the peer's word that it verifies this side, or wants this side to verify it.
func (s *session) verifyAsked(ctx context.Context, arg uint64) error {
	if arg&verifyAsk != 0 {
		return s.verifyHere(ctx, unpackVerify(arg))
	}
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.att == nil:
		return state.Refused(state.SSNoRemoteDisk, "%s is diskless", r.node.env.Node)
	case s.verify != nil:
		return state.Refused(state.SSResyncRunning, "%s verifies already", r.node.env.Node)
	}
	s.verified = &verifiedBy{total: arg * block.Size, before: r.att.target.Stats().Compared, since: time.Now()}
	r.node.changed()
	return nil
}

// verifyOver is the peer's word that its verify has ended.
func (s *session) verifyOver(differ uint64) {
	s.r.mu.Lock()
	s.verified = nil
	s.r.mu.Unlock()
	if differ > 0 {
		s.r.log.Warn("the peer's verify found differences", "peer", s.peer.name, "blocks", differ)
	}
	s.r.node.changed()
}

// becomeVerified prepares this side to be compared where no stream made it a target before: both sides are Secondary.
func (r *Resource) becomeVerified(s *session) error {
	if s.currentRun() != nil || s.currentSource() != nil {
		return nil
	}
	release, err := r.acquire(s.ctx)
	if err != nil {
		return err
	}
	defer release()
	a := r.attachment()
	if a == nil || r.currentRole() == state.Primary || s.currentRun() != nil || s.currentSource() != nil {
		return nil // a question of a verify that ends: roles have changed
	}
	run := a.target.Start(s.ctx, s.link)
	r.mu.Lock()
	s.run = run
	r.mu.Unlock()
	return nil
}

// verifyFace is the progress of a verify, nil without one. Called with mu held.
func (s *session) verifyFace() *face.Progress {
	switch {
	case s.verify != nil:
		p := s.verify.verify.Progress()
		f := progress(uint64(p.Total), uint64(p.Total-p.Done), p.Started, p.Pace.Rate, p.Pace.Why)
		f.Verify, f.Position = true, uint64(p.Off)
		return f
	case s.verified != nil && s.r.att != nil:
		v := s.verified
		done := min(s.r.att.target.Stats().Compared-v.before, v.total)
		f := progress(v.total, v.total-done, v.since, 0, "")
		f.Verify, f.Position = true, done
		return f
	}
	return nil
}

// repair sends the peer the blocks that are known to differ, while it stays UpToDate. Only from a Primary with good data.
func (s *session) repair(started time.Time) error {
	r := s.r
	r.mu.Lock()
	src, a := s.source, r.att
	ready := src != nil && a != nil && r.role == state.Primary && a.worstShown() == state.UpToDate && r.replLocked(s.peer) == state.Connected
	r.mu.Unlock()
	if !ready {
		return state.Refused(state.SSNoUpToDateDisk, "only a connected Primary that is UpToDate repairs, and not amid a resync or verify")
	}
	return src.stream.Repair(sender.RepairConfig{Pace: func() ship.Pace { return ship.ResyncPace(r.paceInput(s)) },
		Done: func(blocks uint64, err error) { r.repaired(s.peer.name, started, blocks, err) }})
}

// repaired adds to the report of the verify that found the differences.
func (r *Resource) repaired(peer string, started time.Time, blocks uint64, err error) {
	if err != nil {
		r.log.Warn("repair ended early", "peer", peer, "repaired", blocks, "err", err)
	} else {
		r.log.Info("differences repaired", "peer", peer, "blocks", blocks)
	}
	r.storeVerify(func(d *verifyData) {
		for i := range d.Runs {
			if d.Runs[i].Peer == peer && (d.Runs[i].Started.Equal(started) || started.IsZero()) {
				d.Runs[i].Repaired += blocks
				return
			}
		}
	})
	r.node.changed()
}
