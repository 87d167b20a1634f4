package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"drship/bench/stamp"
	"drship/internal/face"
	"drship/internal/state"
)

const (
	writers  = 8
	patience = 10 * time.Minute // virtual
)

// run is one pair going through the moments of a plan.
type run struct {
	plan
	world              *world
	primary, secondary *machine
	machines           []*machine
	rng                *rand.Rand
	base               []stamp.Image // what both disks held when the moment began
	next               uint64
	out                io.Writer
	atlas              *atlas
}

// simulate carries out a plan. It is called inside a bubble of virtual time.
func simulate(p plan, dir string, out io.Writer, met *atlas) (err error) {
	r := newRun(p, dir, out)
	r.atlas = met
	clear(met.last)
	defer r.close()
	r.world.set(line{delay: time.Millisecond})
	if err := r.create(); err != nil {
		return fmt.Errorf("create the pair: %w", err)
	}
	for i, m := range p.moments {
		fmt.Fprintf(out, "=== moment %d: %v\n", i+1, m)
		if err := r.moment(m); err != nil {
			return fmt.Errorf("moment %d (%v): %w", i+1, m, err)
		}
	}
	return nil
}

func newRun(p plan, dir string, out io.Writer) *run {
	w := newWorld(p)
	r := &run{plan: p, world: w, rng: rand.New(rand.NewPCG(p.seed, 0x72756e)), next: 1, out: out, atlas: newAtlas()}
	r.primary = newMachine(w, "alice", dir, p, p.seed, out)
	r.secondary = newMachine(w, "bob", dir, p, p.seed+100, out)
	r.machines = []*machine{r.primary, r.secondary}
	return r
}

func (r *run) close() {
	r.primary.stop()
	r.secondary.stop()
	r.world.net.Close()
}

func (r *run) create() error {
	for _, m := range []*machine{r.primary, r.secondary} {
		if err := errors.Join(m.start(), m.do("create-md"), m.do("up")); err != nil {
			return err
		}
	}
	if err := r.wait("connected", func(a, b face.Resource) bool {
		return a.Peers[0].Conn == state.Connected && b.Peers[0].Conn == state.Connected
	}); err != nil {
		return err
	}
	if r.carried {
		if err := r.primary.do("new-current-uuid", "clear-bitmap"); err != nil {
			return err
		}
	}
	if err := r.promote("force"); err != nil {
		return err
	}
	return r.equal()
}

// moment goes from an equal pair to an equal pair.
func (r *run) moment(m moment) error {
	r.world.set(m.line)
	if m.swap {
		if err := r.swap(); err != nil {
			return fmt.Errorf("change roles: %w", err)
		}
	}
	if m.slow {
		r.paced(slowDisk)
	}
	log, end := r.load(m)
	if err := r.fallBehind(m); err != nil {
		return errors.Join(err, end())
	}
	if err := r.faults(m); err != nil {
		return errors.Join(err, end())
	}
	if err := end(); err != nil && m.victim != primaryDies && m.victim != bothDie {
		return fmt.Errorf("the primary failed its client: %w", err)
	}
	r.next = log.Next()
	if err := r.recover(m, log.Ops()); err != nil {
		return err
	}
	r.world.mend()
	r.paced(quickDisk) // so that what is staged is soon applied
	if err := r.healSplitBrain(); err != nil {
		return err
	}
	if err := r.equal(); err != nil || !m.rot {
		return err
	}
	if err := r.replaceStore(); err != nil { // what has rotted and was not read yet would come up in any moment from here on
		return err
	}
	return r.equal()
}

// paced sets how long the disks take for a write at most.
func (r *run) paced(most time.Duration) {
	for _, m := range r.machines {
		m.pace.Store(int64(most))
	}
}

// swap makes the secondary Primary, as an administrator does when nothing is wrong.
func (r *run) swap() error {
	if err := errors.Join(r.primary.do("secondary"), r.secondary.do("primary")); err != nil {
		return err
	}
	r.primary, r.secondary = r.secondary, r.primary
	return nil
}

// fallBehind lets the secondary be away until the journal has given it up, and return.
func (r *run) fallBehind(m moment) error {
	if m.behind == 0 {
		return nil
	}
	if err := r.secondary.do("disconnect"); err != nil {
		return err
	}
	r.pass(500 * time.Millisecond)
	if err := r.secondary.do("connect"); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && r.secondary.status().Peers[0].Volumes[0].Conn != state.SyncTarget; {
		r.pass(20 * time.Millisecond)
	}
	r.pass(m.behind)
	return nil
}

