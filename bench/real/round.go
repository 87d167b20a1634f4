package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/bench/device"
	"drship/bench/pair"
)

// aftermath is what a fault leaves to be done and checked.
type aftermath struct {
	must    time.Time                   // what was acknowledged until then must be there
	returns bool                        // the primary comes back as primary
	force   bool                        // the replica may be in the middle of catching up, and has to be forced
	split   bool                        // the old primary may have data that the new one has not
	back    func(context.Context) error // brings the other node back, behind the checks
}

// ever is behind all that is acknowledged, never before it.
var (
	ever  = time.Unix(1<<40, 0)
	never = time.Time{}
)

// promised is the time until which commits must be on the replica, where it would be t under protocol C and the replica kept its memory.
func (r *run) promised(t time.Time) time.Time {
	if r.proto == "A" {
		return never
	}
	return t
}

// staged is promised, where the replica lost its memory.
func (r *run) staged(t time.Time) time.Time {
	if r.proto != "C" {
		return never
	}
	return t
}

// round is one fault, from an equal pair to an equal pair.
func (r *run) round(ctx context.Context, p plan, sum *tally) error {
	if err := r.attach(ctx, false); err != nil {
		return err
	}
	if err := r.db.start(ctx); err != nil {
		return err
	}
	r.trace("under load")
	l := startLoad(ctx, r.db, r.have)
	defer l.stop()
	if err := pair.Pause(ctx, p.load); err != nil {
		return err
	}
	a, err := r.strike(ctx, p, l)
	l.stop()
	r.trace("struck")
	if err != nil {
		return err
	}
	entries := l.ledger.all()
	commits := l.ledger.acked(never)
	if sum.commits += commits; commits == 0 {
		return errors.New("nothing was committed under load")
	}
	if err := r.goOn(ctx, a); err != nil {
		return err
	}
	r.trace("%s is Primary", r.primary.Name)
	missing, err := r.inspect(ctx, entries, a.must)
	r.trace("inspected")
	if err != nil {
		return fmt.Errorf("protocol %s, database on %s: %w", r.proto, r.primary.Name, err)
	}
	sum.behind += missing
	if !a.returns {
		sum.failovers++
	}
	if a.back != nil {
		if err := a.back(ctx); err != nil {
			return fmt.Errorf("bring %s back: %w", r.secondary.Name, err)
		}
	}
	r.trace("%s is back", r.secondary.Name)
	if a.split {
		if err := r.mend(ctx, sum); err != nil {
			return err
		}
	}
	return r.equal(ctx)
}

// inspect starts the database where it is now and checks it.
func (r *run) inspect(ctx context.Context, entries []entry, must time.Time) (missing int, err error) {
	if err := r.attach(ctx, false); err != nil {
		return 0, err
	}
	if err := r.db.start(ctx); err != nil {
		return 0, err
	}
	if r.have, err = counted(ctx, r.db); err != nil {
		return 0, err
	}
	if missing, err = judge(entries, r.have, must); err != nil {
		return 0, err
	}
	if err := r.db.check(ctx); err != nil {
		return 0, err
	}
	return missing, r.detach(ctx)
}

// goOn makes a node Primary: the other one, or the same again.
func (r *run) goOn(ctx context.Context, a aftermath) error {
	if a.returns {
		if err := r.pair.WaitUpToDate(ctx); err != nil {
			return err
		}
		return r.primary.Promote(ctx)
	}
	next := r.secondary
	if a.force {
		if _, err := next.Verb(ctx, "primary", pair.Resource); err != nil {
			if err := next.Promote(ctx, "--force"); err != nil {
				return fmt.Errorf("force %s: %w", next.Name, err)
			}
		}
	} else if err := next.Promote(ctx); err != nil {
		return fmt.Errorf("promote %s: %w", next.Name, err)
	}
	r.primary, r.secondary = next, r.primary
	return nil
}

// mend ends a split brain, where there is one, by hand: the old primary gives up its data. It must have been detected; a pair that is in sync by itself
// had nothing to give up.
func (r *run) mend(ctx context.Context, sum *tally) error {
	alone := func(s pair.Status) bool { return len(s.Connections) == 1 && s.Connections[0].State == "StandAlone" }
	split := false
	_, err := r.secondary.Wait(ctx, "StandAlone, or everything UpToDate", func(s pair.Status) bool {
		split = alone(s)
		if !split && !s.InSync() { // a node that was started again since does not know, and calls
			other, err := r.primary.Status(ctx)
			split = err == nil && alone(other)
		}
		return split || s.InSync()
	})
	if err != nil || !split {
		return err
	}
	sum.splitSeen++
	if err := r.secondary.Demote(ctx); err != nil {
		return fmt.Errorf("demote %s, which is to give up its data: %w", r.secondary.Name, err)
	}
	if _, err := r.secondary.Verb(ctx, "connect", "--discard-my-data", pair.Resource); err != nil {
		return err
	}
	s, err := r.primary.Status(ctx)
	if err == nil && alone(s) {
		_, err = r.primary.Verb(ctx, "connect", pair.Resource)
	}
	return err
}

// strike carries a fault out. Behind it the database's machine is gone.
func (r *run) strike(ctx context.Context, p plan, l *load) (aftermath, error) {
	switch p.fault {
	case freeze:
		return r.strikeFreeze(ctx, p)
	case cut:
		return r.strikeCut(ctx, p)
	case catchUp:
		return r.strikeCatchUp(ctx, p)
	case full:
		return r.strikeFull(ctx, p, l)
	case powerPrimary:
		return r.strikePower(ctx, p)
	case powerReturn:
		return r.strikePowerReturn(ctx, p)
	case powerBoth:
		return r.strikePowerBoth(ctx, p)
	case powerPeer:
		return r.strikePowerPeer(ctx, p)
	}
	return r.strikeKill()
}

