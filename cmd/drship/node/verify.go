package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/face"
	"drship/internal/ship"
	"drship/internal/state"
	"drship/sender"
	"drship/wan/frame"
)

// verifySave is how often a verify stores how far it is: what a restart repeats at most.
const verifySave = 10 * time.Second

// verifyLogged is how many differences of a run are logged one by one; the report lists more.
const verifyLogged = 16

// errVerifyStopped ends a verify because this side's part in the session changed.
var errVerifyStopped = errors.New("roles changed")

// verifyOrder is what a verify is asked to do. The zero value compares everything.
type verifyOrder struct {
	volume      int   // control.AnyVolume for all
	start, stop int64 // bytes; stop 0: the end of the volume
	scheduled   bool
	resume      *verifyResume
}

// verifyRun is a verify that runs from this side.
type verifyRun struct {
	verify *sender.Verify
	cancel context.CancelCauseFunc
	done   chan struct{}

	// Guarded by Resource.mu.
	report  face.VerifyRun
	earlier face.VerifyRun // what the report held before it was resumed
	began   time.Time      // this part of it
	start   verifyResume   // where this part began
}

// verifiedBy is what the compared side knows of a verify.
type verifiedBy struct {
	total  uint64 // bytes
	before uint64 // bytes compared by this target when it began
	since  time.Time
}

