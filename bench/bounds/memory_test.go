package bounds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
	"drship/bench/stamp"
)

// residentLimit is what a daemon may hold with defaults under load, in bytes.
const residentLimit = 300 << 20

func checkMemory(t *testing.T, nodes ...*pair.Node) {
	t.Helper()
	for _, n := range nodes {
		m, err := n.Memory()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MiB resident, %d at its peak", n.Name, m.Resident>>20, m.Peak>>20)
		if m.Peak > residentLimit {
			t.Errorf("%s held %d MiB, limit %d", n.Name, m.Peak>>20, residentLimit>>20)
		}
	}
}

// TestMemoryUnderLoad measures both daemons through an initial sync and a load that the line cannot carry.
func TestMemoryUnderLoad(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{Protocol: "A", Sizes: []int64{512 << 20}, Link: &relay.Link{}})
	checkMemory(t, p.Nodes...)
	p.Relay.Set(relay.Link{Delay: 25 * time.Millisecond, Rate: 100_000_000 / 8})
	alice := p.Node("alice")
	var targets []stamp.Target
	x, err := alice.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	targets = append(targets, x)
	log := stamp.NewLog(1)
	const requests = 20_000
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := stamp.Mixed(stamp.Load{Targets: targets, Size: 512 << 20, Writers: 32, Seed: 5, Log: log})
	l.Pace = func(ctx context.Context) error {
		if log.Next() > requests {
			cancel()
		}
		return ctx.Err()
	}
	if err := l.Run(loadCtx); err != nil {
		t.Fatal(err)
	}
	checkMemory(t, p.Nodes...)
	p.Relay.Set(relay.Link{})
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	checkMemory(t, p.Nodes...)
}

// TestHugeVolume runs a pair over sparse volumes of 64 TiB: writes scattered over them go to the bitmap while the peer is away, and
// a resync of those blocks alone makes both sides equal. Nothing of it takes memory by the volume's size.
func TestHugeVolume(t *testing.T) {
	ctx := pairtest.Real(t)
	const size, blocks = 64 << 40, 40_000
	disks := smallFS(ctx, t, "3g")
	p := pairtest.New(t, pair.Options{
		Protocol: "A", Sizes: []int64{size},
		Backing: func(node string, v int) string { return filepath.Join(disks, fmt.Sprintf("%s-%d.img", node, v)) },
		Journal: []string{"max-size 16M"}, Disk: []string{"resync-rate 1G"},
	})
	if err := p.Create(ctx); err != nil {
		t.Fatal(err)
	}
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := p.DeclareEqual(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := bob.Terminate(); err != nil {
		t.Fatal(err)
	}
	x, err := alice.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if x.Size() != size {
		t.Fatalf("the export has %d bytes, the disk %d", x.Size(), int64(size))
	}
	written := scatter(ctx, t, x, size, blocks)
	x.Close()
	checkMemory(t, alice)
	if s, err := alice.Status(ctx); err != nil || s.OutOfSync() < blocks*4*9/10 {
		t.Errorf("%d KiB out of sync (%v), %d blocks were written: this was to test the bitmap", s.OutOfSync(), err, blocks)
	}
	if err := bob.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := bob.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	checkMemory(t, p.Nodes...)
	sameBlocks(t, alice.Backing(0), bob.Backing(0), written)
}

// sameBlocks compares two disks where something was written.
func sameBlocks(t *testing.T, one, other string, at []int64) {
	t.Helper()
	var files [2]*os.File
	for i, name := range []string{one, other} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	var p [2][4096]byte
	for _, off := range at {
		for i, f := range files {
			if _, err := f.ReadAt(p[i][:], off); err != nil {
				t.Fatal(err)
			}
		}
		if p[0] != p[1] || p[0] == [4096]byte{} {
			t.Fatalf("the block at %d differs, or was not written", off)
		}
	}
}

// scatter writes n blocks at random places, and returns these.
func scatter(ctx context.Context, t *testing.T, x *pair.Volume, size int64, n int) []int64 {
	t.Helper()
	const writers = 16
	errs := make([]error, writers)
	places := make([][]int64, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 64))
			p := make([]byte, 4096)
			for range n / writers {
				off := rng.Int64N(size/4096) * 4096
				fill(p, byte(i), off)
				if err := x.WriteAt(ctx, p, off, false); err != nil {
					errs[i] = err
					return
				}
				places[i] = append(places[i], off)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(places...)
}
