package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"drship/bench/wan/tun"
)

// console changes a line while it runs.
type console struct {
	line *tun.Line

	mu  sync.Mutex // one command at a time
	out io.Writer
}

// step is a command at its time.
type step struct {
	at      time.Duration
	command string
}

// parseScript reads "5s cut; 8s heal".
func parseScript(text string) ([]step, error) {
	var steps []step
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		when, command, _ := strings.Cut(strings.TrimSpace(part), " ")
		at, err := time.ParseDuration(when)
		if err != nil || at < 0 {
			return nil, fmt.Errorf("script: %q does not begin with a time like 5s", part)
		}
		if _, err := parseCommand(command); err != nil {
			return nil, fmt.Errorf("script: %w", err)
		}
		steps = append(steps, step{at, command})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	return steps, nil
}

// play obeys a script until it or ctx ends.
func (c *console) play(ctx context.Context, steps []step) {
	start := time.Now()
	for _, s := range steps {
		t := time.NewTimer(s.at - time.Since(start))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		fmt.Fprintf(c.out, "[%v] %s\n", s.at, s.command)
		if err := c.obey(s.command); err != nil {
			fmt.Fprintln(c.out, err)
		}
	}
}

// command is one that was understood.
type command struct {
	verb       string
	directions []tun.Direction
	settings   string
}

func parseCommand(text string) (command, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return command{verb: "show"}, nil
	}
	c := command{verb: words[0], directions: []tun.Direction{tun.AtoB, tun.BtoA}}
	rest := words[1:]
	if len(rest) > 0 && (rest[0] == "ab" || rest[0] == "ba") {
		c.directions = c.directions[:1]
		if rest[0] == "ba" {
			c.directions[0] = tun.BtoA
		}
		rest = rest[1:]
	}
	c.settings = strings.Join(rest, " ")
	switch {
	case c.verb == "set" && c.settings != "":
	case (c.verb == "cut" || c.verb == "heal" || c.verb == "show") && c.settings == "":
	default:
		return command{}, fmt.Errorf("%q is none of: cut [ab|ba], heal [ab|ba], set [ab|ba] SETTINGS, show, quit", text)
	}
	return c, nil
}

// obey does what a command says.
func (c *console) obey(text string) error {
	cmd, err := parseCommand(text)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cmd.verb == "show" {
		return c.show()
	}
	for _, d := range cmd.directions {
		if err := c.change(cmd, d); err != nil {
			return err
		}
	}
	return nil
}

func (c *console) change(cmd command, d tun.Direction) error {
	switch cmd.verb {
	case "cut":
		return c.line.CutDirection(d)
	case "heal":
		return c.line.HealDirection(d)
	}
	_, p, err := c.line.Look(d)
	if err != nil {
		return err
	}
	if err := p.SetAll(cmd.settings); err != nil {
		return err
	}
	return c.line.Set(d, p)
}

// show prints settings and counters.
func (c *console) show() error {
	for _, d := range []tun.Direction{tun.AtoB, tun.BtoA} {
		n, p, err := c.line.Look(d)
		if err != nil {
			return err
		}
		cut := ""
		if n.Cut {
			cut = "; cut"
		}
		fmt.Fprintf(c.out, "%v: %s%s\n", d, p.String(), cut)
		fmt.Fprintf(c.out, "     packets: %d in, %d out (%.1f MB); dropped: %d lost, %d by the queue, %d by a cut, %d for memory\n",
			n.In, n.Out, float64(n.OutBytes)/1e6, n.DroppedLoss, n.DroppedQueue, n.DroppedCut, n.DroppedMemory)
		fmt.Fprintf(c.out, "     %d reordered, %d duplicated, %d corrupted; the emulator: %d missed, %d refused, late by %v on average, %v at most\n",
			n.Reordered, n.Duplicated, n.Corrupted, n.Missed, n.Refused, n.Late(), n.LateMost)
	}
	return nil
}
