package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"drship/internal/block"
	"drship/internal/trace"
	"drship/wan/frame"
	"drship/wan/reduce"
)

func ways() []way {
	all := reduce.Options{Codec: frame.CodecZstd, Fold: true, Delta: true, Dedupe: true}
	plain := reduce.Options{Codec: frame.CodecZstd, Fold: true}
	gear := func(level int) reduce.Gear { return reduce.Gear{Codec: frame.CodecZstd, Level: level, Reduce: true} }
	dense := gear(3)
	dense.Dense = true
	return []way{
		{"keeps up, most", false, all, dense},
		{"is behind, most", true, all, dense},
		{"keeps up, more", false, all, gear(3)},
		{"keeps up, reduce", false, all, gear(1)},
		{"keeps up, fold and zstd", false, plain, reduce.Gear{Codec: frame.CodecZstd, Level: 3}},
	}
}

// measure prints a table for each trace.
func (b *bench) measure(ctx context.Context, traces []string) error {
	for _, path := range traces {
		if err := b.measureOne(ctx, path); err != nil {
			return fmt.Errorf("measure %s: %w", path, err)
		}
	}
	return nil
}

func (b *bench) measureOne(ctx context.Context, path string) error {
	p, err := newProxy()
	if err != nil {
		return err
	}
	if err := eachRecord(ctx, path, func(rec *block.Record) error { p.add(rec.Data); return nil }); err != nil {
		return err
	}
	p.end()
	fmt.Printf("\n## %s: %d MB written; zstd -3 over 1 MiB pieces: %d MB, %.2f×\n\n", strings.TrimSuffix(filepath.Base(path), ".trace"),
		p.raw/1e6, p.wire/1e6, float64(p.raw)/float64(p.wire))
	fmt.Printf("%-24s %10s %10s %10s %10s %8s %8s %9s %8s\n", "", "written", "folded", "reduced", "wire", "to raw", "to zstd", "MB/s CPU", "batches")
	for _, w := range ways() {
		if !strings.Contains(w.name, b.only) {
			continue
		}
		r, err := newReplay(w, b.dir)
		if err != nil {
			return err
		}
		err = eachRecord(ctx, path, func(rec *block.Record) error { return r.add(*rec) })
		t, endErr := r.end()
		if err = errors.Join(err, endErr, r.close()); err != nil {
			return err
		}
		fmt.Printf("%-24s %10d %10d %10d %10d %7.2f× %7.2f× %9.0f %8d\n", w.name, t.written, t.folded, t.reduced, t.wire,
			float64(p.raw)/float64(t.wire), float64(p.wire)/float64(t.wire), float64(t.written)/1e6/t.cpu.Seconds(), t.batches)
	}
	return nil
}

// eachRecord calls fn for each record of a trace; it is valid until fn returns.
func eachRecord(ctx context.Context, path string, fn func(*block.Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := trace.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return err
	}
	defer r.Close()
	var arena []byte
	for ctx.Err() == nil {
		rec, a, err := r.Read(arena[:0])
		if arena = a; errors.Is(err, io.EOF) && !errors.Is(err, trace.ErrFormat) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(&rec); err != nil {
			return err
		}
	}
	return ctx.Err()
}
