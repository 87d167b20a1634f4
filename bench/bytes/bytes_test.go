package main

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"drship/internal/block"
)

// kept is three seconds of pgbench at scale 1 on ext4, as journal export wrote them.
const kept = "testdata/pgbench.trace"

// run sends a trace one way and returns what it takes, and what a proxy would send.
func run(t *testing.T, w way, each func(func(*block.Record) error) error) (taken, *proxy) {
	t.Helper()
	p, err := newProxy()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReplay(w, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := each(func(rec *block.Record) error { p.add(rec.Data); return r.add(*rec) }); err != nil {
		t.Fatal(err)
	}
	p.end()
	got, err := r.end()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	return got, p
}

// What goes over the wire for a database: everything is unpacked at the other end, and checked there.
func TestKeptTrace(t *testing.T) {
	for _, w := range ways() {
		got, p := run(t, w, func(fn func(*block.Record) error) error { return eachRecord(t.Context(), kept, fn) })
		t.Logf("%s: %d bytes as %d, %.1f× less than raw, %.2f× less than zstd alone", w.name, p.raw, got.wire,
			float64(p.raw)/float64(got.wire), float64(p.wire)/float64(got.wire))
		if got.written != p.raw || got.folded > got.written || got.reduced > got.folded+got.folded/100 {
			t.Errorf("%s: %+v of %d bytes", w.name, got, p.raw)
		}
		if got.wire*8 > p.raw {
			t.Errorf("%s: %d bytes of %d: less than 8×", w.name, got.wire, p.raw)
		}
		if w.gear.Dense && got.wire*2 > p.wire {
			t.Errorf("%s: %d bytes, zstd over pieces of 1 MiB takes %d", w.name, got.wire, p.wire)
		}
		if w.gear.Reduce && got.wire*4 > p.wire*5 {
			t.Errorf("%s: %d bytes, zstd over pieces of 1 MiB takes %d", w.name, got.wire, p.wire)
		}
	}
}

// Data that does not shrink takes at most a hundredth more than it is.
func TestNoise(t *testing.T) {
	const total = 32 << 20
	for _, w := range ways() {
		rng := rand.NewChaCha8([32]byte{1})
		data := make([]byte, 128<<10)
		got, _ := run(t, w, func(fn func(*block.Record) error) error {
			for i := range int64(total / len(data)) {
				rng.Read(data)
				rec := block.Record{Seq: block.Seq{Epoch: 1, Num: uint64(i + 1)}, Time: i * 1e6, Kind: block.Write, Off: i * int64(len(data)), Len: uint32(len(data)), Data: data}
				if err := fn(&rec); err != nil {
					return err
				}
			}
			return nil
		})
		if got.wire > total+total/100 {
			t.Errorf("%s: %d bytes for %d", w.name, got.wire, total)
		}
	}
}

func TestKeptTraceIsSmall(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], "pgbench.trace") {
		t.Errorf("kept: %v, %v", files, err)
	}
}