// Verify starts an online verify with the named peers. The side that feeds the other reads and asks; if that is the peer,
// it is told to.
func (r *Resource) Verify(ctx context.Context, names []string, o verifyOrder) error {
	r.mu.Lock()
	l, views := r.viewsLocked()
	var chosen []*session
	for _, v := range views {
		if !named(names, v.Name) {
			continue
		}
		if f := state.MayVerify(l, v); f != nil {
			r.mu.Unlock()
			return f
		}
		chosen = append(chosen, r.peerLocked(v.Name).session)
	}
	r.mu.Unlock()
	if len(chosen) == 0 {
		return state.Refused(state.SSNeedConnection, "there is no such peer")
	}
	for _, s := range chosen {
		if err := s.startVerify(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) startVerify(ctx context.Context, o verifyOrder) error {
	if s.currentRun() != nil && s.currentSource() == nil {
		arg, err := packVerify(o)
		if err != nil {
			return err
		}
		return s.demand(ctx, frame.RequestVerifyStart, arg)
	}
	return s.verifyHere(ctx, o)
}

// demand asks the peer and turns its refusal into an error.
func (s *session) demand(ctx context.Context, verb uint8, arg uint64) error {
	reply, err := s.ask(ctx, verb, arg)
	if err != nil {
		return err
	}
	if reply.Code != 0 {
		return refusalOf(reply)
	}
	return nil
}

// verifyHere starts a verify of which this side reads.
func (s *session) verifyHere(ctx context.Context, o verifyOrder) error {
	release, err := s.r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	run, err := s.newVerify(o)
	if err != nil {
		return err
	}
	// The peer may refuse; from its answer on it shows VerifyT.
	if err := s.demand(ctx, frame.RequestVerifyStart, uint64(run.report.Total/block.Size)); err != nil {
		return err
	}
	vctx, cancel := context.WithCancelCause(s.ctx)
	run.cancel = cancel
	s.r.mu.Lock()
	s.verify = run
	s.r.mu.Unlock()
	s.r.log.Info("online verify starts", "peer", s.peer.name, "algorithm", run.report.Alg, "bytes", run.report.Total, "scheduled", o.scheduled)
	s.work.Go(func() { s.runVerify(vctx, run) })
	s.r.node.changed()
	return nil
}

// steady is a link whose Send ends with the session alone: a message that is cut off in the middle would end the session.
type steady struct{ s *session }

func (l steady) Send(_ context.Context, m frame.Message) error { return l.s.link.Send(l.s.ctx, m) }

// newVerify checks what is asked for and prepares it. Called with the token held.
func (s *session) newVerify(o verifyOrder) (*verifyRun, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	l, views := r.viewsLocked()
	for _, v := range views {
		if v.Name != s.peer.name {
			continue
		}
		if f := state.MayVerify(l, v); f != nil {
			return nil, f
		}
	}
	a, net := r.att, s.peer.cfg.Net
	if a == nil || s.verify != nil {
		return nil, state.Refused(state.SSTransientState, "the resource is about to change")
	}
	alg, err := digest.Parse(net.VerifyAlg)
	if err != nil || alg == digest.None {
		return nil, state.Refused(state.ErrVerifyAlg, "set verify-alg in the net section")
	}
	run := &verifyRun{done: make(chan struct{}), began: time.Now()}
	run.report = face.VerifyRun{Peer: s.peer.name, Scheduled: o.scheduled, State: face.VerifyRunning, Alg: alg.String(), Repair: net.VerifyRepair, Started: run.began}
	if run.report.Ranges, err = verifyRanges(a, o); err != nil {
		return nil, err
	}
	ranges := toCompare(run.report.Ranges, o.resume)
	if o.resume != nil {
		run.start = *o.resume
		r.verifies.read(func(d *verifyData) {
			if len(d.Runs) > 0 {
				run.earlier = d.Runs[0]
				run.report = d.Runs[0]
				run.report.State, run.report.Why, run.report.Ended = face.VerifyRunning, "", time.Time{}
				run.report.Differences = slices.Clone(run.report.Differences)
			}
		})
	}
	for _, s := range run.report.Ranges {
		if o.resume == nil {
			run.report.Total += s.Len
		}
	}
	p := a.group.Peer(s.peer.name)
	run.verify, err = p.Verify(sender.VerifyConfig{Link: steady{s}, Alg: alg, Ranges: ranges, Live: s.source != nil,
		Pace: func() ship.Pace { return r.verifyPace(s, alg) }, Differ: func(v sender.VolumeRange) { r.differs(run, v) }})
	return run, err
}

// verifyRanges is what an order asks for, volume by volume, on the borders of blocks.
func verifyRanges(a *attachment, o verifyOrder) ([]face.Span, error) {
	var out []face.Span
	for _, v := range a.meta.Volumes {
		if o.volume >= 0 && int(v.Volume) != o.volume || o.volume < 0 && untouched(&v) {
			continue
		}
		from, to := o.start/block.Size*block.Size, v.Size
		if o.stop > 0 && o.stop < to {
			to = min((o.stop+block.Size-1)/block.Size*block.Size, v.Size)
		}
		if from < to {
			out = append(out, face.Span{Volume: v.Volume, Off: from, Len: to - from})
		}
	}
	if len(out) == 0 {
		return nil, state.Refused(state.ErrInvalidRequest, "there is nothing between --start and --stop")
	}
	return out, nil
}

// toCompare is what is left of the ranges behind the point where a run is resumed.
func toCompare(spans []face.Span, at *verifyResume) []sender.VolumeRange {
	var out []sender.VolumeRange
	for i, s := range spans {
		r := sender.VolumeRange{Volume: s.Volume, Range: block.Range{Off: s.Off, Len: s.Len}}
		if at != nil {
			if i < at.Index {
				continue
			}
			if i == at.Index && at.Off > s.Off && at.Off < s.Off+s.Len {
				r.Off, r.Len = at.Off, s.Off+s.Len-at.Off
			}
		}
		out = append(out, r)
	}
	return out
}

// differs takes note of a difference, in the report too.
func (r *Resource) differs(run *verifyRun, v sender.VolumeRange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(run.report.Differences) < verifyLogged {
		r.log.Warn("verify found a difference", "peer", run.report.Peer, "volume", v.Volume, "offset", v.Off, "bytes", v.Len)
	}
	if len(run.report.Differences) >= face.MaxSpans {
		run.report.More = true
		return
	}
	run.report.Differences = append(run.report.Differences, face.Span{Volume: v.Volume, Off: v.Off, Len: v.Len})
}

// verifyPace is the rate of a verify: verify-rate, else as a resync, where the line counts for little: digests travel.
func (r *Resource) verifyPace(s *session, alg digest.Alg) ship.Pace {
	in := r.paceInput(s)
	r.mu.Lock()
	in.Fixed = s.peer.cfg.Net.VerifyRate
	r.mu.Unlock()
	return ship.VerifyPace(in, alg.Size())
}

// runVerify carries a verify out and keeps its report.
func (s *session) runVerify(ctx context.Context, run *verifyRun) {
	r := s.r
	stopped := make(chan struct{})
	saver := make(chan struct{})
	go func() { // waited for below
		defer close(saver)
		t := time.NewTicker(verifySave)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.saveVerify(run, nil)
			case <-stopped:
				return
			}
		}
	}()
	r.beginReport(run)
	err := run.verify.Run(ctx)
	close(stopped)
	<-saver
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	s.verify = nil
	r.mu.Unlock()
	close(run.done)
	run.cancel(nil)
	r.saveVerify(run, s.verifyEnd(err))
	p := run.verify.Progress()
	r.log.Info("online verify ended", "peer", s.peer.name, "state", run.report.State, "why", run.report.Why, "bytes", run.report.Compared, "differ", run.report.Differ, "unsettled", p.Unsettled)
	if s.ctx.Err() == nil {
		if err := s.link.Send(s.ctx, &frame.Request{ID: s.nextRequest(), Verb: frame.RequestVerifyStop, Arg: run.report.Differ}); err != nil {
			r.log.Debug("peer was not told of the verify's end", "err", err)
		}
	}
	events := []string{"verify-done"}
	if run.report.Differ > 0 {
		events = []string{"out-of-sync", "verify-done"}
	}
	r.helperSoonWith(s.peer, []string{"DRSHIP_VERIFY_STATE=" + run.report.State, fmt.Sprintf("DRSHIP_VERIFY_DIFFER=%d", run.report.Differ)}, events...)
	if err == nil && run.report.Differ > 0 && run.report.Repair == "on" {
		if err := s.repair(run.report.Started); err != nil {
			r.log.Warn("differences found by verify are not repaired", "peer", s.peer.name, "err", err)
		}
	}
	r.node.changed()
}

