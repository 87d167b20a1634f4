// Compare measures our export beside what a user would take instead (make bench): fio's nbd engine on every subject in turn,
// several rounds, printed as ratios with latency percentiles. All servers run on one machine at the same time, but only one
// is under load, so that a machine that drifts drifts for all; before the next one's turn it has caught up with its peer.
//
//	main.go      the run: groups of subjects, rounds of workloads
//	ours.go      our subjects: alone, replicated, over a line
//	others.go    nbdkit, qemu-storage-daemon, its mirror
//	resync.go    how long a full sync of a filled volume takes
//	machine.go   what the machine's disk takes for a sync; what processes used
//	table.go     medians and ratios
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"drship/bench/pair"
)

func main() {
	var b bench
	flag.StringVar(&b.binary, "binary", "", "the program; built if empty")
	flag.StringVar(&b.dir, "dir", "", "scratch folder, on the disk to measure; a temporary one if empty")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds; the median counts")
	flag.DurationVar(&b.runtime, "runtime", 4*time.Second, "of one measurement")
	flag.StringVar(&b.only, "only", "", "parts to run, with commas: others, line, sync, digests, scattered; all if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the comparison.
type bench struct {
	binary, dir string
	only        string
	rounds      int
	runtime     time.Duration
}

// subject is a server under measurement.
type subject struct {
	name string
	uri  string
	dir  string // with all its images
	stop func() error
	pids []int // its processes, the one that is written to first

	// Where they are set: before is called ahead of a measurement, after behind it, until the subject is at rest again;
	// behind tells what the peer lacks, in bytes.
	before func()
	after  func(context.Context) error
	behind func(context.Context) (int64, error)
}

// volumeSize is what is written to, in bytes: all images of all subjects fit the page cache of a small machine.
const volumeSize = 256 << 20

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "drship-bench-"); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if _, err := exec.LookPath("fio"); err != nil {
		return fmt.Errorf("fio is needed (Debian package fio): %w", err)
	}
	if b.binary == "" {
		if b.binary, err = pair.Build(ctx, b.dir, false); err != nil {
			return err
		}
	}
	if err := b.describe(os.Stdout); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"others", func(ctx context.Context) error {
			return b.group(ctx, "beside others, peers on loopback", b.loopback(), loopbackLoads)
		}},
		{"line", func(ctx context.Context) error {
			return b.group(ctx, "the primary and the line: protocol A, 100 Mbit/s, 50 ms round trip", b.lines(), lineLoads)
		}},
		{"sync", b.resyncs}, {"digests", b.digests}, {"scattered", b.scattered},
	} {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// maker starts a subject in a folder of its own.
type maker struct {
	name  string
	start func(ctx context.Context, dir string) (subject, error)
}

// group starts its subjects, measures them in turn, and prints a table of them.
func (b *bench) group(ctx context.Context, title string, makers []maker, loads []workload) (err error) {
	var subjects []subject
	defer func() {
		for _, s := range subjects {
			err = errors.Join(err, s.stop())
		}
	}()
	for i, m := range makers {
		dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", slug(title), i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		s, err := m.start(ctx, dir)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Printf("left out: %s (%v)\n", m.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("start %s: %w", m.name, err)
		}
		s.name, s.dir = m.name, dir
		subjects = append(subjects, s)
	}
	r := results{}
	for round := range b.rounds {
		for _, w := range loads {
			for _, s := range subjects {
				fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, b.rounds, w.name, s.name)
				m, err := b.measure(ctx, s, w)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, w.name, err)
				}
				r.add(s.name, w.name, m)
			}
		}
	}
	r.print(os.Stdout, title, subjects, loads)
	return printMemory(os.Stdout, subjects)
}

// measure runs a workload against a subject, and waits until the subject is at rest again.
func (b *bench) measure(ctx context.Context, s subject, w workload) (measurement, error) {
	if err := uncache(s.dir); err != nil {
		return measurement{}, err
	}
	if s.before != nil {
		s.before()
	}
	used, err := processorTime(s.pids)
	if err != nil {
		return measurement{}, err
	}
	m, err := fio(ctx, s.uri, w, b.runtime)
	if err != nil {
		return m, err
	}
	if s.behind != nil {
		if m.behind, err = s.behind(ctx); err != nil {
			return m, err
		}
	}
	if s.after != nil {
		if err := s.after(ctx); err != nil {
			return m, err
		}
	}
	now, err := processorTime(s.pids)
	if err != nil {
		return m, err
	}
	for i := range now { // what it takes to bring the peer up to date counts
		m.processor = append(m.processor, (now[i]-used[i])/time.Duration(max(m.requests, 1)))
	}
	return m, nil
}
