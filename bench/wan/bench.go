package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"drship/bench/pair"
	"drship/bench/wan/tun"
)

// What is measured where nothing is said: about nine minutes.
const (
	defaultCells = "100M/50ms/0+0.01%+0.1%+1%+2%+1%x8,1G/100ms/0.1%"
	defaultCuts  = "100M/50ms/0"
	defaultHalf  = "100M/50ms/0+1%"
)

// bench is one run of the comparison.
type bench struct {
	binary, dir, report string
	cells, cuts, half   []cell
	warm, span          time.Duration
	wan                 []string // statements of our own
	chosen              []string // subjects
	first               bool

	line     *tun.Line
	subjects []subject
	out      io.Writer // the report
	begin    time.Time
}

// runBench is the verb bench.
func runBench(ctx context.Context, args []string) (err error) {
	b := bench{begin: time.Now()}
	var cells, cuts, half, wan, subjects string
	flags := flag.NewFlagSet("wan bench", flag.ContinueOnError)
	flags.StringVar(&b.binary, "binary", "", "the program; built if empty")
	flags.StringVar(&b.dir, "dir", "", "scratch folder; a temporary one if empty")
	flags.StringVar(&b.report, "report", "", "a Markdown file that keeps the tables; what an earlier run left there is replaced")
	flags.StringVar(&cells, "cells", defaultCells, "lines to measure goodput on: rate/round trip/loss, with + between several of each; 1%x8 is 1 % in bursts of 8")
	flags.StringVar(&cuts, "cuts", defaultCuts, "lines to cut and heal")
	flags.StringVar(&half, "half", defaultHalf, "lines to fill by half, for lag")
	flags.DurationVar(&b.warm, "warm", 4*time.Second, "of sending, before a measurement")
	flags.DurationVar(&b.span, "span", 8*time.Second, "of a measurement")
	flags.StringVar(&subjects, "subjects", "cubic,bbr,quic,drship", "what to measure; quic8 is eight QUIC connections")
	flags.BoolVar(&b.first, "first", false, "let what is measured go before everything else on this machine, where that is not quiet")
	flags.StringVar(&wan, "wan", "", "statements for drship's wan section beside compression off, with ; between them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, l := range []struct {
		text string
		into *[]cell
	}{{cells, &b.cells}, {cuts, &b.cuts}, {half, &b.half}} {
		if *l.into, err = parseCells(l.text); err != nil {
			return err
		}
	}
	for s := range strings.SplitSeq(wan, ";") {
		if s = strings.TrimSpace(s); s != "" {
			b.wan = append(b.wan, s)
		}
	}
	b.chosen = strings.Split(subjects, ",")
	return b.run(ctx)
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "drship-wan-"); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if b.binary == "" && slices.Contains(b.chosen, "drship") {
		if b.binary, err = pair.Build(ctx, b.dir, false); err != nil {
			return err
		}
	}
	if b.line, err = startLine(tun.Config{Seed: 1}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.line.Close()) }()
	if b.first {
		if err := errors.Join(tun.First(), b.line.A.First(), b.line.B.First()); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	b.out = io.MultiWriter(os.Stdout, &text)
	b.describe()
	if err := b.choose(ctx); err != nil {
		return err
	}
	defer func() {
		if own := b.ours(); own != nil {
			err = errors.Join(err, own.close())
		}
	}()
	for _, part := range []func(context.Context) error{b.goodput, b.recovery, b.lags} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	if err := b.honesty(); err != nil {
		return err
	}
	if b.report != "" {
		return keep(b.report, text.Bytes())
	}
	return nil
}

// choose makes the subjects. One that this machine does not have is left out, and the report says so.
func (b *bench) choose(ctx context.Context) error {
	for _, name := range b.chosen {
		var s subject
		var err error
		switch name {
		case "cubic", "bbr":
			if why := tcpAvailable(name); why != nil {
				fmt.Fprintf(b.out, "TCP %s is left out: %v.\n\n", strings.ToUpper(name), why)
				continue
			}
			s = &tcp{line: b.line, congestion: name}
		case "drship":
			binary, aerr := filepath.Abs(b.binary)
			if aerr != nil {
				return aerr
			}
			s, err = newOurs(ctx, b.line, binary, b.dir, b.wan)
		default:
			s, err = parseQUIC(b.line, name)
		}
		if err != nil {
			return err
		}
		b.subjects = append(b.subjects, s)
	}
	return nil
}

// parseQUIC reads quic, which is one connection, or quic8, which is eight.
func parseQUIC(l *tun.Line, name string) (subject, error) {
	number, ok := strings.CutPrefix(name, "quic")
	if number == "" {
		number = "1"
	}
	count, err := strconv.Atoi(number)
	if !ok || err != nil || count < 1 || count > maxQUIC {
		return nil, fmt.Errorf("no subject %q; there are cubic, bbr, quic, quic2 … quic%d, and drship", name, maxQUIC)
	}
	return &bareQUIC{line: l, count: count}, nil
}

// ours is the pair, nil where it was not chosen.
func (b *bench) ours() *ours {
	for _, s := range b.subjects {
		if own, ok := s.(*ours); ok {
			return own
		}
	}
	return nil
}

// progress tells those who wait what was just measured. It is no part of the report.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}
