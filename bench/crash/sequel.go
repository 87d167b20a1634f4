package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"drship/bench/pair"
	"drship/bench/stamp"
)

func acknowledged(o *stamp.Op) bool { return o.Done != 0 }

// takeOver promotes the secondary of a dead primary, checks what it holds, and lets the old primary return as its target.
func (r *run) takeOver(ctx context.Context, p plan, ops []stamp.Op, sum *tally) error {
	again := p.again && p.victim == killBoth
	if p.victim == killBoth {
		if err := r.start(ctx, r.secondary, plan{again: again, settle: p.settle}); err != nil {
			return err
		}
	}
	if err := r.secondary.Promote(ctx); err != nil {
		return fmt.Errorf("promote %s: %w", r.secondary.Name, err)
	}
	c := stamp.CheckOptions{Prefix: true}
	if r.proto == "C" || r.proto == "B" && p.victim == killPrimary {
		c.Must = acknowledged // B promises the peer's memory, which the peer's own death empties
	}
	report, err := r.check(ctx, r.secondary, ops, c)
	if err != nil {
		return err
	}
	sum.lost += len(report.Missing)
	old := r.primary
	r.primary, r.secondary = r.secondary, old
	return r.start(ctx, old, plan{again: p.again && !again, settle: p.settle})
}

// comeBack starts what died; the old primary stays the source, and keeps all it acknowledged: a killed process loses nothing that it
// had handed to the system.
func (r *run) comeBack(ctx context.Context, p plan, ops []stamp.Op) error {
	if err := r.start(ctx, r.primary, p); err != nil {
		return err
	}
	if p.victim == killBoth {
		if err := r.start(ctx, r.secondary, plan{}); err != nil {
			return err
		}
	}
	if err := r.pair.WaitUpToDate(ctx); err != nil {
		return err
	}
	if err := r.primary.Promote(ctx); err != nil {
		return fmt.Errorf("promote %s again: %w", r.primary.Name, err)
	}
	_, err := r.check(ctx, r.primary, ops, stamp.CheckOptions{Must: acknowledged})
	return err
}

// check holds a Primary's exports against the log.
func (r *run) check(ctx context.Context, n *pair.Node, ops []stamp.Op, c stamp.CheckOptions) (*stamp.Report, error) {
	c.Size = volumeSize
	var images []stamp.Image
	for v := range r.base {
		c.Base = append(c.Base, bytes.NewReader(r.base[v]))
		x, err := n.Open(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("open %s of %s: %w", pair.Export(v), n.Name, err)
		}
		defer x.Close()
		images = append(images, x.ReaderAt(ctx))
	}
	report, err := stamp.Check(ops, images, c)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, fmt.Errorf("%s, promoted, breaks a promise of protocol %s: %w", n.Name, r.proto, err)
	}
	return report, nil
}

// grow waits until the pair is in sync.
func (r *run) grow(ctx context.Context) error { return r.pair.WaitUpToDate(ctx) }

// equal demotes the primary, waits until the disks are equal, takes their content as the next moment's base and promotes again.
func (r *run) equal(ctx context.Context) error {
	if err := r.grow(ctx); err != nil {
		return err
	}
	if err := r.primary.Demote(ctx); err != nil {
		return fmt.Errorf("demote %s: %w", r.primary.Name, err)
	}
	for v := range r.base {
		if err := r.equalVolume(ctx, v); err != nil {
			return err
		}
	}
	return r.primary.Promote(ctx)
}

// equalVolume compares the backing files until they are equal: the secondary may still be applying what it has staged.
func (r *run) equalVolume(ctx context.Context, v int) error {
	bound, cancel := context.WithTimeout(ctx, patience/3)
	defer cancel()
	other := make([]byte, volumeSize)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := readImage(r.primary.Backing(v), r.base[v]); err != nil {
			return err
		}
		if err := readImage(r.secondary.Backing(v), other); err != nil {
			return err
		}
		if bytes.Equal(r.base[v], other) {
			return nil
		}
		select {
		case <-bound.Done():
			return fmt.Errorf("volume %d: both sides say UpToDate and their disks differ: %s", v, difference(r.base[v], other))
		case <-tick.C:
		}
	}
}

func readImage(path string, into []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open backing file: %w", err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, into); err != nil {
		return fmt.Errorf("read backing file: %w", err)
	}
	return nil
}

// difference says how many blocks differ and where the first is.
func difference(a, b []byte) string {
	first, n := -1, 0
	for off := 0; off < len(a); off += 4096 {
		if !bytes.Equal(a[off:off+4096], b[off:off+4096]) {
			if first < 0 {
				first = off
			}
			n++
		}
	}
	return fmt.Sprintf("%d blocks, the first at %d", n, first)
}