// verifyOutcome is how a verify ended.
type verifyOutcome struct{ state, why string }

// verifyEnd tells why a verify ended. What an administrator's word or a fault here ended is over; a scheduled run that lost its
// session goes on later.
func (s *session) verifyEnd(err error) *verifyOutcome {
	switch {
	case err == nil:
		return &verifyOutcome{state: face.VerifyDone}
	case errors.Is(err, errDisconnected) && !s.r.isStopping():
		return &verifyOutcome{face.VerifyStopped, err.Error()}
	case s.ctx.Err() != nil, errors.Is(err, errVerifyStopped), errors.Is(err, sender.ErrVerifyBehind):
		return &verifyOutcome{face.VerifyInterrupted, err.Error()}
	}
	return &verifyOutcome{face.VerifyFailed, err.Error()}
}

// beginReport puts the run's report in front; a resumed one stands there already.
func (r *Resource) beginReport(run *verifyRun) {
	r.mu.Lock()
	report := run.report
	r.mu.Unlock()
	resumed := !run.earlier.Started.IsZero()
	r.storeVerify(func(d *verifyData) {
		if !resumed {
			d.Runs = slices.Insert(d.Runs, 0, report)
		}
		d.Resume = nil
		if report.Scheduled {
			at := run.start
			at.Peer = report.Peer
			d.Resume = &at
		}
	})
}

// saveVerify brings the stored report up to date; end is nil while the verify runs.
func (r *Resource) saveVerify(run *verifyRun, end *verifyOutcome) {
	p := run.verify.Progress()
	r.mu.Lock()
	v, e := &run.report, &run.earlier
	v.Active = e.Active + time.Since(run.began).Seconds()
	v.Compared = e.Compared + p.Done
	v.Blocks = uint64(v.Compared+block.Size-1) / block.Size
	v.Differ, v.Asked, v.Unsettled = e.Differ+p.Differ, e.Asked+p.Asked, e.Unsettled+p.Unsettled
	if v.Active > 0 {
		v.Rate = int64(float64(v.Compared) / v.Active)
	}
	if end != nil {
		v.State, v.Why, v.Ended = end.state, end.why, time.Now()
	}
	report := *v
	report.Differences = slices.Clone(v.Differences)
	r.mu.Unlock()
	at := &verifyResume{Peer: report.Peer, Index: p.Index + run.start.Index, Off: p.Off}
	r.storeVerify(func(d *verifyData) {
		setReport(d, report)
		switch {
		case !report.Scheduled:
		case end == nil || end.state == face.VerifyInterrupted:
			d.Resume = at
		default:
			d.Resume = nil
		}
	})
}

func setReport(d *verifyData, report face.VerifyRun) {
	for i := range d.Runs {
		if d.Runs[i].Started.Equal(report.Started) && d.Runs[i].Peer == report.Peer {
			d.Runs[i] = report
			return
		}
	}
}

func (r *Resource) storeVerify(edit func(*verifyData)) {
	if err := r.verifies.change(edit); err != nil {
		r.log.Error("report of a verify is not durable", "err", err)
	}
}

// stopVerify ends the verify of the session, if this side runs one, and waits for it.
func (s *session) stopVerify(why error) {
	s.r.mu.Lock()
	run := s.verify
	s.r.mu.Unlock()
	if run != nil {
		run.cancel(why)
		<-run.done
	}
}

// verifyAnswered hands an answer of the peer to the verify that asked.
func (s *session) verifyAnswered(m *frame.VerifyReply) error {
	s.r.mu.Lock()
	run := s.verify
	s.r.mu.Unlock()
	if run == nil {
		return nil
	}
	return run.verify.Handle(m)
}

func (s *session) nextRequest() uint64 {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.lastReq++
	return s.lastReq
}
