package sim

import (
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

var (
	trioNames     = []string{"alice", "bob", "charlie"}
	trioAddresses = map[string]string{"alice": "10.0.0.1", "bob": "10.0.0.2", "charlie": "10.0.0.3"}
)

// trio is three nodes going through the moments of a plan. run.primary is who is Primary.
type trio struct {
	run
	plan trioPlan
}

// simulateTrio carries out a plan. It is called inside a bubble of virtual time.
func simulateTrio(p trioPlan, dir string, out io.Writer, met *atlas) error {
	w := newWorld(p.plan)
	defer w.net.Close()
	w.far, w.remote = trioAddresses["charlie"], p.remote
	t := &trio{plan: p, run: run{plan: p.plan, world: w, rng: rand.New(rand.NewPCG(p.seed, 0x72756e33)), next: 1, out: out, atlas: met}}
	clear(met.last)
	for i, name := range trioNames {
		m := newMachine(w, name, dir, p.plan, p.seed+uint64(100*i), out)
		m.conf = p.config()
		t.machines = append(t.machines, m)
	}
	t.primary = t.machines[0]
	defer func() {
		for _, m := range t.machines {
			m.stop()
		}
	}()
	w.set(line{delay: time.Millisecond})
	if err := t.create(); err != nil {
		return fmt.Errorf("create the trio: %w", err)
	}
	for i, m := range p.moments {
		fmt.Fprintf(out, "=== moment %d: Primary is %s, %v\n", i+1, t.primary.name, m)
		if err := t.moment(m); err != nil {
			return fmt.Errorf("moment %d (Primary was %s; %v): %w", i+1, t.primary.name, m, err)
		}
	}
	return nil
}

func (t *trio) create() error {
	for _, m := range t.machines {
		if err := errors.Join(m.start(), m.do("create-md"), m.do("up")); err != nil {
			return err
		}
	}
	if err := t.await("connected", t.connected); err != nil {
		return err
	}
	if err := t.primary.do("primary", "force"); err != nil {
		return err
	}
	return t.equal()
}

// place resolves a place of a moment: the Primary, then the others by name.
func (t *trio) place(i int) *machine {
	if i == first3 {
		return t.primary
	}
	return t.others()[i-1]
}

func (t *trio) others() (rest []*machine) {
	for _, m := range t.machines {
		if m != t.primary {
			rest = append(rest, m)
		}
	}
	return rest
}

// moment goes from three equal nodes to three equal nodes.
func (t *trio) moment(m trioMoment) error {
	t.world.set(m.line)
	places := [3]*machine{t.place(0), t.place(1), t.place(2)}
	log, end := t.load(moment{})
	stop := t.cut(m, places)
	t.pass(m.load)
	for i, dies := range m.dead {
		if dies {
			places[i].crash(m.fault)
			t.pass(m.gap)
		}
	}
	if err := end(); err != nil && !m.dead[first3] {
		return errors.Join(fmt.Errorf("the primary failed its client: %w", err), stop())
	}
	t.next = log.Next()
	err := t.recover(m, places, log.Ops())
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	if err := t.healSplitBrains(); err != nil {
		return err
	}
	return t.equal()
}

// cut cuts lines for the moment. The returned function mends all of them.
func (t *trio) cut(m trioMoment, places [3]*machine) func() error {
	var running sync.WaitGroup
	for _, c := range m.cuts {
		a, b := trioAddresses[places[c.a].name], trioAddresses[places[c.b].name]
		running.Go(func() {
			time.Sleep(c.at)
			t.world.setLine(a, b, true)
			time.Sleep(c.dur)
			t.world.setLine(a, b, false)
		})
	}
	return func() error {
		running.Wait()
		for _, a := range trioAddresses {
			for _, b := range trioAddresses {
				t.world.setLine(a, b, false)
			}
		}
		return nil
	}
}

// recover brings everybody back and checks who has to have what.
func (t *trio) recover(m trioMoment, places [3]*machine, ops []stamp.Op) error {
	if m.dead[first3] && m.next != first3 {
		return t.failover(m, places, ops)
	}
	for i, dead := range m.dead {
		if dead {
			if err := t.boot(places[i], moment{again: m.again, fault: m.fault}); err != nil {
				return err
			}
		}
	}
	if !m.dead[first3] {
		return nil
	}
	if err := t.promote(); err != nil {
		return err
	}
	must := func(o *stamp.Op) bool { return o.Done != 0 && (m.fault == killed || flushed(o, ops)) }
	return t.check(t.primary, ops, stamp.CheckOptions{Must: must})
}

// failover promotes one of the others, checks what it holds, and lets the dead return.
func (t *trio) failover(m trioMoment, places [3]*machine, ops []stamp.Op) error {
	heir := places[m.next]
	if m.dead[m.next] {
		if err := t.boot(heir, moment{again: m.again, fault: m.fault}); err != nil {
			return err
		}
	}
	t.pass(m.settle)
	acked := t.acknowledges(m, places)
	t.primary = heir
	if err := t.promoteAnyhow(); err != nil {
		return err
	}
	c := stamp.CheckOptions{Prefix: true}
	if acked {
		c.Must = func(o *stamp.Op) bool { return o.Done != 0 }
	}
	if err := t.check(heir, ops, c); err != nil {
		return err
	}
	for i, dead := range m.dead {
		if dead && i != m.next {
			if err := t.boot(places[i], moment{again: m.again, fault: m.fault}); err != nil {
				return err
			}
		}
	}
	return nil
}

// acknowledges reports whether the heir has to have every write that was acknowledged: its line to the Primary had protocol C and was up, and
// the journal did not give it up.
func (t *trio) acknowledges(m trioMoment, places [3]*machine) bool {
	protocol := t.protocol
	if places[first3].name == "charlie" || places[m.next].name == "charlie" {
		protocol = t.plan.far
	}
	for _, c := range m.cuts {
		if c.a == first3 && c.b == m.next || c.b == first3 && c.a == m.next {
			return false
		}
	}
	return protocol == 'C' && t.journal != "1M"
}

// promoteAnyhow promotes the heir as an administrator does who has nobody else: by force where a resync into it was not finished and nobody
// is left to finish it.
func (t *trio) promoteAnyhow() error {
	end := time.Now().Add(patience)
	for {
		err := t.primary.do("primary")
		if err == nil {
			return nil
		}
		if t.inconsistent(t.primary) && time.Now().Add(patience/2).After(end) {
			return t.primary.do("primary", "force")
		}
		if time.Now().After(end) {
			return err
		}
		t.pass(time.Second)
	}
}

// healSplitBrains does what an administrator does: the Primary's data wins.
func (t *trio) healSplitBrains() error {
	for range 4 {
		t.pass(30 * time.Second)
		alone := false
		for _, a := range t.machines {
			for _, p := range a.status().Peers {
				if p.Conn != state.StandAlone {
					continue
				}
				alone = true
				fmt.Fprintf(t.out, "=== %s dropped %s\n", a.name, p.Name)
			}
		}
		if !alone {
			return nil
		}
		for _, a := range t.others() {
			if err := errors.Join(a.do("disconnect"), a.do("connect", "discard-my-data")); err != nil {
				return err
			}
		}
		if err := t.primary.do("connect"); err != nil {
			return err
		}
	}
	return errors.New("nodes drop each other for ever")
}

func (t *trio) await(what string, ok func() bool) error {
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			text := fmt.Sprintf("not %s after %v:", what, patience)
			for _, m := range t.machines {
				text += fmt.Sprintf("\n%+v", m.status())
			}
			return errors.New(text)
		}
		t.pass(50 * time.Millisecond)
	}
	return nil
}

