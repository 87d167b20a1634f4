package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"drship/internal/disk"
	"drship/internal/state"
)

// walk goes over verbs, crashes, cuts and failing disks at random. Every write has a block of its own and is durable when it is answered, so that at the
// end it can be seen whether it survived.
type walk struct {
	*run
	rng   *rand.Rand
	nodes [2]*machine
	next  int // the next block

	safe map[int]string // acknowledged while both sides were in sync: on both
	// lone holds, by machine, what was acknowledged while only its data was in reach. Only naming the machine as the loser may lose it.
	lone map[string]map[int]string

	writes int // acknowledged
	splits int
	forced int
}

const (
	walkBlocks = 1500 // blocks with a write of their own; behind them is room for bursts
	writeLimit = 5 * time.Second
)

const walkConfig = `
resource r0 {
	net { protocol C; cram-hmac-alg sha256; shared-secret "simulated"; verify-alg sha1; }
	options { on-no-data-accessible %s; }
	journal { max-size 1M; }
	on alice { address 10.0.0.1:7788; volume 0 { device /dev/drbd0; disk /sim/alice/0; meta-disk internal; } }
	on bob   { address 10.0.0.2:7788; volume 0 { device /dev/drbd0; disk /sim/bob/0; meta-disk internal; } }
}
`

// newWalk makes a pair, both sides UpToDate. Inside a bubble.
func newWalk(seed uint64, dir string, out io.Writer) (*walk, error) {
	p := plan{seed: seed, protocol: 'C', volumes: 1, journal: "1M"}
	w := &walk{run: newRun(p, dir, out), rng: rand.New(rand.NewPCG(seed, 0x77616c6b)), safe: map[int]string{},
		lone: map[string]map[int]string{"alice": {}, "bob": {}}}
	w.nodes = [2]*machine{w.primary, w.secondary}
	noData := []string{"io-error", "suspend-io"}[seed%2]
	for _, m := range w.nodes {
		m.conf = fmt.Sprintf(walkConfig, noData)
	}
	w.world.set(line{delay: time.Millisecond})
	return w, w.create()
}

// act is one thing that may happen, and how often beside the others.
type act struct {
	name   string
	weight int
	do     func(w *walk, m *machine) error
}

func verbAct(verb string, weight int, options ...string) act {
	return act{strings.Join(append([]string{verb}, options...), " "), weight, func(_ *walk, m *machine) error {
		if m.node == nil {
			return errors.New("off")
		}
		return m.do(verb, options...)
	}}
}

var acts = []act{
	{"write", 12, func(w *walk, m *machine) error { return w.writeSome(m) }},
	{"burst", 2, func(w *walk, m *machine) error { return w.burst(m) }},
	{"kill", 1, func(w *walk, m *machine) error { return w.crashIt(m, killed) }},
	{"lose power", 1, func(w *walk, m *machine) error { return w.crashIt(m, powerLoss) }},
	{"start", 4, func(w *walk, m *machine) error { return w.startIt(m) }},
	{"cut", 1, func(w *walk, _ *machine) error { w.world.setCut(true); return nil }},
	{"mend the line", 2, func(w *walk, _ *machine) error { w.world.setCut(false); return nil }},
	{"slow line", 1, func(w *walk, _ *machine) error {
		w.world.set(line{delay: 40 * time.Millisecond, loss: 0.01})
		return nil
	}},
	{"quick line", 1, func(w *walk, _ *machine) error { w.world.set(line{delay: time.Millisecond}); return nil }},
	{"disk fails", 2, func(_ *walk, m *machine) error {
		m.fails.Add(disk.Fault{Ops: disk.OpWrite | disk.OpSync | disk.OpZero, Err: syscall.EIO})
		return nil
	}},
	{"disk reads fail", 1, func(_ *walk, m *machine) error {
		m.fails.Add(disk.Fault{Ops: disk.OpRead, Err: syscall.EIO, Times: 3})
		return nil
	}},
	{"mend the disk", 3, func(_ *walk, m *machine) error { m.fails.Clear(); return nil }},
	{"heal", 2, func(w *walk, _ *machine) error { return w.heal() }},
	{"primary --force", 1, func(w *walk, m *machine) error { return w.force(m) }},
	{"invalidate", 1, func(w *walk, m *machine) error { return w.invalidate(m, m, "invalidate") }},
	{"invalidate-remote", 1, func(w *walk, m *machine) error { return w.invalidate(m, w.other(m), "invalidate-remote") }},
	verbAct("primary", 6), verbAct("secondary", 3), verbAct("disconnect", 3), verbAct("connect", 6), verbAct("detach", 3), verbAct("attach", 5),
	verbAct("outdate", 1), verbAct("pause-sync", 1), verbAct("resume-sync", 2), verbAct("verify", 2), verbAct("suspend-io", 1), verbAct("resume-io", 8),
	verbAct("pause", 1), verbAct("resume", 2), verbAct("down", 1), verbAct("up", 3),
}

