// Package verify proves on a pair of real daemons that an online verify finds what was planted on the replica's disk and
// nothing else, while clients write, and that a repair mends it.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const size = 64 << 20

type run struct {
	State     string    `json:"state"`
	Why       string    `json:"why"`
	Started   time.Time `json:"started"`
	Differ    int       `json:"differing-blocks"`
	Unsettled int       `json:"unsettled-blocks"`
	Asked     int       `json:"asked-again-blocks"`
	Repaired  int       `json:"repaired-blocks"`
	Bytes     int64     `json:"compared-bytes"`
	Spans     []struct {
		Off int64 `json:"offset"`
		Len int64 `json:"length"`
	} `json:"differences"`
}

// report asks a node for the newest run; ok is false where there is none.
func report(ctx context.Context, t *testing.T, n *pair.Node) (run, bool) {
	t.Helper()
	out, err := n.Verb(ctx, "verify", "--report", "--json", pair.Resource)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Runs []run `json:"runs"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(r.Runs) == 0 {
		return run{}, false
	}
	return r.Runs[0], true
}

// verify runs one from the node given and returns what the sending side reports.
func verify(ctx context.Context, t *testing.T, asked, sends *pair.Node, args ...string) run {
	t.Helper()
	if _, err := asked.Verb(ctx, "verify", append(args, pair.Resource)...); err != nil {
		t.Fatal(err)
	}
	if _, err := sends.Wait(ctx, "the end of the verify", func(s pair.Status) bool {
		r, ok := report(ctx, t, sends)
		return ok && r.State != "running" && s.Replication() == "Established"
	}); err != nil {
		t.Fatal(err)
	}
	r, _ := report(ctx, t, sends)
	if r.State != "done" {
		t.Fatalf("verify ended as %s: %s", r.State, r.Why)
	}
	return r
}

// plant flips bytes of the replica's file behind the daemon's back.
func plant(t *testing.T, n *pair.Node, offsets ...int64) {
	t.Helper()
	f, err := os.OpenFile(n.Backing(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range offsets {
		b := make([]byte, 16)
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0xa5
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
}

// clients write at random until stop is called.
func clients(ctx context.Context, t *testing.T, n *pair.Node, from, to int64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for c := range 3 {
		v, err := n.Open(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer v.Close()
			rng := rand.New(rand.NewPCG(7, uint64(c)))
			buf := make([]byte, 64<<10)
			for ctx.Err() == nil {
				for i := range buf {
					buf[i] = byte(rng.Uint32())
				}
				n := int64(512 * (1 + rng.IntN(64)))
				off := from + rng.Int64N((to-from-n)/512)*512
				if rng.IntN(4) == 0 {
					off = from + rng.Int64N(16)*512 // a few blocks that are written again and again
				}
				if err := v.WriteAt(context.WithoutCancel(ctx), buf[:n], off, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func up(ctx context.Context, t *testing.T, net ...string) (*pair.Pair, *pair.Node, *pair.Node) {
	t.Helper()
	p := pairtest.Up(ctx, t, pair.Options{Sizes: []int64{size}, Protocol: "A", Net: append(pair.QuickTiming(), append(net, "verify-alg sha256")...)})
	return p, p.Node("alice"), p.Node("bob")
}

func fill(ctx context.Context, t *testing.T, n *pair.Node) {
	t.Helper()
	v, err := n.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		for i := range buf {
			buf[i] = byte(rng.Uint32())
		}
		if err := v.WriteAt(ctx, buf, off, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func equalDisks(t *testing.T, p *pair.Pair) {
	t.Helper()
	if !bytes.Equal(pairtest.Disk(t, p.Node("alice")), pairtest.Disk(t, p.Node("bob"))) {
		t.Fatal("the disks differ")
	}
}

func TestFindsAndRepairs(t *testing.T) {
	ctx := pairtest.Real(t)
	p, alice, bob := up(ctx, t)
	fill(ctx, t, alice)
	if r := verify(ctx, t, alice, alice); r.Differ != 0 || r.Bytes != size {
		t.Fatalf("a good replica: %+v", r)
	}
	plant(t, bob, 0, 5<<20+100, 5<<20+4096, size-4096)
	// Asked for on the side that is compared: the same.
	r := verify(ctx, t, bob, alice)
	if r.Differ != 4 || len(r.Spans) != 3 || r.Spans[1].Off != 5<<20 || r.Spans[1].Len != 8192 {
		t.Fatalf("four blocks were planted: %+v", r)
	}
	if s, err := alice.Status(ctx); err != nil || s.OutOfSync() != 16 {
		t.Fatalf("out of sync: %d KiB, %v", s.OutOfSync(), err)
	}
	if _, err := alice.Verb(ctx, "verify", "--repair", pair.Resource); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if r := verify(ctx, t, alice, alice); r.Differ != 0 {
		t.Fatalf("after the repair: %+v", r)
	}
	// A range.
	plant(t, bob, 1<<20, 9<<20)
	if r := verify(ctx, t, alice, alice, "--start", "8M", "--stop", "12M"); r.Differ != 1 || r.Bytes != 4<<20 {
		t.Fatalf("one block was planted in the range: %+v", r)
	}
	equalAfterReconnect(ctx, t, p)
}

// equalAfterReconnect mends the rest by a resync, as DRBD's administrators do.
func equalAfterReconnect(ctx context.Context, t *testing.T, p *pair.Pair) {
	t.Helper()
	alice := p.Node("alice")
	verify(ctx, t, alice, alice)
	for _, verb := range []string{"disconnect", "connect"} {
		if _, err := alice.Verb(ctx, verb, pair.Resource); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if r := verify(ctx, t, alice, alice); r.Differ != 0 {
		t.Fatalf("after the resync: %+v", r)
	}
	equalDisks(t, p)
}

func TestUnderWrites(t *testing.T) {
	ctx := pairtest.Real(t)
	p, alice, bob := up(ctx, t, "verify-repair on")
	fill(ctx, t, alice)
	// Clients write the first half; what is planted lies in the second, where nothing mends it by chance.
	stop := clients(ctx, t, alice, 0, size/2)
	defer stop()
	asked := 0
	for round := range 3 {
		r := verify(ctx, t, alice, alice)
		if r.Differ != 0 {
			t.Fatalf("round %d: false differences: %+v", round, r)
		}
		asked += r.Asked
	}
	plant(t, bob, size/2+8192, size-100)
	if r := verify(ctx, t, alice, alice); r.Differ != 2 {
		t.Fatalf("two blocks were planted: %+v", r)
	}
	if _, err := alice.Wait(ctx, "the repair", func(pair.Status) bool {
		r, _ := report(ctx, t, alice)
		return r.Repaired == 2
	}); err != nil {
		t.Fatal(err)
	}
	if r := verify(ctx, t, alice, alice); r.Differ != 0 {
		t.Fatalf("after the repair: %+v", r)
	}
	stop()
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Verb(ctx, "secondary", pair.Resource); err != nil {
		t.Fatal(err)
	}
	if r := verify(ctx, t, bob, alice); r.Differ != 0 {
		t.Fatalf("both sides at rest: %+v", r)
	}
	equalDisks(t, p)
	t.Logf("%d blocks were asked again because clients wrote them", asked)
}

func TestBothSecondary(t *testing.T) {
	ctx := pairtest.Real(t)
	p, alice, bob := up(ctx, t)
	// A new session between two Secondaries has no stream.
	for _, step := range []struct{ node, verb string }{{"alice", "secondary"}, {"alice", "disconnect"}, {"bob", "disconnect"}, {"alice", "connect"}, {"bob", "connect"}} {
		if _, err := p.Node(step.node).Verb(ctx, step.verb, pair.Resource); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	plant(t, alice, 4096)
	if r := verify(ctx, t, bob, bob); r.Differ != 1 {
		t.Fatalf("one block was planted: %+v", r)
	}
	// Promotion right behind it: the side that was only compared becomes a source.
	if _, err := alice.Verb(ctx, "primary", pair.Resource); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, alice)
	if r := verify(ctx, t, bob, alice); r.Differ != 0 {
		t.Fatalf("every block was written: %+v", r)
	}
}

// tail is the last block of a node's file.
func tail(t *testing.T, n *pair.Node) []byte {
	t.Helper()
	f, err := os.Open(n.Backing(0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4096)
	if _, err := f.ReadAt(b, size-4096); err != nil {
		t.Fatal(err)
	}
	return b
}
