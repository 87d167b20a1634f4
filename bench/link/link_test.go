// Package link proves what a pair does when its link is cut, flaps, hangs, corrupts, or brings the wrong peer.
package link

import (
	"bytes"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
	"drship/bench/stamp"
)

var flaps = flag.Int("flaps", 50, "cuts of the link in TestFlaps")

const volumeSize = 64 << 20

// load is stamped writers on a Primary that a test ends when it has seen enough.
type load struct {
	t      *testing.T
	log    *stamp.Log
	volume *pair.Volume
	cancel context.CancelFunc
	ended  chan error
}

// startLoad writes at the pace of one request per writer and tick, so that the machine is left to the daemons.
func startLoad(ctx context.Context, t *testing.T, n *pair.Node, tick time.Duration) *load {
	t.Helper()
	x, err := n.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &load{t: t, log: stamp.NewLog(1), volume: x, cancel: cancel, ended: make(chan error, 1)}
	s := stamp.Mixed(stamp.Load{Targets: []stamp.Target{x}, Size: volumeSize, Writers: 16, Seed: 3, Log: l.log})
	if tick > 0 {
		s.Pace = func(ctx context.Context) error { return pair.Pause(ctx, tick) }
	}
	go func() { l.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		x.Close()
	})
	return l
}

// progress waits until the clients got n more answers: the volume serves.
func (l *load) progress(ctx context.Context, n int) {
	l.t.Helper()
	goal := l.log.Acknowledged() + n
	until(ctx, l.t, "the volume to answer", func() bool { return l.log.Acknowledged() >= goal })
}

// stop ends the load, which must not have failed, and returns what it did.
func (l *load) stop() []stamp.Op {
	l.t.Helper()
	l.cancel()
	if err := <-l.ended; err != nil {
		l.t.Fatalf("a client's request failed: %v", err)
	}
	l.volume.Close()
	return l.log.Ops()
}