func (w *walk) other(m *machine) *machine {
	if m == w.nodes[0] {
		return w.nodes[1]
	}
	return w.nodes[0]
}

// step does one thing; a node may refuse it, which is an answer like any other.
func (w *walk) step(i int) error {
	sum := 0
	for _, a := range acts {
		sum += a.weight
	}
	n := w.rng.IntN(sum)
	m := w.nodes[w.rng.IntN(2)]
	for _, a := range acts {
		if n -= a.weight; n >= 0 {
			continue
		}
		fmt.Fprintf(w.out, "=== step %d: %s: %s\n", i, m.name, a.name)
		err := a.do(w, m)
		var lost *lostError
		if errors.As(err, &lost) {
			return err
		}
		if err != nil {
			fmt.Fprintf(w.out, "=== %v\n", err)
		}
		break
	}
	w.pass(time.Duration(w.rng.ExpFloat64() * float64(300*time.Millisecond)))
	return nil
}

// lostError is what a walk looks for: a promise that was broken.
type lostError struct{ text string }

func (e *lostError) Error() string { return e.text }

// pass lets time go by and looks at the states meanwhile.
func (w *walk) pass(d time.Duration) {
	d = min(d, 5*time.Second)
	every := max(d/40, 2*time.Millisecond)
	for end := time.Now().Add(d); ; {
		w.look()
		if !time.Now().Before(end) {
			return
		}
		time.Sleep(every)
	}
}

// look notes the states of both machines.
func (w *walk) look() {
	for _, m := range w.machines {
		if at := w.atlas.look(m); at != "" {
			fmt.Fprintf(w.out, "--- %s: %s\n", m.name, at)
		}
	}
}

func (m *machine) inSync() bool {
	if m.node == nil {
		return false
	}
	f := m.status()
	return len(f.Peers) == 1 && inSync(f)
}

// writeSome writes a few blocks if the machine is Primary.
func (w *walk) writeSome(m *machine) error {
	if m.node == nil {
		return errors.New("off")
	}
	v, err := m.open(0)
	if err != nil {
		return err
	}
	defer v.close()
	for range 1 + w.rng.IntN(4) {
		if w.next >= walkBlocks {
			return errors.New("no block left")
		}
		b, text := w.next, fmt.Sprintf("%s wrote block %d", m.name, w.next)
		w.next++
		before := m.inSync() && w.other(m).inSync()
		ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
		err := v.WriteAt(ctx, filled(text), int64(b)*4096, true)
		cancel()
		if err != nil {
			return err
		}
		w.writes++
		switch {
		case before && m.inSync() && w.other(m).inSync():
			w.safe[b] = text
		case m.holdsData():
			w.lone[m.name][b] = text
		default:
			w.lone[w.other(m).name][b] = text
		}
	}
	return nil
}

