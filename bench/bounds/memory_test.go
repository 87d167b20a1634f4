package bounds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
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

func checkMemory(t *testing.T, p *pair.Pair) {
	t.Helper()
	for _, n := range p.Nodes {
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
	checkMemory(t, p)
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
	checkMemory(t, p)
	p.Relay.Set(relay.Link{})
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	checkMemory(t, p)
}

// TestHugeVolume opens a sparse volume of 64 TiB and scatters writes over it with no peer in sight.
func TestHugeVolume(t *testing.T) {
	ctx := pairtest.Real(t)
	const size = 64 << 40
	disks := smallFS(ctx, t, "2g")
	p := pairtest.New(t, pair.Options{
		Protocol: "A", Sizes: []int64{size},
		Backing: func(node string, v int) string { return filepath.Join(disks, fmt.Sprintf("%s-%d.img", node, v)) },
	})
	alice := p.Node("alice")
	if err := alice.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"create-md", "up"} {
		if _, err := alice.Verb(ctx, verb, pair.Resource); err != nil {
			t.Fatal(err)
		}
	}
	if err := alice.Promote(ctx, "--force"); err != nil {
		t.Fatal(err)
	}
	x, err := alice.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if x.Size() != size {
		t.Fatalf("the export has %d bytes, the disk %d", x.Size(), int64(size))
	}
	scatter(ctx, t, x, size, 40_000)
	x.Close()
	m, err := alice.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB resident, %d at its peak", m.Resident>>20, m.Peak>>20)
	if m.Peak > residentLimit {
		t.Errorf("alice held %d MiB, limit %d", m.Peak>>20, residentLimit>>20)
	}
	if err := alice.Terminate(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// scatter writes n blocks at random places.
func scatter(ctx context.Context, t *testing.T, x *pair.Volume, size int64, n int) {
	t.Helper()
	const writers = 16
	errs := make([]error, writers)
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
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
