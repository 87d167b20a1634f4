package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"drship/bench/device"
	"drship/bench/pair"
	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

// patience bounds one round, and what comes before the first; far above what a loaded machine needs.
const patience = 4 * time.Minute

// run is one pair through its rounds.
type run struct {
	settings
	seed  uint64
	rng   *rand.Rand
	proto string

	line      *tun.Line
	pair      *pair.Pair
	machines  map[string]*machine
	primary   *pair.Node
	secondary *pair.Node

	began time.Time // the round

	client *device.Stack // the primary's export, with the file system; nil while nobody has it
	db     *postgres
	have   [writers]int // what the database held when it was looked at last
}

func newRun(s settings, dir string, seed uint64) *run {
	r := &run{settings: s, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x7265616c)), machines: map[string]*machine{}}
	r.dir = dir
	r.proto = string("ABC"[r.rng.IntN(3)])
	if s.protocol != "" {
		r.proto = s.protocol
	}
	return r
}

// create makes machines, line, pair and database.
func (r *run) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	var err error
	if r.db, err = newPostgres(filepath.Join(r.dir, "client", "mnt", "data"), filepath.Join(r.dir, "pg")); err != nil {
		return err
	}
	if r.line, err = tun.Start(tun.Config{Seed: r.seed}); err != nil {
		return err
	}
	for _, name := range []string{"alice", "bob"} {
		m, err := newMachine(ctx, filepath.Join(r.dir, "machine-"+name), r.rng.IntN(2) == 0, r.rng.Uint64())
		if m != nil {
			r.machines[name] = m
		}
		if err != nil {
			return err
		}
	}
	if err := r.createPair(ctx); err != nil {
		return err
	}
	if err := r.createDatabase(ctx); err != nil {
		return err
	}
	p := drawLine(r.rng)
	fmt.Fprintf(r.out, "seed %d, protocol %s, line %v, alice's disk %s, bob's %s\n", r.seed, r.proto, lineText(p), r.machines["alice"].kind(), r.machines["bob"].kind())
	return r.line.SetBoth(p)
}

func lineText(p emu.Params) string {
	return fmt.Sprintf("rtt=%v rate=%dM loss=%v%%", 2*p.Delay, p.Rate/1e6, 100*p.Loss)
}

func (m *machine) kind() string {
	if m.bare {
		return "a device"
	}
	return "a file"
}

func (r *run) createPair(ctx context.Context) error {
	o := pair.Options{
		Binary: r.binary, Dir: filepath.Join(r.dir, "pair"), Sizes: []int64{volumeSize}, Protocol: r.proto,
		// Quick, but no peer is missed because the machine is busy: what is committed without it is not promised.
		Net:      []string{"timeout 8", "ping-int 1", "ping-timeout 25", "connect-int 1"},
		Journal:  []string{fmt.Sprintf("max-size %dM", journalMax>>20)},
		StateDir: func(node string) string { return filepath.Join(r.machines[node].state(), "drship") },
		Backing:  func(node string, _ int) string { return r.machines[node].backing() },
	}
	if r.seed%2 == 1 { // differences and references, which a line as near as this one would not get by itself
		o.WAN = []string{"compression zstd"}
	}
	o.Over(r.line)
	var err error
	if r.pair, err = pair.New(o); err != nil {
		return err
	}
	r.primary, r.secondary = r.pair.Nodes[0], r.pair.Nodes[1]
	if err := r.pair.Create(ctx); err != nil {
		return fmt.Errorf("create the pair: %w", err)
	}
	if err := r.pair.Sync(ctx); err != nil {
		return fmt.Errorf("initial sync: %w", err)
	}
	return nil
}

func (r *run) createDatabase(ctx context.Context) error {
	if err := r.attach(ctx, true); err != nil {
		return err
	}
	if err := r.db.create(ctx); err != nil {
		return err
	}
	if err := r.detach(ctx); err != nil {
		return err
	}
	return r.pair.WaitUpToDate(ctx)
}