// strikeKill ends the daemon with SIGKILL; what it had handed to the system stays.
func (r *run) strikeKill() (aftermath, error) {
	old := r.primary
	err := errors.Join(old.Kill(), r.clientDies())
	return aftermath{must: r.promised(ever), back: func(ctx context.Context) error { return start(ctx, old) }}, err
}

func (r *run) strikeFreeze(ctx context.Context, p plan) (aftermath, error) {
	old := r.primary
	a := aftermath{must: r.promised(ever), split: p.wait, back: func(ctx context.Context) error {
		if p.wait {
			return old.Cont()
		}
		return errors.Join(old.Kill(), start(ctx, old))
	}}
	return a, errors.Join(standStill(ctx, old), r.clientDies())
}

func (r *run) strikeCut(ctx context.Context, p plan) (aftermath, error) {
	a := aftermath{must: r.promised(time.Now()), split: true, back: func(context.Context) error { return r.line.Heal() }}
	return a, errors.Join(r.line.Cut(), pair.Pause(ctx, 2*p.gap), r.clientDies())
}

// strikeCatchUp cuts the line until both sides know, heals it and kills the primary while it ships what the replica lacks, or behind that.
func (r *run) strikeCatchUp(ctx context.Context, p plan) (aftermath, error) {
	must := r.promised(time.Now())
	if err := r.line.Cut(); err != nil {
		return aftermath{}, err
	}
	for _, n := range r.pair.Nodes {
		if _, err := n.Wait(ctx, "the cut to be noticed", func(s pair.Status) bool { return !s.Connected() }); err != nil {
			return aftermath{}, err
		}
	}
	if err := errors.Join(pair.Pause(ctx, p.gap), r.line.Heal()); err != nil {
		return aftermath{}, err
	}
	must, err := r.together(ctx, p, must)
	r.trace("together")
	if err != nil {
		return aftermath{}, err
	}
	a, err := r.strikeKill()
	a.must, a.force, a.split = must, !p.wait, !p.wait
	return a, err
}

// together waits until the two are in sync again, where the plan says so, or stops while they are on their way. It returns what must be on the replica:
// what was committed while they were apart only once all of it is staged there, which protocol B tells nobody under load.
func (r *run) together(ctx context.Context, p plan, must time.Time) (time.Time, error) {
	if p.wait {
		if err := r.pair.WaitUpToDate(ctx); err != nil || r.proto != "C" {
			return must, err
		}
		_, err := r.primary.Wait(ctx, "everything staged", func(s pair.Status) bool { return s.InSync() && s.Drained() })
		return ever, err
	}
	if _, err := r.secondary.Wait(ctx, "a connection", pair.Status.Connected); err != nil {
		return must, err
	}
	return must, pair.Pause(ctx, p.gap/4)
}

// strikeFull fills the file system under the primary's state directory: commits go on, and both are equal again when there is room.
func (r *run) strikeFull(ctx context.Context, p plan, l *load) (aftermath, error) {
	release, err := r.machines[r.primary.Name].fill()
	if err != nil {
		return aftermath{}, err
	}
	since := time.Now()
	const enough = 40 // commits
	if err := device.Await(ctx, func() bool { return l.ledger.acked(since) >= enough }); err != nil {
		return aftermath{}, errors.Join(fmt.Errorf("a full state directory stops the database: %d commits since, not %d", l.ledger.acked(since), enough), release())
	}
	if err := errors.Join(pair.Pause(ctx, p.gap), release()); err != nil {
		return aftermath{}, err
	}
	if err := r.pair.WaitUpToDate(ctx); err != nil {
		return aftermath{}, fmt.Errorf("when there was room again: %w", err)
	}
	return r.strikeKill()
}

func (r *run) strikePower(ctx context.Context, p plan) (aftermath, error) {
	old := r.primary
	return aftermath{must: r.promised(ever), back: func(ctx context.Context) error { return r.powerOn(ctx, old, p) }}, r.powerOff(ctx, old)
}

// strikePowerReturn: whatever the protocol, what was committed was flushed.
func (r *run) strikePowerReturn(ctx context.Context, p plan) (aftermath, error) {
	if err := r.powerOff(ctx, r.primary); err != nil {
		return aftermath{}, err
	}
	return aftermath{must: ever, returns: true}, r.powerOn(ctx, r.primary, p)
}

// strikePowerBoth takes the power of both, one after the other; the replica alone comes back.
func (r *run) strikePowerBoth(ctx context.Context, p plan) (aftermath, error) {
	old, first, second := r.primary, r.primary, r.secondary
	must := r.staged(ever)
	if p.wait {
		first, second = second, first
		must = r.staged(time.Now())
	}
	err := errors.Join(r.powerOff(ctx, first), pair.Pause(ctx, p.gap), r.powerOff(ctx, second), r.powerOn(ctx, r.secondary, p))
	return aftermath{must: must, split: p.wait, back: func(ctx context.Context) error { return r.powerOn(ctx, old, p) }}, err
}

// strikePowerPeer takes the replica's power and gives it back; then the primary loses its own.
func (r *run) strikePowerPeer(ctx context.Context, p plan) (aftermath, error) {
	must := r.staged(time.Now())
	if err := errors.Join(r.powerOff(ctx, r.secondary), pair.Pause(ctx, p.gap), r.powerOn(ctx, r.secondary, p)); err != nil {
		return aftermath{}, err
	}
	r.trace("%s is back", r.secondary.Name)
	must, err := r.together(ctx, p, must)
	r.trace("together")
	if err != nil {
		return aftermath{}, err
	}
	a, err := r.strikePower(ctx, p)
	a.must, a.force, a.split = must, !p.wait, !p.wait
	return a, err
}
