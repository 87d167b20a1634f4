// Real breaks pairs under a real PostgreSQL (make real). A database with pgbench and with writers that count lives on an ext4, on a loop
// device, on nbdfuse, on a primary's export. The two daemons stand in network namespaces with a line between them (bench/wan/tun); their
// backing disks and state directories are disks that can lose power (bench/power).
//
// A run is a seed: it draws the protocol, the line and the rounds of one pair. A round is load, then a fault: kill -9, SIGSTOP, a cut,
// a full file system under the state directory, loss of power of the primary, of its peer, of both. Then the database comes up on
// whoever is to have it, which is always the replica but for one fault. It must start, be consistent (pg_amcheck, the sums of pgbench, e2fsck), and
// hold what the protocol promises of the transactions that were acknowledged. Who was down comes back, and the disks are equal.
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
	"strings"
	"syscall"
	"time"

	"drship/bench/pair"
	"drship/bench/wan/tun"
)

// roundsPerRun is how many faults one pair lives through.
const roundsPerRun = 5

// settings of the command.
type settings struct {
	rounds   int
	seed     uint64
	protocol string
	fault    string
	dir      string
	binary   string
	verbose  bool
	out      io.Writer
}

func main() {
	tun.Main()
	s := settings{out: os.Stdout}
	flag.IntVar(&s.rounds, "n", 20, "rounds in all; each pair has five")
	flag.Uint64Var(&s.seed, "seed", 0, "seed of the first pair, counted up; 0 draws one")
	flag.StringVar(&s.protocol, "protocol", "", "A, B or C; drawn by the seed if empty")
	flag.StringVar(&s.fault, "fault", "", "one of "+strings.Join(faultNames[:], ", ")+"; drawn by the seed if empty")
	flag.StringVar(&s.dir, "dir", "", "scratch folder; a temporary one if empty")
	flag.StringVar(&s.binary, "binary", "", "the program; built if empty")
	flag.BoolVar(&s.verbose, "v", false, "say how far each round is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run goes through all rounds and stops at the first pair that fails.
func (s settings) run(ctx context.Context) error {
	if s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000) + 1
	}
	if err := pair.Prepare(ctx, "real", &s.dir, &s.binary, false); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // the database's user passes through
		return fmt.Errorf("open scratch folder: %w", err)
	}
	var sum tally
	start := time.Now()
	for done, seed := 0, s.seed; done < s.rounds; done, seed = done+roundsPerRun, seed+1 {
		if err := s.one(ctx, seed, min(roundsPerRun, s.rounds-done), &sum); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "%d rounds in %v, seeds from %d: %v\n", s.rounds, time.Since(start).Round(time.Second), s.seed, sum)
	return os.RemoveAll(s.dir)
}

// one runs one seed in a folder of its own, which stays where the run fails.
func (s settings) one(ctx context.Context, seed uint64, rounds int, sum *tally) error {
	dir := filepath.Join(s.dir, fmt.Sprintf("seed-%d", seed))
	r := newRun(s, dir, seed)
	err := r.create(ctx)
	if err == nil {
		err = r.all(ctx, rounds, sum)
	}
	if err != nil && r.pair != nil {
		err = errors.Join(err, r.pair.Autopsy())
	}
	err = errors.Join(err, r.close())
	if err != nil {
		replay := fmt.Sprintf("make real SEED=%d N=%d", seed, rounds)
		if s.protocol != "" {
			replay += " PROTOCOL=" + s.protocol
		}
		if s.fault != "" {
			replay += " FAULT=" + s.fault
		}
		return fmt.Errorf("seed %d failed: %w\n\nreplay: %s\nkept:   %s", seed, err, replay, dir)
	}
	return os.RemoveAll(dir)
}

// tally counts what all runs saw.
type tally struct {
	commits, behind      int
	failovers, splitSeen int
	slowest              time.Duration
}

func (t tally) String() string {
	return fmt.Sprintf("%d commits were acknowledged; %d failovers (%d acknowledged commits behind, where the protocol or the fault allows it), %d split brains, all detected; "+
		"the slowest round took %v; every promise kept", t.commits, t.failovers, t.behind, t.splitSeen, t.slowest.Round(time.Second))
}
