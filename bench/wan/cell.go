package main

import (
	"fmt"
	"strings"

	"drship/bench/wan/emu"
)

// cell is one line that is measured: both directions alike.
type cell struct {
	link  emu.Params
	delay string // as it was given: the round trip
	loss  string // as it was given
}

// parseCells reads "100M/50ms/0+1%+1%x8,1G/100ms/0.1%": rate, round trip and loss, each one or several with + between them; 1%x8 is
// 1 % in bursts of 8.
func parseCells(text string) ([]cell, error) {
	var all []cell
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		fields := strings.Split(part, "/")
		if len(fields) != 3 {
			return nil, fmt.Errorf("cell %q is not rate/round trip/loss, as in 100M/50ms/1%%", part)
		}
		for rate := range strings.SplitSeq(fields[0], "+") {
			for rtt := range strings.SplitSeq(fields[1], "+") {
				for loss := range strings.SplitSeq(fields[2], "+") {
					c, err := parseCell(rate, rtt, loss)
					if err != nil {
						return nil, fmt.Errorf("cell %q: %w", part, err)
					}
					all = append(all, c)
				}
			}
		}
	}
	return all, nil
}

func parseCell(rate, rtt, loss string) (cell, error) {
	c := cell{delay: rtt, loss: loss}
	share, burst, bursts := strings.Cut(loss, "x")
	settings := fmt.Sprintf("rate=%s rtt=%s loss=%s", rate, rtt, share)
	if bursts {
		settings += " burst=" + burst
		c.loss = share + " in bursts of " + burst
	}
	if err := c.link.SetAll(settings); err != nil {
		return c, err
	}
	if c.link.Rate == 0 {
		return c, fmt.Errorf("a line without a rate has no share to be carried")
	}
	return c, nil
}

// title is what cells with the same rate and round trip have in common.
func (c *cell) title() string {
	return fmt.Sprintf("%s, %s round trip", emu.RateText(c.link.Rate), c.delay)
}
