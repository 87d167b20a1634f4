package sim

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/internal/face"
	"drship/internal/state"
)

// three is three nodes that all hold the same data, alice Primary, for tests of one thing each.
type three struct {
	*testing.T
	*trio
	alice, bob, charlie *machine
	log                 lockedBuffer
}

// threeUp makes them, each connected with each by protocol C unless far says otherwise of charlie. Inside a bubble.
func threeUp(t *testing.T, dir string, far byte, sections string) *three {
	p := trioPlan{plan: plan{seed: 1, protocol: 'C', volumes: 1, journal: "64M"}, far: far}
	w := newWorld(p.plan)
	x := &three{T: t}
	x.trio = &trio{plan: p, run: run{plan: p.plan, world: w, rng: rand.New(rand.NewPCG(1, 3)), next: 1, out: &x.log, atlas: newAtlas()}}
	for i, name := range trioNames {
		m := newMachine(w, name, dir, p.plan, uint64(100*i), &x.log)
		m.conf = strings.TrimSuffix(p.config(), "}\n") + sections + "}\n"
		x.machines = append(x.machines, m)
	}
	x.alice, x.bob, x.charlie = x.machines[0], x.machines[1], x.machines[2]
	x.trio.primary = x.alice
	w.set(line{delay: time.Millisecond})
	t.Cleanup(func() {
		for _, m := range x.machines {
			m.stop()
		}
		w.net.Close()
		if t.Failed() {
			t.Log(x.log.String())
		}
	})
	x.must(x.trio.create())
	return x
}

func (x *three) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *three) verb(m *machine, verb string, options ...string) {
	x.Helper()
	x.must(m.do(verb, options...))
}

func (x *three) sees(m *machine, what string, ok func(face.Resource) bool) {
	x.Helper()
	x.must(x.await(m.name+": "+what, func() bool { return ok(m.status()) }))
}

func (x *three) diskIs(m *machine, d state.Disk) {
	x.Helper()
	x.sees(m, d.String(), func(f face.Resource) bool { return f.Volumes[0].Disk == d })
}

func (x *three) holds(m *machine, b int, text string) {
	x.Helper()
	got := make([]byte, block.Size)
	if err := m.disks[0].ReadAt(got, int64(b)*block.Size); err != nil || !bytes.Equal(got, filled(text)) {
		x.Errorf("block %d of %s holds %.20q, not %q (%v)", b, m.name, got, text, err)
	}
}

// TestDisklessAmongThree: a Primary whose disk fails goes on through its peers: it writes to all, reads from one that is UpToDate, and from
// another once that one is gone. Its client notices nothing. The disk gets back what it missed.
func TestDisklessAmongThree(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		x := threeUp(t, dir, 'C', "")
		v := clientOf(t, x.alice, 0)
		defer v.close()
		v.writes("first", 1, 2, 3)
		x.alice.fails.Add(disk.Fault{Ops: disk.OpAny, Err: syscall.EIO})
		v.reads("first", 1, 2)
		v.writes("second", 2)
		v.reads("second", 2)
		x.diskIs(x.alice, state.Diskless)
		for _, m := range []*machine{x.bob, x.charlie} {
			x.sees(m, "a Primary without a disk", func(f face.Resource) bool {
				return f.Peers[0].Role == state.Primary && f.Peers[0].Volumes[0].Disk == state.Diskless && f.Volumes[0].Disk == state.UpToDate
			})
		}
		x.bob.crash(powerLoss)
		v.reads("second", 2) // waits until bob is known to be gone
		v.writes("third", 3)
		v.reads("third", 3)
		x.must(x.bob.start())
		x.verb(x.bob, "up")
		x.sees(x.bob, "UpToDate again", func(f face.Resource) bool {
			return f.Peers[0].Conn == state.Connected && f.Volumes[0].Disk == state.UpToDate
		})
		x.charlie.crash(killed)
		v.reads("third", 3)
		v.writes("fourth", 4)
		v.reads("fourth", 4)
		x.must(x.charlie.start())
		x.verb(x.charlie, "up")
		x.alice.fails.Clear()
		x.verb(x.alice, "attach")
		v.writes("fifth", 5)
		x.diskIs(x.alice, state.UpToDate)
		x.must(x.equal())
		for b, text := range map[int]string{1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"} {
			for _, m := range x.machines {
				x.holds(m, b, text)
			}
		}
	})
}

