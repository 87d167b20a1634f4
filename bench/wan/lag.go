package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drship/bench/wan/emu"
)

// Writes of a measurement of lag.
const (
	lagWrite   = 16 << 10
	lagWriters = 4
	lagSlots   = volumeSize / lagWrite
	lagLook    = 500 * time.Microsecond // how often bob's disk is looked at
	lagDrain   = 20 * time.Second
)

// lags measures how far behind the peer is while the line is half full: from the time at which a write was acknowledged at alice to the time
// at which it is seen on bob's disk, which is later than the time at which he staged it.
func (b *bench) lags(ctx context.Context) error {
	own := b.ours()
	if own == nil || len(b.half) == 0 {
		return nil
	}
	t := table{head: []string{"lag with the line half full, ms", "p50", "aim", "p99", "aim"}}
	for _, c := range b.half {
		if err := b.line.SetBoth(c.link); err != nil {
			return err
		}
		all, err := own.lagUnder(ctx, c.link.Rate/8/2, b.warm, b.span)
		if err != nil {
			return fmt.Errorf("lag over %s: %w", c.link.String(), err)
		}
		oneWay := c.link.Delay.Seconds() * 1e3
		t.add(c.title()+", "+c.loss+" lost", milliseconds(all, 0.5), fmt.Sprintf("%.1f", oneWay+5), milliseconds(all, 0.99), fmt.Sprintf("%.1f", 1.5*oneWay+20))
		b.progress("%s, %s lost, half full: %d writes", c.title(), c.loss, len(all))
		if err := errors.Join(b.line.SetBoth(emu.Params{}), own.rest(ctx)); err != nil {
			return err
		}
	}
	t.print(b.out)
	return nil
}

// milliseconds is a quantile of sorted times.
func milliseconds(all []time.Duration, q float64) string {
	if len(all) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", all[min(int(q*float64(len(all))), len(all)-1)].Seconds()*1e3)
}

// journey is one write.
type journey struct {
	acknowledged, seen atomic.Int64 // nanoseconds since the measurement began, 0 for not yet
}

// lagUnder writes at bytesPerSecond for warm and span, and returns how long the writes of span took, sorted; those that have not arrived when all is
// over count as long as that took.
func (s *ours) lagUnder(ctx context.Context, bytesPerSecond int64, warm, span time.Duration) ([]time.Duration, error) {
	if err := s.reconnect(ctx); err != nil {
		return nil, err
	}
	disk, err := os.Open(s.pair.Node("bob").Backing(0))
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	perSecond := float64(bytesPerSecond) / lagWrite
	skip := int(warm.Seconds() * perSecond)
	all := make([]journey, skip+int(span.Seconds()*perSecond))
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, warm+span+lagDrain)
	defer cancel()
	stamp := rand.Uint64() | 1 // of this measurement: what an earlier one left on the disk is not taken for it
	var wg sync.WaitGroup
	var watchErr error
	wg.Go(func() { watchErr = watch(ctx, disk, stamp, begin, all) })
	err = s.pace(ctx, perSecond, stamp, begin, all)
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err = errors.Join(err, watchErr); err != nil {
		return nil, err
	}
	end := time.Since(begin)
	took := make([]time.Duration, 0, len(all)-skip)
	for i := skip; i < len(all); i++ {
		seen := time.Duration(all[i].seen.Load())
		if seen == 0 {
			seen = end
		}
		took = append(took, max(0, seen-time.Duration(all[i].acknowledged.Load())))
	}
	slices.Sort(took)
	return took, nil
}

// pace makes the writes, each at its time, and notes when they were acknowledged.
func (s *ours) pace(ctx context.Context, perSecond float64, stamp uint64, begin time.Time, all []journey) error {
	var next atomic.Int64
	errs := make([]error, lagWriters)
	var wg sync.WaitGroup
	for w := range lagWriters {
		wg.Go(func() {
			random, buf := rand.NewChaCha8(seed(stamp+uint64(w))), make([]byte, lagWrite)
			for {
				i := int(next.Add(1) - 1)
				if i >= len(all) {
					return
				}
				t := time.NewTimer(time.Duration(float64(i)/perSecond*float64(time.Second)) - time.Since(begin))
				select {
				case <-ctx.Done():
					t.Stop()
					errs[w] = ctx.Err()
					return
				case <-t.C:
				}
				_, _ = random.Read(buf) // never fails
				binary.LittleEndian.PutUint64(buf, stamp)
				binary.LittleEndian.PutUint64(buf[8:], uint64(i))
				if err := s.volume.WriteAt(ctx, buf, int64(i%lagSlots)*lagWrite, false); err != nil {
					errs[w] = err
					return
				}
				all[i].acknowledged.Store(int64(time.Since(begin)))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// watch looks at bob's disk for one write after the other, until all were seen or ctx ends.
func watch(ctx context.Context, disk *os.File, stamp uint64, begin time.Time, all []journey) error {
	tick := time.NewTicker(lagLook)
	defer tick.Stop()
	head := make([]byte, 16)
	for i := 0; i < len(all); {
		if _, err := disk.ReadAt(head, int64(i%lagSlots)*lagWrite); err != nil {
			return fmt.Errorf("look at bob's disk: %w", err)
		}
		if binary.LittleEndian.Uint64(head) == stamp && binary.LittleEndian.Uint64(head[8:]) >= uint64(i) {
			all[i].seen.Store(int64(time.Since(begin)))
			i++
			continue
		}
		select {
		case <-ctx.Done():
			return nil // what was not seen counts as late
		case <-tick.C:
		}
	}
	return nil
}
