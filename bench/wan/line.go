package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

// defaultLine is what a line is like where nothing is said.
const defaultLine = "rate=100M rtt=50ms loss=1%"

// runLine is the verb line.
func runLine(ctx context.Context, args []string) error {
	var both, ab, ba, script string
	var c tun.Config
	flags := flag.NewFlagSet("wan line", flag.ContinueOnError)
	flags.StringVar(&both, "both", defaultLine, "settings of both directions: "+emu.Settings)
	flags.StringVar(&ab, "ab", "", "settings of the direction from a to b that differ")
	flags.StringVar(&ba, "ba", "", "settings of the direction from b to a that differ")
	flags.StringVar(&script, "script", "", "commands at their times, e.g. '5s cut; 8s heal'")
	flags.Uint64Var(&c.Seed, "seed", 1, "of every draw")
	flags.IntVar(&c.MTU, "mtu", tun.DefaultMTU, "the largest IP packet, in bytes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for d, own := range []string{ab, ba} {
		if err := c.Link[d].SetAll(both + " " + own); err != nil {
			return err
		}
	}
	steps, err := parseScript(script)
	if err != nil {
		return err
	}
	l, err := startLine(c)
	if err != nil {
		return err
	}
	con := &console{line: l, out: os.Stdout}
	ctx, cancel := context.WithCancel(ctx)
	played := make(chan struct{})
	go func() {
		defer close(played)
		con.play(ctx, steps)
	}()
	if flags.NArg() > 0 {
		err = runOver(ctx, l, flags.Args())
	} else {
		err = byHand(ctx, l, con)
	}
	cancel()
	<-played
	return errors.Join(err, con.show(), l.Close())
}

// startLine starts a line, or says what it needs.
func startLine(c tun.Config) (*tun.Line, error) {
	if err := tun.Available(); err != nil {
		return nil, err
	}
	return tun.Start(c)
}

// environment is how programs find the ends of a line.
func environment(l *tun.Line) []string {
	return []string{
		"A=nsenter --net=" + l.A.Path(), "B=nsenter --net=" + l.B.Path(),
		"NET_A=" + l.A.Path(), "NET_B=" + l.B.Path(),
		"ADDR_A=" + l.AddrA().String(), "ADDR_B=" + l.AddrB().String(),
	}
}

// runOver runs one command beside the line.
func runOver(ctx context.Context, l *tun.Line, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), environment(l)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// byHand obeys commands from the input until it ends.
func byHand(ctx context.Context, l *tun.Line, con *console) error {
	for _, e := range environment(l) {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(con.out, "export %s='%s'\n", name, value)
	}
	lines := make(chan string)
	go func() { // ends with the input, or with the process
		defer close(lines)
		for s := bufio.NewScanner(io.LimitReader(os.Stdin, 1<<20)); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case text, ok := <-lines:
			if !ok || strings.TrimSpace(text) == "quit" {
				return nil
			}
			if err := con.obey(text); err != nil {
				fmt.Fprintln(con.out, err)
			}
		}
	}
}
