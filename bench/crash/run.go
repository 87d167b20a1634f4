package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"drship/bench/pair"
	"drship/bench/stamp"
)

const (
	volumeSize  = 32 << 20
	writers     = 16
	connections = 2 // a volume
	// patience bounds everything that is waited for; far above what a loaded machine needs.
	patience = 90 * time.Second
)

// run is one pair through its moments.
type run struct {
	settings
	seed      uint64
	rng       *rand.Rand
	proto     string
	pair      *pair.Pair
	primary   *pair.Node
	secondary *pair.Node
	base      [][]byte // what every volume held when the moment began, the same on both sides
	next      uint64   // ID of the next operation
}

func newRun(s settings, dir string, seed uint64) (*run, error) {
	r := &run{settings: s, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x637261736800)), next: 1}
	r.proto = string("ABC"[r.rng.IntN(3)])
	if s.protocol != "" {
		r.proto = s.protocol
	}
	sizes := []int64{volumeSize}
	if r.rng.IntN(3) == 0 {
		sizes = append(sizes, volumeSize)
	}
	var wan []string
	if seed%2 == 1 { // differences and references, which a line as near as this one would not get by itself
		wan = []string{"compression zstd"}
	}
	if seed%4 == 3 { // packed densely
		wan = append(wan, "level 9")
	}
	p, err := pair.New(pair.Options{
		Binary: s.binary, Dir: dir, Sizes: sizes, Protocol: r.proto,
		Net: pair.QuickTiming(), WAN: wan,
	})
	if err != nil {
		return nil, err
	}
	r.pair, r.primary, r.secondary = p, p.Nodes[0], p.Nodes[1]
	for range sizes {
		r.base = append(r.base, make([]byte, volumeSize))
	}
	return r, nil
}

// all creates the pair and goes through the moments.
func (r *run) all(ctx context.Context, moments int, sum *tally) error {
	bound, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.pair.Create(bound); err != nil {
		return fmt.Errorf("create the pair: %w", err)
	}
	if err := r.pair.Sync(bound); err != nil {
		return fmt.Errorf("initial sync: %w", err)
	}
	for i := range moments {
		p := draw(r.rng)
		fmt.Fprintf(r.out, "seed %d, protocol %s, %d volumes, moment %d: %v\n", r.seed, r.proto, r.pair.Volumes(), i+1, p)
		bound, cancel := context.WithTimeout(ctx, 3*patience)
		err := r.moment(bound, p, sum)
		cancel()
		if err != nil {
			return fmt.Errorf("moment %d (%v): %w", i+1, p, err)
		}
	}
	return nil
}

// moment is one crash, from an equal pair to an equal pair.
func (r *run) moment(ctx context.Context, p plan, sum *tally) error {
	ops, err := r.crash(ctx, p)
	if err != nil {
		return err
	}
	sum.add(ops)
	switch {
	case p.victim == killSecondary:
		err = r.grow(ctx)
	case p.sequel == comeBack:
		sum.returns++
		err = r.comeBack(ctx, p, ops)
	default:
		sum.promotions++
		err = r.takeOver(ctx, p, ops, sum)
	}
	if err != nil {
		return err
	}
	return r.equal(ctx)
}

func (t *tally) add(ops []stamp.Op) {
	for i := range ops {
		t.operations++
		if ops[i].Done != 0 {
			t.acknowledged++
		}
	}
}

// crash puts the pair under load and kills. It returns what the load did once it has ended.
func (r *run) crash(ctx context.Context, p plan) ([]stamp.Op, error) {
	log := stamp.NewLog(r.next)
	load, err := r.openLoad(ctx, log)
	if err != nil {
		return nil, err
	}
	defer load.close()
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- load.Run(loadCtx) }()
	if err := pair.Pause(ctx, p.load); err != nil {
		return nil, err
	}
	if err := r.kill(ctx, p); err != nil {
		return nil, err
	}
	if p.victim == killSecondary {
		err = r.secondaryReturns(ctx, p)
		stop()
	}
	if err != nil {
		load.close()
		<-ended
		return nil, err
	}
	if err := <-ended; p.victim == killSecondary && err != nil {
		return nil, fmt.Errorf("the primary lost its peer and failed its client: %w", err)
	}
	r.next = log.Next()
	return log.Ops(), nil
}

func (r *run) kill(ctx context.Context, p plan) error {
	first, second := r.primary, r.secondary
	if p.victim == killSecondary || p.victim == killBoth && p.sequel == comeBack && r.rng.IntN(2) == 0 {
		first, second = second, first
	}
	if err := first.Kill(); err != nil {
		return err
	}
	if p.victim != killBoth {
		return nil
	}
	if err := pair.Pause(ctx, p.gap); err != nil {
		return err
	}
	return second.Kill()
}

// secondaryReturns starts a killed secondary while its primary works on.
func (r *run) secondaryReturns(ctx context.Context, p plan) error {
	if err := pair.Pause(ctx, p.gap*10); err != nil {
		return err
	}
	if err := r.start(ctx, r.secondary, p); err != nil {
		return err
	}
	return pair.Pause(ctx, p.settle)
}

// start starts a dead node and brings its resource up; where the plan says so, it is killed once more on its way.
func (r *run) start(ctx context.Context, n *pair.Node, p plan) error {
	if p.again {
		if err := n.Start(ctx); err != nil {
			return err
		}
		if err := n.Up(ctx); err != nil {
			return err
		}
		if err := pair.Pause(ctx, p.settle); err != nil {
			return err
		}
		if err := n.Kill(); err != nil {
			return err
		}
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	return n.Up(ctx)
}