// connected reports whether everybody is connected with everybody.
func (t *trio) connected() bool {
	for _, m := range t.machines {
		f := m.status()
		if len(f.Peers) != 2 || f.Peers[0].Conn != state.Connected || f.Peers[1].Conn != state.Connected {
			return false
		}
	}
	return true
}

// inSync reports whether all are connected, everybody is UpToDate, and what the Primary and each Secondary say of the other is that nothing differs.
func (t *trio) inSync() bool {
	if !t.connected() {
		return false
	}
	for _, m := range t.machines {
		f := m.status()
		for i := range f.Volumes {
			if f.Volumes[i].Disk != state.UpToDate {
				return false
			}
		}
		for i := range f.Peers {
			if !settled(&f.Peers[i]) {
				return false
			}
		}
	}
	return true
}

func settled(p *face.Peer) bool {
	for i := range p.Volumes {
		if v := &p.Volumes[i]; v.Disk != state.UpToDate || v.Conn != state.Connected || v.OutOfSync > 0 {
			return false
		}
	}
	return p.LagBytes == 0
}

// equal waits until everybody says that all are in sync, and compares the disks.
func (t *trio) equal() error {
	if err := t.await("in sync", t.inSync); err != nil {
		return err
	}
	t.pass(10 * time.Second) // what is staged gets applied
	if !t.inSync() {
		return errors.New("in sync, and then no more")
	}
	t.base = nil
	if err := t.flush(); err != nil {
		return err
	}
	for i := range t.volumes {
		a := t.primary.disks[i].Clone()
		for _, m := range t.others() {
			if d := difference(a, m.disks[i].Clone()); d != "" {
				return fmt.Errorf("volume %d: %s and %s say UpToDate and differ: %s", i, t.primary.name, m.name, d)
			}
		}
		t.base = append(t.base, image{a})
	}
	return nil
}