// TestDisklessHandsOver: a Primary without a disk demotes, a Secondary without a disk is promoted; when nobody is left that has the data, requests
// fail, or wait where the configuration says so.
func TestDisklessHandsOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		x := threeUp(t, dir, 'C', "options { on-no-data-accessible suspend-io; }")
		v := clientOf(t, x.alice, 0)
		v.writes("alice", 1)
		x.verb(x.bob, "detach")
		x.diskIs(x.bob, state.Diskless)
		x.must(x.await("connected", x.connected))
		v.writes("bob has no disk", 2)
		v.close()
		x.verb(x.alice, "secondary")
		x.sees(x.bob, "alice Secondary", func(f face.Resource) bool { return f.Peers[0].Role == state.Secondary })
		x.verb(x.bob, "primary")
		v = clientOf(t, x.bob, 0)
		v.reads("alice", 1)
		v.reads("bob has no disk", 2)
		v.writes("bob", 3)
		x.sees(x.bob, "at one with charlie", func(f face.Resource) bool { return f.Peers[1].Conn == state.Connected && settled(&f.Peers[1]) })
		x.world.setLine(trioAddresses["alice"], trioAddresses["bob"], true)
		v.reads("bob", 3)
		v.writes("charlie alone", 4)
		x.charlie.crash(powerLoss)
		waiting := make(chan error, 1)
		go func() { waiting <- v.WriteAt(context.Background(), filled("waits"), 5*block.Size, false) }()
		x.sees(x.bob, "suspended", func(f face.Resource) bool { return f.Suspended.NoData })
		x.must(x.charlie.start())
		x.verb(x.charlie, "up")
		x.must(<-waiting)
		v.reads("charlie alone", 4)
		v.reads("waits", 5)
		x.world.setLine(trioAddresses["alice"], trioAddresses["bob"], false)
		x.verb(x.bob, "attach")
		x.diskIs(x.bob, state.UpToDate)
		v.close()
		x.trio.primary = x.bob
		x.must(x.equal())
		for b, text := range map[int]string{1: "alice", 2: "bob has no disk", 3: "bob", 4: "charlie alone", 5: "waits"} {
			for _, m := range x.machines {
				x.holds(m, b, text)
			}
		}
	})
}

// TestCutOffNodeIsPromoted: a node that is cut off from both others becomes Primary beside theirs. When the lines are back that is a split brain between the
// two Primaries, and nobody's data changes; the third node stays with the one that it followed. The victim gives its data up by hand.
func TestCutOffNodeIsPromoted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		x := threeUp(t, dir, 'C', "")
		v := clientOf(t, x.alice, 0)
		v.writes("all have this", 1, 2)
		bob := trioAddresses["bob"]
		cut := func(on bool) {
			x.world.setLine(bob, trioAddresses["alice"], on)
			x.world.setLine(bob, trioAddresses["charlie"], on)
		}
		cut(true)
		x.sees(x.bob, "cut off", func(f face.Resource) bool {
			return f.Peers[0].Conn < state.Connected && f.Peers[1].Conn < state.Connected
		})
		x.verb(x.bob, "primary")
		w := clientOf(t, x.bob, 0)
		w.writes("bob", 2, 3)
		v.writes("alice", 2, 4)
		cut(false)
		x.sees(x.alice, "without bob", func(f face.Resource) bool {
			return f.Peers[0].Conn == state.StandAlone && f.Peers[1].Conn == state.Connected
		})
		x.sees(x.bob, "without alice", func(f face.Resource) bool { return f.Peers[0].Conn == state.StandAlone })
		if !strings.Contains(x.log.String(), "Split-Brain detected but unresolved, dropping connection!") {
			t.Error("nobody says that it is a split brain")
		}
		w.reads("bob", 2, 3)
		v.reads("alice", 2, 4)
		x.sees(x.charlie, "with alice", func(f face.Resource) bool {
			return f.Peers[0].Conn == state.Connected && f.Peers[0].Role == state.Primary && f.Volumes[0].Disk == state.UpToDate
		})
		w.close()
		v.close()
		x.verb(x.bob, "secondary")
		x.verb(x.bob, "disconnect")
		x.verb(x.bob, "connect", "discard-my-data")
		x.verb(x.alice, "connect")
		x.verb(x.charlie, "connect")
		x.must(x.equal())
		for b, text := range map[int]string{1: "all have this", 2: "alice", 4: "alice"} {
			for _, m := range x.machines {
				x.holds(m, b, text)
			}
		}
	})
}
