package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"drship/bench/pair"
	"drship/bench/stamp"
)

// load is the stamped writers with the connections they use.
type load struct {
	stamp.Load
	open  []*pair.Volume
	close func()
}

func (r *run) openLoad(ctx context.Context, log *stamp.Log) (*load, error) {
	l := &load{}
	l.close = sync.OnceFunc(func() {
		for _, x := range l.open {
			x.Close()
		}
	})
	var targets []stamp.Target
	for v := range r.pair.Volumes() {
		t := &spread{}
		for range connections {
			x, err := r.primary.Open(ctx, v)
			if err != nil {
				l.close()
				return nil, fmt.Errorf("open %s: %w", pair.Export(v), err)
			}
			l.open = append(l.open, x)
			t.over = append(t.over, x)
		}
		targets = append(targets, t)
	}
	l.Load = stamp.Mixed(stamp.Load{Targets: targets, Size: volumeSize, Writers: writers, Seed: r.rng.Uint64(), Log: log})
	return l, nil
}

// spread puts requests on several connections in turn, as a client does that trusts CAN_MULTI_CONN.
type spread struct {
	over []*pair.Volume
	turn atomic.Uint64
}

func (s *spread) pick() *pair.Volume { return s.over[s.turn.Add(1)%uint64(len(s.over))] }

func (s *spread) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return s.pick().WriteAt(ctx, p, off, fua)
}
func (s *spread) Zero(ctx context.Context, off, n int64) error { return s.pick().Zero(ctx, off, n) }
func (s *spread) Trim(ctx context.Context, off, n int64) error { return s.pick().Trim(ctx, off, n) }
func (s *spread) Flush(ctx context.Context) error              { return s.pick().Flush(ctx) }
