package splitbrain

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// walk goes over verbs, kills and cuts at random. Every write has a block of its own, so that whether it survived can be seen at the end.
type walk struct {
	*world
	rng  *rand.Rand
	next int            // the next block
	safe map[int]string // acknowledged under protocol C while the peer was in sync: nothing may lose it
	lone map[string]map[int]string
	// lone holds, by node, what was acknowledged without a peer: only naming the node as the victim of a split brain may lose it.
	split int
}

// TestWalk: no acknowledged protocol C write disappears unless its node was named as the victim, and disks that say UpToDate after healing are
// equal. DRSHIP_WALK_SEED replays a walk, DRSHIP_WALK_STEPS makes it longer.
func TestWalk(t *testing.T) {
	seed, steps := uint64(number(t, "DRSHIP_WALK_SEED", 11)), number(t, "DRSHIP_WALK_STEPS", 120)
	w := &walk{world: begin(t, pair.Options{}), rng: rand.New(rand.NewPCG(seed, 0x77616c6b)), safe: map[int]string{},
		lone: map[string]map[int]string{"alice": {}, "bob": {}}}
	t.Logf("seed %d", seed)
	for i := range steps {
		w.step(i)
	}
	w.heal()
	t.Logf("%d writes survived, %d split brains were healed", len(w.safe), w.split)
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// step does one thing; a node may refuse it, which is an answer like any other.
func (w *walk) step(i int) {
	n := w.pair.Nodes[w.rng.IntN(2)]
	act := w.rng.IntN(16)
	w.Logf("step %d: %d on %s", i, act, n.Name)
	switch {
	case act < 4:
		w.writeSome(n)
		return
	case act == 4:
		if err := n.Kill(); err != nil {
			w.Fatal(err)
		}
		return
	case act < 7:
		w.startIfDead(n)
		return
	case act == 7:
		w.heal()
		return
	}
	if !n.Running() {
		return
	}
	verb := []string{"primary", "primary", "secondary", "disconnect", "connect", "connect", "detach", "attach"}[act-8]
	if _, err := n.Verb(w.ctx, verb, pair.Resource); err != nil {
		w.Logf("%v", err)
	}
}

func (w *walk) other(n *pair.Node) *pair.Node {
	if n == w.alice {
		return w.bob
	}
	return w.alice
}

func (w *walk) startIfDead(n *pair.Node) {
	w.Helper()
	if n.Running() {
		return
	}
	if err := n.Start(w.ctx); err != nil {
		w.Fatal(err)
	}
	if err := n.Up(w.ctx); err != nil {
		w.Fatal(err)
	}
}

func (w *walk) inSync(n *pair.Node) bool {
	s, err := n.Status(w.ctx)
	return err == nil && s.InSync()
}

// writeSome writes a few blocks if the node is Primary.
func (w *walk) writeSome(n *pair.Node) {
	w.Helper()
	if s, err := n.Status(w.ctx); !n.Running() || err != nil || s.Role != "Primary" {
		return
	}
	v, err := n.Open(w.ctx, 0)
	if err != nil {
		return // demoted meanwhile
	}
	defer v.Close()
	for range 1 + w.rng.IntN(4) {
		b, text := w.next, fmt.Sprintf("%s wrote block %d", n.Name, w.next)
		w.next++
		before := w.inSync(n)
		if err := v.WriteAt(w.ctx, content(text), int64(b)*4096, false); err != nil {
			if s, serr := n.Status(w.ctx); serr == nil && s.Devices[0].Disk == "UpToDate" {
				w.Fatalf("%s, Primary, failed a write: %v", n.Name, err)
			}
			return // no disk here, and no peer that serves
		}
		switch s, err := n.Status(w.ctx); {
		case before && w.inSync(n):
			w.safe[b] = text
		case err == nil && s.Devices[0].Disk != "UpToDate": // it is on the peer alone
			w.lone[w.other(n).Name][b] = text
		default:
			w.lone[n.Name][b] = text
		}
	}
}

// heal brings both nodes back and together. In a split brain one is the victim, at random.
func (w *walk) heal() {
	w.Helper()
	for _, n := range w.pair.Nodes {
		w.startIfDead(n)
	}
	for _, n := range w.pair.Nodes {
		_, _ = n.Verb(w.ctx, "attach", pair.Resource) // says so where there is a disk
		if err := n.Demote(w.ctx); err != nil {
			w.Fatal(err)
		}
	}
	w.connectBoth()
	settled := func(s pair.Status) bool { return s.InSync() || s.Connections[0].State == "StandAlone" }
	s := w.wait(w.alice, "in sync, or a split brain", settled)
	w.wait(w.bob, "in sync, or a split brain", settled)
	if !s.InSync() {
		w.split++
		victim, survivor := w.alice, w.bob
		if w.rng.IntN(2) == 0 {
			victim, survivor = w.bob, w.alice
		}
		w.Logf("split brain: %s gives way", victim.Name)
		w.verb(victim, "connect", "--discard-my-data")
		w.verb(survivor, "connect")
		w.lone[victim.Name] = map[int]string{}
	}
	w.equal()
	for name, lone := range w.lone {
		for b, text := range lone {
			w.safe[b] = text
		}
		w.lone[name] = map[int]string{}
	}
	disk := pairtest.Disk(w, w.bob)
	for b, text := range w.safe {
		if got := disk[b*4096 : (b+1)*4096]; !bytes.Equal(got, content(text)) {
			w.Errorf("lost: %q; the block holds %.24q", text, got)
		}
	}
	if w.Failed() {
		w.FailNow()
	}
}
