// Demo runs the main job on one machine and prints what happened (make demo): a pair on loopback syncs, takes a real input while other
// writes go on, loses its primary to SIGKILL in the middle, fails over, is held against what was acknowledged, and
// grows together again. It needs nothing but Go. With -line (make wan-demo) the pair stands at the two ends of a bad line between network
// namespaces (bench/wan), which needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"drship/bench/pair"
	"drship/bench/wan/emu"
	"drship/bench/wan/tun"
)

func main() {
	tun.Main()
	d := demo{out: os.Stdout}
	flag.StringVar(&d.binary, "binary", "", "the program; built if empty")
	flag.StringVar(&d.in, "in", "", "the input to replicate; a tar of Go's own source tree if empty")
	flag.StringVar(&d.protocol, "protocol", "A", "A, B or C")
	flag.StringVar(&d.settings, "line", "", "settings of a bad line between the two, each way, e.g. rate=100M rtt=50ms loss=1% ("+emu.Settings+"); none if empty")
	keep := flag.String("keep", "", "1 leaves the pair running and prints how to play with it")
	flag.Parse()
	d.keep = *keep != "" && *keep != "0"
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := d.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	binary, in, protocol string
	settings             string // of the line; empty: loopback
	keep                 bool
	out                  io.Writer

	line  *tun.Line // nil without settings
	pair  *pair.Pair
	input input
	table table
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// run goes through the main job, and cleans up unless it failed or is told to keep the pair.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "drship-demo-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() {
		if d.keep && err == nil {
			return
		}
		if d.pair != nil {
			err = errors.Join(err, d.pair.Close())
		}
		if d.line != nil {
			err = errors.Join(err, d.line.Close())
		}
		if err != nil {
			d.say("\nwhat is left of it: %s", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if err := d.prepare(ctx, dir); err != nil {
		return err
	}
	defer d.input.Close()
	if err := d.initialSync(ctx); err != nil {
		return fmt.Errorf("initial sync: %w", err)
	}
	if err := d.mainJob(ctx); err != nil {
		return err
	}
	if err := d.lineRow(); err != nil {
		return err
	}
	d.table.print(d.out)
	if d.keep {
		d.explain()
	}
	return nil
}

// prepare makes program, input and pair.
func (d *demo) prepare(ctx context.Context, dir string) error {
	if d.binary == "" {
		bin, err := pair.Build(ctx, dir, false)
		if err != nil {
			return err
		}
		d.binary = bin
	}
	binary, err := filepath.Abs(d.binary) // the commands that KEEP prints work from anywhere
	if err != nil {
		return err
	}
	d.binary = binary
	in, err := openInput(ctx, d.in, dir)
	if err != nil {
		return fmt.Errorf("prepare the input: %w", err)
	}
	d.input = in
	size := max(int64(1<<30), in.size+scribble+slack)
	o := pair.Options{
		Binary: d.binary, Dir: dir, Sizes: []int64{size}, Protocol: d.protocol,
		Net: pair.QuickTiming(), Detached: d.keep,
	}
	where := "on loopback"
	if d.settings != "" {
		if where, err = d.openLine(&o); err != nil {
			return err
		}
	}
	if d.pair, err = pair.New(o); err != nil {
		return err
	}
	d.say("a pair %s: alice and bob, a volume of %s each, protocol %s, in %s", where, bytesText(size), d.protocol, dir)
	d.say("input: %s, %s", in.name, bytesText(in.size))
	return nil
}

// openLine stands the pair at the ends of a bad line, and tells which.
func (d *demo) openLine(o *pair.Options) (where string, err error) {
	if d.keep {
		return "", errors.New("a pair over a line cannot be kept: the line ends with the demo")
	}
	if err := tun.Available(); err != nil {
		return "", err
	}
	var p emu.Params
	if err := p.SetAll(d.settings); err != nil {
		return "", err
	}
	if d.line, err = tun.Start(tun.Config{Link: [2]emu.Params{p, p}, Seed: 1}); err != nil {
		return "", err
	}
	o.Over(d.line)
	return "in two network namespaces, each way " + p.String(), nil
}

// lineRow tells what the line did to the packets of both directions.
func (d *demo) lineRow() error {
	if d.line == nil {
		return nil
	}
	var in, lost, full uint64
	for _, way := range []tun.Direction{tun.AtoB, tun.BtoA} {
		c, _, err := d.line.Look(way)
		if err != nil {
			return err
		}
		in, lost, full = in+c.In, lost+c.DroppedLoss, full+c.DroppedQueue
	}
	d.table.row("packets on the line, all in all", "%d; lost %d, too many for its queue %d", in, lost, full)
	return nil
}

// explain prints what there is to play with.
func (d *demo) explain() {
	d.say("\nThe pair runs on: bob is Primary, alice Secondary. To play with it:\n")
	for _, n := range d.pair.Nodes {
		d.say("  # %s, process %d, log %s", n.Name, n.PID(), n.LogPath())
		d.say("  %s", n.Command("status"))
		d.say("  %s", n.Command("role", pair.Resource))
		d.say("  # NBD: %s\n", n.URI(0))
	}
	alice, bob := d.pair.Node("alice"), d.pair.Node("bob")
	d.say("  # switch over:\n  %s\n  %s", bob.Command("secondary", pair.Resource), alice.Command("primary", pair.Resource))
	d.say("  # end it:\n  kill %d %d && rm -r %s", alice.PID(), bob.PID(), d.pair.Dir())
}