func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func wait(ctx context.Context, t *testing.T, n *pair.Node, what string, ok func(pair.Status) bool) pair.Status {
	t.Helper()
	s, err := n.Wait(ctx, what, ok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apart(s pair.Status) bool { return !s.Connected() }

// settle waits until the pair is in sync again, demotes alice, waits for equal disks and checks them against the log.
func settle(ctx context.Context, t *testing.T, p *pair.Pair, ops []stamp.Op) {
	t.Helper()
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := alice.Demote(ctx); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "equal disks", func() bool { return bytes.Equal(disk(t, alice), disk(t, bob)) })
	must := func(o *stamp.Op) bool { return o.Done != 0 }
	r, err := stamp.Check(ops, []stamp.Image{bytes.NewReader(disk(t, bob))}, stamp.CheckOptions{Size: volumeSize, Must: must, Prefix: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
}

func disk(t *testing.T, n *pair.Node) []byte {
	t.Helper()
	f, err := os.Open(n.Backing(0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, volumeSize)
	if _, err := io.ReadFull(f, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCutAndHeal cuts the link under load: the volume goes on serving, and the journal catches up without a resync.
func TestCutAndHeal(t *testing.T) {
	for _, protocol := range []string{"A", "C"} {
		t.Run(protocol, func(t *testing.T) {
			ctx := pairtest.Real(t)
			p := pairtest.Up(ctx, t, pair.Options{Protocol: protocol, Link: &relay.Link{}})
			alice, bob := p.Node("alice"), p.Node("bob")
			l := startLoad(ctx, t, alice, 2*time.Millisecond)
			l.progress(ctx, 200)
			p.Relay.Cut()
			wait(ctx, t, alice, "the cut to be noticed", apart)
			wait(ctx, t, bob, "the cut to be noticed", apart)
			l.progress(ctx, 500)
			p.Relay.Heal()
			wait(ctx, t, bob, "the journal to catch up", func(s pair.Status) bool {
				if !s.UpToDate() {
					t.Errorf("a short outage made bob resync: %v", s)
				}
				return s.Connected() || t.Failed()
			})
			l.progress(ctx, 200)
			settle(ctx, t, p, l.stop())
		})
	}
}

// TestOneWayCut cuts only what alice sends, then only what bob sends: either is noticed by both.
func TestOneWayCut(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{Link: &relay.Link{}})
	l := startLoad(ctx, t, p.Node("alice"), 2*time.Millisecond)
	for _, d := range []relay.Direction{relay.AtoB, relay.BtoA} {
		p.Relay.CutDirection(d, true)
		for _, n := range p.Nodes {
			wait(ctx, t, n, "the cut to be noticed", apart)
		}
		l.progress(ctx, 100)
		p.Relay.CutDirection(d, false)
		for _, n := range p.Nodes {
			wait(ctx, t, n, "the connection", pair.Status.Connected)
		}
	}
	settle(ctx, t, p, l.stop())
}

// TestFlaps cuts and heals again and again, mostly shorter and sometimes longer than it takes to notice.
func TestFlaps(t *testing.T) {
	ctx := pairtest.Real(t)
	if *flaps > 200 {
		long, cancel := context.WithTimeout(t.Context(), time.Duration(*flaps)*5*time.Second)
		defer cancel()
		ctx = long
	}
	p := pairtest.Up(ctx, t, pair.Options{Protocol: "B", Link: &relay.Link{}})
	alice, bob := p.Node("alice"), p.Node("bob")
	before := memory(t, alice) + memory(t, bob)
	l := startLoad(ctx, t, alice, 10*time.Millisecond)
	rng := rand.New(rand.NewPCG(9, 9))
	for range *flaps {
		p.Relay.Cut()
		cut := time.Duration(5+rng.IntN(60)) * time.Millisecond
		if rng.IntN(8) == 0 {
			cut += 900 * time.Millisecond
		}
		if err := pair.Pause(ctx, cut); err != nil {
			t.Fatal(err)
		}
		p.Relay.Heal()
		if err := pair.Pause(ctx, time.Duration(5+rng.IntN(150))*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	l.progress(ctx, 100)
	settle(ctx, t, p, l.stop())
	if after := memory(t, alice) + memory(t, bob); after > before+300<<20 {
		t.Errorf("%d flaps made the daemons grow from %d to %d MiB", *flaps, before>>20, after>>20)
	}
}

func memory(t *testing.T, n *pair.Node) int64 {
	t.Helper()
	m, err := n.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return m.Resident
}

// TestHungPeer freezes bob under load, and once before the connection is made: alice goes on without him, also under protocol C.
func TestHungPeer(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{})
	alice, bob := p.Node("alice"), p.Node("bob")
	l := startLoad(ctx, t, alice, 2*time.Millisecond)
	l.progress(ctx, 100)
	freeze := func() {
		if err := bob.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	thaw := func() {
		if err := bob.Cont(); err != nil {
			t.Fatal(err)
		}
	}
	freeze()
	wait(ctx, t, alice, "the frozen peer to be given up", apart)
	l.progress(ctx, 300)
	thaw()
	wait(ctx, t, alice, "the connection", pair.Status.Connected)

	if _, err := alice.Verb(ctx, "disconnect", pair.Resource); err != nil {
		t.Fatal(err)
	}
	freeze()
	if _, err := alice.Verb(ctx, "connect", pair.Resource); err != nil {
		t.Fatal(err)
	}
	l.progress(ctx, 300)
	if s := wait(ctx, t, alice, "a status", func(pair.Status) bool { return true }); s.Connected() {
		t.Errorf("alice calls a peer connected that never answered: %v", s)
	}
	thaw()
	settle(ctx, t, p, l.stop())
}

// TestCorruptedPackets flips a bit in one of fifty datagrams, loses and doubles others: nothing wrong is ever applied.
func TestCorruptedPackets(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{Protocol: "A", Link: &relay.Link{}})
	p.Relay.Set(relay.Link{Delay: time.Millisecond, Corrupt: 0.02, Loss: 0.01, Duplicate: 0.02})
	l := startLoad(ctx, t, p.Node("alice"), 5*time.Millisecond)
	l.progress(ctx, 3000)
	ops := l.stop()
	if c := p.Relay.Counters(relay.AtoB); c.Corrupted == 0 || c.DroppedLoss == 0 {
		t.Fatalf("the line was too good for a test: %+v", c)
	}
	settle(ctx, t, p, ops)
}
