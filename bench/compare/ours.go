package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"drship/bench/pair"
	"drship/bench/relay"
)

// The names that ratios refer to.
const (
	alone      = "drship, unreplicated"
	protocolA  = "drship, protocol A"
	protocolB  = "drship, protocol B"
	protocolC  = "drship, protocol C"
	nbdkitFile = "nbdkit file"
	qemuAlone  = "qemu-storage-daemon"
	qemuMirror = "qemu-storage-daemon, mirror"

	lineNone  = "loopback"
	lineClean = "the line"
	lineLossy = "the line, 1 % lost"
	lineCut   = "the line, cut"
)

func (b *bench) loopback() []maker {
	return []maker{
		{alone, b.unreplicated},
		{protocolA, b.replicated("A", nil, false)},
		{protocolB, b.replicated("B", nil, false)},
		{protocolC, b.replicated("C", nil, false)},
		{nbdkitFile, nbdkit},
		{qemuAlone, qemu},
		{qemuMirror, mirrored},
	}
}

func (b *bench) lines() []maker {
	line := relay.Link{Delay: 25 * time.Millisecond, Rate: 100_000_000 / 8, Queue: 1 << 20}
	lossy := line
	lossy.Loss = 0.01
	return []maker{
		{alone, b.unreplicated},
		{lineNone, b.replicated("A", nil, false)},
		{lineClean, b.replicated("A", &line, false)},
		{lineLossy, b.replicated("A", &lossy, false)},
		{lineCut, b.replicated("A", &line, true)},
	}
}

// unreplicated is a node whose resource has no peer.
func (b *bench) unreplicated(ctx context.Context, dir string) (subject, error) {
	p, err := b.newPair(pair.Options{Dir: dir, Protocol: "A", Nodes: []string{"alice"}})
	if err != nil {
		return subject{}, err
	}
	alice := p.Node("alice")
	stop := func() error { return errors.Join(p.Close(), p.Remove()) }
	if err := errors.Join(p.Create(ctx), alice.Promote(ctx, "--force")); err != nil {
		return subject{}, errors.Join(err, stop())
	}
	return subject{uri: alice.URI(0), stop: stop, pids: []int{alice.PID()}}, nil
}

// newPair prepares a pair over filled images.
func (b *bench) newPair(o pair.Options) (*pair.Pair, error) {
	nodes := o.Nodes
	if nodes == nil {
		nodes = []string{"alice", "bob"}
	}
	for _, node := range nodes {
		if _, err := filled(filepath.Join(o.Dir, node), "disk.img"); err != nil {
			return nil, err
		}
	}
	o.Binary, o.Sizes = b.binary, []int64{volumeSize}
	o.Backing = func(node string, _ int) string { return filepath.Join(o.Dir, node, "disk.img") }
	return pair.New(o)
}

// replicated is a pair in sync; over a link if there is one, which is cut where cut says so.
func (b *bench) replicated(protocol string, link *relay.Link, cut bool) func(context.Context, string) (subject, error) {
	return func(ctx context.Context, dir string) (subject, error) {
		o := pair.Options{Dir: dir, Protocol: protocol}
		if link != nil {
			o.Link = &relay.Link{}
		}
		p, err := b.newPair(o)
		if err != nil {
			return subject{}, err
		}
		stop := func() error { return errors.Join(p.Close(), p.Remove()) }
		bound, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		if err := errors.Join(p.Create(bound), p.Sync(bound)); err != nil {
			return subject{}, errors.Join(fmt.Errorf("bring up a pair: %w", err), stop())
		}
		alice := p.Node("alice")
		s := subject{uri: alice.URI(0), stop: stop, pids: []int{alice.PID(), p.Node("bob").PID()}}
		s.behind = func(ctx context.Context) (int64, error) {
			status, err := alice.Status(ctx)
			return status.Behind(), err
		}
		s.before = func() { spoil(p.Relay, link, cut) }
		s.after = func(ctx context.Context) error {
			heal(p.Relay)
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			_, err := alice.Wait(ctx, "the peer to have everything", func(s pair.Status) bool { return s.InSync() && s.Drained() })
			return err
		}
		return s, nil
	}
}

// spoil gives the line between two nodes its limits, or cuts it; heal makes it perfect, so that what has gathered gets
// through. Without a relay there is nothing to do.
func spoil(r *relay.Relay, link *relay.Link, cut bool) {
	if r == nil {
		return
	}
	r.Set(*link)
	if cut {
		r.Cut()
	}
}

func heal(r *relay.Relay) {
	if r != nil {
		r.Heal()
		r.Set(relay.Link{})
	}
}
