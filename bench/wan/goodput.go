package main

import (
	"context"
	"fmt"

	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

// goodput measures all subjects on all cells, and prints a table for each rate and round trip. Subjects take turns on each
// cell, so that a machine that drifts drifts for all.
func (b *bench) goodput(ctx context.Context) error {
	for begin := 0; begin < len(b.cells); {
		end := begin + 1
		for end < len(b.cells) && b.cells[end].title() == b.cells[begin].title() {
			end++
		}
		group := b.cells[begin:end]
		t := table{head: []string{group[0].title() + ": goodput, Mbit/s"}}
		for _, c := range group {
			t.head = append(t.head, c.loss)
		}
		rates := make([][]float64, len(b.subjects))
		for _, c := range group {
			for i, s := range b.subjects {
				got, err := b.once(ctx, c, s)
				if err != nil {
					return fmt.Errorf("%s over %s: %w", s.name(), c.link.String(), err)
				}
				rates[i] = append(rates[i], got)
			}
		}
		b.rates(&t, group, rates)
		t.print(b.out)
		begin = end
	}
	return nil
}

// once measures one subject on one cell.
func (b *bench) once(ctx context.Context, c cell, s subject) (float64, error) {
	if err := b.line.SetBoth(c.link); err != nil {
		return 0, err
	}
	got, err := s.carry(ctx, b.warm, b.span)
	if err != nil {
		return 0, err
	}
	b.progress("%s, %s lost: %s %s Mbit/s", c.title(), c.loss, s.name(), megabits(got))
	if err := b.line.SetBoth(emu.Params{}); err != nil {
		return 0, err
	}
	return got, s.rest(ctx)
}

// rates adds a row for each subject, and what ours is beside the line and beside BBR.
func (b *bench) rates(t *table, group []cell, rates [][]float64) {
	var own, bbr []float64
	for i, s := range b.subjects {
		row := []string{s.name()}
		for _, r := range rates[i] {
			row = append(row, megabits(r))
		}
		t.add(row...)
		switch s := s.(type) {
		case *ours:
			own = rates[i]
		case *tcp:
			if s.congestion == "bbr" {
				bbr = rates[i]
			}
		}
	}
	if own == nil {
		return
	}
	line, aims, beside := []string{"drship, share of the line"}, []string{"aim"}, []string{"drship, to TCP BBR; aim 1"}
	for i, r := range own {
		line, aims = append(line, share(r, float64(group[i].link.Rate))), append(aims, group[i].aim())
		if bbr != nil {
			beside = append(beside, share(r, bbr[i]))
		}
	}
	t.add(line...)
	t.add(aims...)
	if bbr != nil {
		t.add(beside...)
	}
}

// aim is the share of the line that drship is to carry.
func (c *cell) aim() string {
	switch p := c.link; {
	case p.Rate >= 1_000_000_000 && p.Loss <= 0.001:
		return "0.80"
	case p.Rate > 500_000_000 || p.Loss > 0.02:
		return "–"
	case p.Loss <= 0.001:
		return "0.95"
	case p.Loss <= 0.01:
		return "0.92"
	}
	return "0.87"
}

// look is what the line has brought to B so far.
func (b *bench) look() (tun.Counters, error) {
	c, _, err := b.line.Look(tun.AtoB)
	return c, err
}