// holdsData reports whether what is written on the machine is on its own disk, and not on its peer's alone.
func (m *machine) holdsData() bool {
	f := m.status()
	return len(f.Volumes) > 0 && f.Volumes[0].Disk == state.UpToDate
}

// burst writes more than the journal takes, behind the blocks that are checked one by one.
func (w *walk) burst(m *machine) error {
	if m.node == nil {
		return errors.New("off")
	}
	v, err := m.open(0)
	if err != nil {
		return err
	}
	defer v.close()
	data := make([]byte, 128<<10)
	for i := range data {
		data[i] = byte(w.rng.Uint32())
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	done := make(chan error, 12)
	for i := range cap(done) {
		go func() { done <- v.WriteAt(ctx, data, int64(walkBlocks)*4096+int64(i)*int64(len(data)), false) }()
	}
	for range cap(done) {
		err = errors.Join(err, <-done)
	}
	return err
}

// filled is a block that says something.
func filled(text string) []byte { return bytes.Repeat([]byte(text+" "), 4096/(len(text)+1)+1)[:4096] }

func (w *walk) crashIt(m *machine, f fault) error {
	if m.node == nil {
		return errors.New("off already")
	}
	m.crash(f)
	return nil
}

func (w *walk) startIt(m *machine) error {
	if m.node != nil {
		return errors.New("on already")
	}
	return errors.Join(m.start(), m.do("up"))
}

// force promotes a machine whose data is not the newest: what it lacks is lost on the administrator's word.
func (w *walk) force(m *machine) error {
	if m.node == nil {
		return errors.New("off")
	}
	if err := m.do("primary", "force"); err != nil {
		return err
	}
	w.chosen(m)
	return nil
}

// chosen takes note that a machine's data was declared the good one: what it does not hold may be lost.
func (w *walk) chosen(m *machine) {
	w.forced++
	hold := map[int]string{}
	for _, all := range []map[int]string{w.safe, w.lone["alice"], w.lone["bob"]} {
		for b, text := range all {
			if w.holds(m, b, text) {
				hold[b] = text
			}
		}
	}
	w.safe = map[int]string{}
	w.lone = map[string]map[int]string{"alice": {}, "bob": {}}
	w.lone[m.name] = hold
}

func (w *walk) holds(m *machine, b int, text string) bool {
	got := make([]byte, 4096)
	return m.disks[0].Clone().ReadAt(got, int64(b)*4096) == nil && bytes.Equal(got, filled(text))
}

// invalidate gives up the data of the victim, on the word of whoever says the verb.
func (w *walk) invalidate(m, victim *machine, verb string) error {
	if m.node == nil {
		return errors.New("off")
	}
	if err := m.do(verb); err != nil {
		return err
	}
	w.lone[victim.name] = map[int]string{}
	return nil
}

// heal brings everybody back and together, and checks what was promised.
func (w *walk) heal() error {
	w.world.setCut(false)
	w.world.set(line{delay: time.Millisecond})
	for _, m := range w.nodes {
		m.fails.Clear()
		if m.node == nil {
			if err := errors.Join(m.start(), m.do("up")); err != nil {
				return w.broken("start: %v", err)
			}
		}
		for _, verb := range []string{"resume-io", "resume", "resume-sync", "up"} {
			_ = m.do(verb) // says so where there is nothing to resume
		}
	}
	w.pass(3 * time.Second)
	for _, m := range w.nodes {
		if err := w.insist(m, "secondary"); err != nil {
			return w.broken("nobody uses %s, and it stays Primary: %v", m.name, err)
		}
	}
	for _, m := range w.nodes {
		_ = m.do("connect") // says so where it is connected
	}
	if err := w.meet(); err != nil {
		return err
	}
	return w.survived()
}

func (w *walk) insist(m *machine, verb string) (err error) {
	for range 60 {
		if err = m.do(verb); err == nil {
			return nil
		}
		w.pass(time.Second)
	}
	return err
}

// meet waits until both sides are in sync. In a split brain one is the victim, at random; where nobody's data counts as good, the side that wrote more is
// declared to be.
func (w *walk) meet() error {
	for try := range 4 {
		switch w.outcome() {
		case "in sync":
			return nil
		case "StandAlone":
			victim := w.nodes[w.rng.IntN(2)]
			survivor := w.other(victim)
			w.splits++
			fmt.Fprintf(w.out, "=== split brain: %s gives way\n", victim.name)
			_, _ = victim.do("disconnect"), survivor.do("disconnect")
			if survivor.status().Volumes[0].Disk <= state.Inconsistent {
				victim, survivor = survivor, victim
			}
			if said, err := victim.ask("explain", nil); err == nil && strings.Contains(strings.Join(said, "\n"), "verdict: Unrelated") {
				if err := victim.do("invalidate"); err != nil {
					return w.broken("worthless data cannot be given up: %v", err)
				}
			}
			if err := errors.Join(victim.do("connect", "discard-my-data"), survivor.do("connect")); err != nil {
				return w.broken("a split brain cannot be healed: %v", err)
			}
			w.lone[victim.name] = map[int]string{}
		default:
			best := w.nodes[0]
			if len(w.lone[w.nodes[1].name]) > len(w.lone[best.name]) || try%2 == 1 {
				best = w.nodes[1]
			}
			fmt.Fprintf(w.out, "=== nobody's data counts as good: that of %s is declared to be\n", best.name)
			if err := best.do("primary", "force"); err != nil {
				fmt.Fprintf(w.out, "=== %v\n", err)
				continue
			}
			w.chosen(best)
			for _, m := range w.nodes {
				_ = m.do("connect") // says so where it is connected
			}
			w.pass(3 * time.Second)
			if err := w.insist(best, "secondary"); err != nil {
				return w.broken("%s stays Primary: %v", best.name, err)
			}
		}
	}
	if o := w.outcome(); o != "in sync" {
		return w.broken("not in sync after all, but %s:\n%+v\n%+v", o, w.nodes[0].status(), w.nodes[1].status())
	}
	return nil
}

// outcome waits for what becomes of a connection.
func (w *walk) outcome() string {
	for range 120 {
		a, b := w.nodes[0].status(), w.nodes[1].status()
		if len(a.Peers) == 1 && len(b.Peers) == 1 {
			switch {
			case inSync(a) && inSync(b):
				return "in sync"
			case a.Peers[0].Conn == state.StandAlone && b.Peers[0].Conn == state.StandAlone:
				if a.Volumes[0].Disk <= state.Inconsistent && b.Volumes[0].Disk <= state.Inconsistent {
					return "worthless on both sides"
				}
				return "StandAlone"
			}
		}
		w.pass(500 * time.Millisecond)
	}
	return "neither equal nor apart"
}

// survived checks, on a pair that is in sync, that both disks are equal and hold everything that was promised.
func (w *walk) survived() error {
	w.pass(time.Second)
	if !w.nodes[0].inSync() || !w.nodes[1].inSync() {
		return w.broken("in sync, and then not")
	}
	if d := difference(w.nodes[0].disks[0].Clone(), w.nodes[1].disks[0].Clone()); d != "" {
		return w.broken("both sides say UpToDate and differ: %s", d)
	}
	for name, lone := range w.lone {
		maps.Copy(w.safe, lone)
		w.lone[name] = map[int]string{}
	}
	for _, b := range slices.Sorted(maps.Keys(w.safe)) {
		if !w.holds(w.nodes[0], b, w.safe[b]) {
			return w.broken("lost: %q", w.safe[b])
		}
	}
	return nil
}

func (w *walk) broken(format string, args ...any) error {
	return &lostError{fmt.Sprintf(format, args...)}
}
