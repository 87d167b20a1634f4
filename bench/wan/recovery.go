package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

// Times of a measurement with a cut.
const (
	cutBefore  = 5 * time.Second // of sending, before the cut
	cutLength  = 3 * time.Second
	cutAfter   = 10 * time.Second // of sending, from the healing on
	cutSamples = 50 * time.Millisecond
	cutWindow  = 500 * time.Millisecond // a rate is one over this time
	recovered  = 0.9                    // of the line
)

// recovery measures what comes out of the line when it was cut and is healed: packets at B, headers and repetitions included, the same for
// every subject.
func (b *bench) recovery(ctx context.Context) error {
	for _, c := range b.cuts {
		t := table{head: []string{fmt.Sprintf("%s, %s lost; cut for %v", c.title(), c.loss, cutLength),
			"before, Mbit/s", "2 s to 4 s behind", "to 90 % of the line"}}
		for _, s := range b.subjects {
			row, err := b.cutOnce(ctx, c, s)
			if err != nil {
				return fmt.Errorf("%s over a cut line: %w", s.name(), err)
			}
			t.add(append([]string{s.name()}, row...)...)
		}
		t.print(b.out)
	}
	return nil
}

func (b *bench) cutOnce(ctx context.Context, c cell, s subject) ([]string, error) {
	if err := b.line.SetBoth(c.link); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := s.carry(ctx, cutBefore, cutLength+cutAfter)
		done <- err
	}()
	before, after, err := b.cutAndHeal(ctx)
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-done)
	}
	if err := <-done; err != nil {
		return nil, err
	}
	if err := b.line.SetBoth(emu.Params{}); err != nil {
		return nil, err
	}
	row := []string{megabits(mean(before, cutBefore-2*time.Second, cutBefore)), megabits(mean(after, 2*time.Second, 4*time.Second)), "not in " + cutAfter.String()}
	if took, ok := reaches(after, recovered*float64(c.link.Rate)); ok {
		row[2] = fmt.Sprintf("%.2f s", took.Seconds())
	}
	b.progress("%s, cut: %s %v", c.title(), s.name(), row)
	return row, s.rest(ctx)
}

// cutAndHeal looks at the line until the cut, and from the healing on.
func (b *bench) cutAndHeal(ctx context.Context) (before, after []tun.Counters, err error) {
	if before, err = b.sample(ctx, cutBefore); err != nil {
		return nil, nil, err
	}
	if err := b.line.Cut(); err != nil {
		return nil, nil, err
	}
	_, err = b.sample(ctx, cutLength)
	if err = errors.Join(err, b.line.Heal()); err != nil {
		return nil, nil, err
	}
	after, err = b.sample(ctx, cutAfter)
	return before, after, err
}

// sample reads the counters again and again.
func (b *bench) sample(ctx context.Context, span time.Duration) (all []tun.Counters, err error) {
	tick := time.NewTicker(cutSamples)
	defer tick.Stop()
	for {
		c, err := b.look()
		if err != nil {
			return nil, err
		}
		if all = append(all, c); c.At-all[0].At >= span {
			return all, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// mean is the rate between two times since the first sample, in bits a second.
func mean(all []tun.Counters, from, to time.Duration) float64 {
	first, last := all[0], all[0]
	for _, c := range all {
		if c.At-all[0].At <= from {
			first = c
		}
		if c.At-all[0].At <= to {
			last = c
		}
	}
	if last.At == first.At {
		return 0
	}
	return float64(last.OutBytes-first.OutBytes) * 8 / (last.At - first.At).Seconds()
}

// reaches is when a window first held the rate: its end, since the first sample.
func reaches(all []tun.Counters, bits float64) (time.Duration, bool) {
	for _, c := range all {
		since := c.At - all[0].At
		if since >= cutWindow && mean(all, since-cutWindow, since) >= bits {
			return since, true
		}
	}
	return 0, false
}
