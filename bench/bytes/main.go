// Bytes measures what a stream of writes takes on the wire (make bench-bytes): recorded traces, through the encoder that the
// sender uses, beside the raw stream and beside zstd -3 over pieces of 1 MiB of it, which is what a compressing proxy sends.
//
//	main.go      the command line
//	record.go    a node, a file system on its export, and the trace of what a workload writes
//	workload.go  the workloads
//	replay.go    batches cut from a trace as the sender cuts them, encoded and decoded again
//	table.go     what is printed
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var b bench
	var record string
	flag.StringVar(&b.binary, "binary", "", "the program; built if empty")
	flag.StringVar(&b.dir, "dir", "", "folder for traces, kept; a temporary one if empty")
	flag.StringVar(&record, "record", "pgbench,packages,tree,random", "workloads to record and measure where DIR has no trace of them; empty: measure the traces named as arguments")
	flag.BoolVar(&b.best, "best", false, "pack traces well, for keeping")
	flag.StringVar(&b.only, "ways", "", "of the rows, those whose name contains this; empty: all")
	flag.IntVar(&b.scale, "scale", 50, "of pgbench")
	flag.DurationVar(&b.time, "time", 5*time.Minute, "of pgbench")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx, record, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bytes:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	binary, dir string
	only        string
	best        bool
	scale       int
	time        time.Duration
}

func (b *bench) run(ctx context.Context, record string, traces []string) (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "drship-bytes-"); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if record != "" {
		recorded, err := b.record(ctx, record)
		if err != nil {
			return err
		}
		traces = append(recorded, traces...)
	}
	return b.measure(ctx, traces)
}
