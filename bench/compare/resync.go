package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"drship/bench/pair"
)

// resyncSize is the volume of the full sync, in bytes, all of it allocated.
const resyncSize = 1 << 30

// resyncs measures a full sync of a filled volume on loopback, without a limit on its rate.
func (b *bench) resyncs(ctx context.Context) error {
	fmt.Printf("\n## full sync of %d MiB, loopback, no limit\n\n", resyncSize>>20)
	for _, k := range []struct {
		name   string
		random bool
		wan    []string
	}{{"text", false, nil}, {"random data", true, nil}, {"random data, compression off", true, []string{"compression off"}}} {
		var rates []float64
		for round := range b.rounds {
			dir := filepath.Join(b.dir, fmt.Sprintf("resync-%d", round))
			rate, err := b.resync(ctx, dir, k.random, k.wan)
			if err != nil {
				return fmt.Errorf("full sync of %s: %w", k.name, err)
			}
			rates = append(rates, rate)
		}
		fmt.Printf("%-32s %8.0f MB/s\n", k.name, middle(rates)/1e6)
	}
	return nil
}

// resync is one full sync, in bytes a second, from the promotion until both sides are UpToDate.
func (b *bench) resync(ctx context.Context, dir string, random bool, wan []string) (rate float64, err error) {
	if err := fill(filepath.Join(dir, "alice", "disk.img"), resyncSize, random); err != nil {
		return 0, err
	}
	p, err := pair.New(pair.Options{Binary: b.binary, Dir: dir, Protocol: "A", Sizes: []int64{resyncSize}, WAN: wan, Disk: []string{"resync-rate 4G"},
		Backing: func(node string, _ int) string { return filepath.Join(dir, node, "disk.img") }})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(), p.Remove()) }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := p.Create(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := p.Sync(ctx); err != nil {
		return 0, err
	}
	return resyncSize / time.Since(begin).Seconds(), nil
}