// attach mounts the volume on the primary's side; fresh formats it before.
func (r *run) attach(ctx context.Context, fresh bool) error {
	dir := filepath.Join(r.dir, "client")
	s, err := device.Open(ctx, filepath.Join(dir, "fuse"), r.primary.URI(0), volumeSize)
	if err != nil {
		return fmt.Errorf("attach the volume of %s: %w", r.primary.Name, err)
	}
	r.client = s
	loop, err := s.Loop(ctx, 0, volumeSize)
	if err == nil && fresh {
		err = device.Format(ctx, loop)
	}
	if err == nil {
		err = s.Mount(ctx, loop, filepath.Join(dir, "mnt"))
	}
	if err != nil {
		return fmt.Errorf("attach the volume of %s: %w", r.primary.Name, err)
	}
	return nil
}

// detach stops the database, unmounts, and has the file system checked.
func (r *run) detach(ctx context.Context) error {
	if err := r.db.stop(ctx); err != nil {
		return err
	}
	if err := r.client.Unmount(); err != nil {
		return err
	}
	if err := device.Run(ctx, "e2fsck", "-f", "-n", r.client.File()); err != nil {
		return fmt.Errorf("the file system of %s: %w", r.primary.Name, err)
	}
	err := r.client.Close()
	r.client = nil
	return err
}

// clientDies is the end of the machine on which the database runs.
func (r *run) clientDies() error {
	r.db.kill()
	if r.client == nil {
		return nil
	}
	err := r.client.Abort()
	r.client = nil
	if err != nil {
		return fmt.Errorf("take the dead client's file system away: %w", err)
	}
	return nil
}

// all goes through the rounds.
func (r *run) all(ctx context.Context, rounds int, sum *tally) error {
	for i := range rounds {
		p := draw(r.rng, r.fault)
		r.began = time.Now()
		bound, cancel := context.WithTimeout(ctx, patience)
		err := r.round(bound, p, sum)
		cancel()
		took := time.Since(r.began)
		if err != nil {
			return fmt.Errorf("round %d (%v): %w", i+1, p, err)
		}
		sum.slowest = max(sum.slowest, took)
		fmt.Fprintf(r.out, "  round %d: %v: %d commits so far, in %v\n", i+1, p, sum.commits, took.Round(100*time.Millisecond))
	}
	return nil
}

// trace says how far a round is, where that is asked for.
func (r *run) trace(format string, args ...any) {
	if r.verbose {
		fmt.Fprintf(r.out, "    %v %s\n", time.Since(r.began).Round(10*time.Millisecond), fmt.Sprintf(format, args...))
	}
}

// equal demotes the primary, waits until the disks are equal and promotes again.
func (r *run) equal(ctx context.Context) error {
	if err := r.pair.WaitUpToDate(ctx); err != nil {
		return err
	}
	if err := r.primary.Demote(ctx); err != nil {
		return fmt.Errorf("demote %s: %w", r.primary.Name, err)
	}
	var last error
	err := device.Await(ctx, func() bool {
		last = sameDisks(r.machines["alice"].backing(), r.machines["bob"].backing())
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("both sides say UpToDate: %w", last)
	}
	return r.primary.Promote(ctx)
}

// sameDisks says where two backing disks differ first.
func sameDisks(a, b string) error {
	x, err := os.ReadFile(a)
	if err != nil {
		return fmt.Errorf("read backing disk: %w", err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		return fmt.Errorf("read backing disk: %w", err)
	}
	if len(x) != volumeSize || len(y) != volumeSize {
		return fmt.Errorf("backing disks of %d and %d bytes", len(x), len(y))
	}
	first, n := 0, 0
	for off := 0; off < volumeSize; off += 4096 {
		if !bytes.Equal(x[off:off+4096], y[off:off+4096]) {
			if n == 0 {
				first = off
			}
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("the disks differ in %d blocks, the first at %d", n, first)
	}
	return nil
}

// close ends everything that was started, from the top down.
func (r *run) close() error {
	var errs []error
	if r.db != nil {
		errs = append(errs, r.clientDies())
	}
	if r.pair != nil {
		errs = append(errs, r.pair.Close())
	}
	for _, m := range r.machines {
		errs = append(errs, m.close())
	}
	if r.line != nil {
		errs = append(errs, r.line.Close())
	}
	return errors.Join(errs...)
}
