package verify

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

var terabyte = flag.Bool("terabyte", false, "sync a sparse volume of 1 TiB with 1 GiB of data, instead of 64 GiB with 64 MiB")

// scatter writes data that does not compress in pieces of 1 MiB, spread evenly over a file of the size given.
func scatter(t *testing.T, path string, size, data int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{1, byte(size >> 30)})
	buf := make([]byte, 1<<20)
	pieces := data / int64(len(buf))
	for i := range pieces {
		_, _ = rng.Read(buf) // never fails
		if _, err := f.WriteAt(buf, size/pieces*i); err != nil {
			t.Fatal(err)
		}
	}
}

// allocated is how much of a file is on the disk, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// firstSync creates a pair whose first disk holds so much data, and returns how long the first synchronisation took.
func firstSync(ctx context.Context, t *testing.T, size, data int64, disk ...string) (*pair.Pair, time.Duration) {
	t.Helper()
	p := pairtest.New(t, pair.Options{Sizes: []int64{size}, Protocol: "A", Net: pair.QuickTiming(), Disk: append(disk, "resync-rate 4G")})
	scatter(t, p.Node("alice").Backing(0), size, data)
	if err := p.Create(ctx); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return p, time.Since(begin)
}

// What is not allocated costs bytes, not blocks: a sparse volume syncs like a small one with as much data.
func TestHolesCostNothing(t *testing.T) {
	ctx := pairtest.Real(t)
	size, data := int64(64)<<30, int64(64)<<20
	if *terabyte {
		size, data = 1<<40, 1<<30
	}
	dense, alone := firstSync(ctx, t, data, data)
	if err := dense.Close(); err != nil {
		t.Fatal(err)
	}
	p, took := firstSync(ctx, t, size, data)
	bob := p.Node("bob")
	s, err := bob.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Received()
	t.Logf("%d MiB of data: alone %v; in a volume of %d GiB %v, %d MiB over the line, %d MiB on the other disk",
		data>>20, alone, size>>30, took, got>>20, allocated(t, bob.Backing(0))>>20)
	if got > data+data/8+(4<<20) {
		t.Errorf("%d bytes came over for %d of data", got, data)
	}
	if n := allocated(t, bob.Backing(0)); n > data+data/8+(1<<20) {
		t.Errorf("the replica takes %d bytes for %d of data", n, data)
	}
	if took > 3*alone+5*time.Second {
		t.Errorf("%v for what takes %v where nothing is sparse", took, alone)
	}
}

// The target gives back what became zeroes, in multiples of rs-discard-granularity, and nothing without it.
func TestDiscardGranularity(t *testing.T) {
	ctx := pairtest.Real(t)
	for _, c := range []struct {
		disk    []string
		trimmed bool
	}{{nil, false}, {[]string{"rs-discard-granularity 65536"}, true}} {
		p := pairtest.New(t, pair.Options{Sizes: []int64{size}, Net: pair.QuickTiming(), Disk: append(c.disk, "resync-rate 4G")})
		alice, bob := p.Node("alice"), p.Node("bob")
		scatter(t, bob.Backing(0), size, size)
		if err := p.Create(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if n := allocated(t, bob.Backing(0)); (n < size/2) != c.trimmed {
			t.Errorf("%v: %d bytes of %d stay allocated", c.disk, n, size)
		}
		do(ctx, t, alice, "secondary")
		equalDisks(t, p)
	}
}
