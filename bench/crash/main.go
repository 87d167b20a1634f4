// Crash kills daemons at random moments under load and checks what is left (make crash).
//
// A run is a seed: it draws the protocol, the volumes and five moments. Each moment starts from an equal pair under a stamped
// load, kills the primary, the secondary or both with SIGKILL, lets a survivor take over or the dead return, checks the
// promises (prefix, acknowledged), lets the pair grow together again and compares the disks byte for byte.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"drship/bench/pair"
)

// momentsPerRun is how many crashes one pair lives through.
const momentsPerRun = 5

// settings of the command.
type settings struct {
	moments  int
	seed     uint64
	protocol string
	dir      string
	binary   string
	race     bool
	keep     bool
	out      io.Writer
}

func main() {
	s := settings{out: os.Stdout}
	flag.IntVar(&s.moments, "n", 200, "moments in all; each run of the pair has five")
	flag.Uint64Var(&s.seed, "seed", 0, "seed of the first run, counted up; 0 draws one")
	flag.StringVar(&s.protocol, "protocol", "", "A, B or C; drawn by the seed if empty")
	flag.StringVar(&s.dir, "dir", "", "scratch folder; a temporary one if empty")
	flag.StringVar(&s.binary, "binary", "", "the program; built if empty")
	flag.BoolVar(&s.race, "race", false, "build the daemon with the race detector")
	flag.BoolVar(&s.keep, "keep", false, "keep the scratch folder of every run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run goes through all moments and stops at the first run that fails.
func (s settings) run(ctx context.Context) error {
	if s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000) + 1
	}
	if err := pair.Prepare(ctx, "crash", &s.dir, &s.binary, s.race); err != nil {
		return err
	}
	start := time.Now()
	var sum tally
	for done, seed := 0, s.seed; done < s.moments; done, seed = done+momentsPerRun, seed+1 {
		n := min(momentsPerRun, s.moments-done)
		if err := s.one(ctx, seed, n, &sum); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "%d moments in %v: %s\n", s.moments, time.Since(start).Round(time.Second), sum)
	if s.keep {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// one runs one seed in a folder of its own, which stays where the run fails.
func (s settings) one(ctx context.Context, seed uint64, moments int, sum *tally) error {
	dir := filepath.Join(s.dir, fmt.Sprintf("seed-%d", seed))
	r, err := newRun(s, dir, seed)
	if err != nil {
		return err
	}
	err = r.all(ctx, moments, sum)
	if err != nil {
		err = errors.Join(err, r.pair.Autopsy())
	}
	err = errors.Join(err, r.pair.Close())
	if err != nil {
		replay := fmt.Sprintf("make crash SEED=%d N=%d", seed, moments)
		if s.protocol != "" {
			replay += " PROTOCOL=" + s.protocol
		}
		return fmt.Errorf("seed %d failed: %w\n\nreplay: %s\nkept:   %s", seed, err, replay, dir)
	}
	if s.keep {
		return nil
	}
	return r.pair.Remove()
}

// tally counts what all runs saw.
type tally struct {
	operations, acknowledged, lost int
	promotions, returns            int
}

func (t tally) String() string {
	return fmt.Sprintf("%d operations, %d acknowledged; %d failovers (%d acknowledged writes behind, as A and B allow), %d returns; every promise kept",
		t.operations, t.acknowledged, t.promotions, t.lost, t.returns)
}