// load starts the writers. The returned function ends them and says how it went.
func (r *run) load(m moment) (*stamp.Log, func() error) {
	log := stamp.NewLog(r.next)
	ctx, cancel := context.WithCancel(context.Background())
	l := stamp.Mixed(stamp.Load{Size: volumeSize, Writers: writers, Seed: r.rng.Uint64(), Log: log})
	l.Large = 0.004 // enough for what large writes do otherwise
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(r.seed, r.next))
	l.Pace = func(ctx context.Context) error {
		mu.Lock()
		d := time.Duration(rng.ExpFloat64() * float64(8*time.Millisecond))
		mu.Unlock()
		if r.burst {
			d = time.Until(time.Now().Add(d).Truncate(4 * time.Millisecond).Add(4 * time.Millisecond))
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var open []*volume
	for i := range r.volumes {
		v, err := r.primary.open(i)
		if err != nil {
			cancel()
			return log, func() error { return err }
		}
		open = append(open, v)
		l.Targets = append(l.Targets, v)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return log, func() error {
		cancel()
		err := <-ended
		for _, v := range open {
			v.close()
		}
		return err
	}
}

// faults lets time pass and things break.
func (r *run) faults(m moment) error {
	if m.cutFor > 0 {
		r.pass(m.cutAt)
		r.cut(m.oneWay)
		r.pass(min(m.cutFor, m.load-m.cutAt+m.cutFor/2))
		if m.cutFor%2 == 0 { // else the victim dies with the line still cut
			r.world.mend()
		}
	}
	r.pass(m.load / 2)
	if m.skew != 0 {
		r.machines[r.rng.IntN(2)].skew.Add(int64(m.skew))
	}
	if m.sick != 0 {
		map[victim]*machine{primaryDies: r.primary, secondaryDies: r.secondary}[m.victim].store.set(m.sick)
	}
	r.pass(m.load - m.load/2)
	if lag := r.primary.lag(); lag > time.Hour {
		return fmt.Errorf("the peer is said to be %v behind after %v", lag, m.load)
	}
	return r.crashes(m)
}

// cut silences both machines, or one of them.
func (r *run) cut(oneWay bool) {
	if oneWay {
		r.world.setOneWay(trioAddresses[r.machines[r.rng.IntN(2)].name])
		return
	}
	r.world.setCut(true)
}

// crashes takes down whom the moment names.
func (r *run) crashes(m moment) error {
	switch m.victim {
	case nobody:
		if m.failover {
			r.world.setCut(true)
		}
	case primaryDies:
		r.primary.crash(m.fault)
	case secondaryDies:
		r.secondary.crash(m.fault)
		r.pass(m.gap)
		if m.rot {
			return r.bootRotten(m)
		}
		return r.boot(r.secondary, m)
	case bothDie:
		first, second := r.primary, r.secondary
		if r.rng.IntN(2) == 0 && !m.failover {
			first, second = second, first
		}
		first.crash(m.fault)
		time.Sleep(m.gap)
		second.crash(m.fault)
	}
	return nil
}

// boot starts a machine; where the moment says so it crashes once more on its way up.
func (r *run) boot(m *machine, how moment) error {
	m.store.set(0)
	if err := errors.Join(m.start(), m.do("up")); err != nil {
		return err
	}
	if how.again > 0 {
		time.Sleep(how.again)
		m.crash(how.fault)
		return errors.Join(m.start(), m.do("up"))
	}
	return nil
}

// recover brings everybody back and checks who has to have what.
func (r *run) recover(m moment, ops []stamp.Op) error {
	switch {
	case m.rot:
		return r.mendRotten()
	case m.victim == secondaryDies || m.victim == nobody && !m.failover:
		return nil
	case m.failover:
		return r.failover(m, ops)
	}
	r.world.mend()
	if err := r.boot(r.primary, m); err != nil {
		return err
	}
	if m.victim == bothDie {
		if err := r.boot(r.secondary, moment{}); err != nil {
			return err
		}
	}
	must := func(o *stamp.Op) bool { return o.Done != 0 && (m.fault == killed || flushed(o, ops)) }
	if err := r.primary.do("primary"); err != nil {
		return err
	}
	return r.check(r.primary, ops, stamp.CheckOptions{Must: must})
}

// flushed reports whether o was acknowledged before a flush that was answered began, or was durable itself.
func flushed(o *stamp.Op, ops []stamp.Op) bool {
	if o.FUA {
		return true
	}
	for i := range ops {
		f := &ops[i]
		if f.Kind == stamp.Flush && f.Done != 0 && f.Volume == o.Volume && o.Done < f.Begun {
			return true
		}
	}
	return false
}

// failover promotes the secondary, checks what it holds, and lets the old primary return.
func (r *run) failover(m moment, ops []stamp.Op) error {
	if m.victim == bothDie {
		if err := r.boot(r.secondary, m); err != nil {
			return err
		}
	}
	r.primary, r.secondary = r.secondary, r.primary
	if err := r.promote(); err != nil {
		return err
	}
	c := stamp.CheckOptions{Prefix: true}
	if r.protocol == 'C' && m.cutFor == 0 && m.behind == 0 && r.journal != "1M" {
		c.Must = func(o *stamp.Op) bool { return o.Done != 0 }
	}
	if err := r.check(r.primary, ops, c); err != nil {
		return err
	}
	if m.victim == nobody {
		return r.secondary.do("secondary")
	}
	return r.boot(r.secondary, moment{again: m.again, fault: m.fault})
}

// promote tries until the dead primary is known to be dead, by force where the data is amid a resync: what had come when it died may only
// be looked at by now.
func (r *run) promote(options ...string) error {
	end := time.Now().Add(patience)
	for {
		if len(options) == 0 && r.inconsistent(r.primary) {
			options = append(options, "force")
		}
		err := r.primary.do("primary", options...)
		if err == nil || time.Now().After(end) {
			return err
		}
		r.pass(time.Second)
	}
}

func (r *run) inconsistent(m *machine) bool {
	for _, v := range m.status().Volumes {
		if v.Disk < state.UpToDate {
			return true
		}
	}
	return false
}

// healSplitBrain does what an administrator does: the secondary's data goes.
func (r *run) healSplitBrain() error {
	r.pass(30 * time.Second)
	a, b := r.primary.status(), r.secondary.status()
	if a.Peers[0].Conn != state.StandAlone && b.Peers[0].Conn != state.StandAlone {
		return nil
	}
	fmt.Fprintln(r.out, "=== split brain: the secondary's data goes")
	for _, do := range []func() error{
		func() error { return r.secondary.do("disconnect") },
		func() error { return r.secondary.do("connect", "discard-my-data") },
		func() error { return r.primary.do("connect") },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// status of a machine's resource.
func (m *machine) status() face.Resource {
	all, err := m.node.Status(context.Background(), nil)
	if err != nil || len(all) != 1 {
		return face.Resource{}
	}
	return all[0]
}

// wait polls both sides until ok holds.
func (r *run) wait(what string, ok func(a, b face.Resource) bool) error {
	return r.within(patience, what, ok)
}

// within is wait with a patience of its own.
func (r *run) within(patience time.Duration, what string, ok func(a, b face.Resource) bool) error {
	end := time.Now().Add(patience)
	for {
		a, b := r.primary.status(), r.secondary.status()
		if len(a.Peers) == 1 && len(b.Peers) == 1 && ok(a, b) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not %s after %v:\n%+v\n%+v", what, patience, a, b)
		}
		r.look()
		time.Sleep(50 * time.Millisecond)
	}
}

// equal waits until both sides say that they are in sync, drains, and compares the disks.
func (r *run) equal() error {
	if err := r.wait("in sync", func(a, b face.Resource) bool { return inSync(a) && inSync(b) }); err != nil {
		return err
	}
	r.pass(10 * time.Second) // what is staged gets applied
	r.base = nil
	if err := r.flush(); err != nil {
		return err
	}
	for i := range r.volumes {
		a, b := r.primary.disks[i].Clone(), r.secondary.disks[i].Clone()
		if d := difference(a, b); d != "" {
			return fmt.Errorf("volume %d: both sides say UpToDate and differ: %s", i, d)
		}
		r.base = append(r.base, image{a})
	}
	return nil
}

// inSync reports whether a machine knows of nothing that differs.
func inSync(f face.Resource) bool {
	p := &f.Peers[0]
	if p.Conn != state.Connected || p.LagBytes > 0 {
		return false
	}
	for i, v := range f.Volumes {
		pv := &p.Volumes[i]
		if v.Disk != state.UpToDate || pv.Disk != state.UpToDate || pv.Conn != state.Connected || pv.OutOfSync > 0 {
			return false
		}
	}
	return true
}

// flush makes durable what the next moment begins with: a loss of power may take what was not flushed.
func (r *run) flush() error {
	for i := range r.volumes {
		v, err := r.primary.open(i)
		if err != nil {
			return err
		}
		err = v.Flush(context.Background())
		v.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func difference(a, b interface {
	ReadAt(p []byte, off int64) error
}) string {
	p, q := make([]byte, 4096), make([]byte, 4096)
	first, n := int64(-1), 0
	for off := int64(0); off < volumeSize; off += 4096 {
		if err := errors.Join(a.ReadAt(p, off), b.ReadAt(q, off)); err != nil {
			return err.Error()
		}
		if string(p) != string(q) {
			if n++; first < 0 {
				first = off
			}
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d blocks, the first at %d", n, first)
}

// check holds a machine's disks against the log.
func (r *run) check(m *machine, ops []stamp.Op, c stamp.CheckOptions) error {
	c.Size, c.Base = volumeSize, r.base
	var images []stamp.Image
	for _, d := range m.disks {
		images = append(images, image{d.Clone()})
	}
	report, err := stamp.Check(ops, images, c)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return fmt.Errorf("%s, promoted, breaks a promise of protocol %c: %w", m.name, r.protocol, err)
	}
	return nil
}
