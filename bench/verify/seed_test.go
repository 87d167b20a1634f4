package verify

import (
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// A disk that was carried over costs digests, and what differs.
func TestSeed(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Sizes: []int64{size}, Net: append(pair.QuickTiming(), "verify-alg sha256")})
	alice, bob := p.Node("alice"), p.Node("bob")
	rng := rand.NewChaCha8([32]byte{1})
	data := make([]byte, size)
	if _, err := io.ReadFull(rng, data); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		if err := os.WriteFile(n.Backing(0), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plant(t, bob, 7<<20, 9<<20)
	if err := p.Create(ctx); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, alice, "verify", "--seed")
	if err := p.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := bob.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Received(); got > size/16 {
		t.Errorf("%d bytes came over for two blocks of %d that differ", got, size)
	}
	equalDisks(t, p)
}

// Disks that are the same, created so on both sides, need no synchronisation at all; a disk that is carried to a pair that runs costs
// digests, and what differs.
func TestAssumeClean(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Sizes: []int64{size}, Net: append(pair.QuickTiming(), "verify-alg sha256")})
	alice, bob := p.Node("alice"), p.Node("bob")
	for _, n := range p.Nodes {
		scatter(t, n.Backing(0), size, size)
	}
	if err := p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		do(ctx, t, n, "create-md", "--assume-clean")
	}
	for _, n := range p.Nodes {
		do(ctx, t, n, "up")
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := bob.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Received(); got > 1<<20 {
		t.Errorf("%d bytes came over for disks that are the same", got)
	}
	if r := verify(ctx, t, alice, alice); r.Differ != 0 || r.Bytes != size {
		t.Errorf("verify: %+v", r)
	}

	// A new replica, carried over and a little different.
	do(ctx, t, bob, "down")
	plant(t, bob, 3<<20, 40<<20)
	do(ctx, t, bob, "create-md", "--assume-clean", "--force")
	do(ctx, t, bob, "up")
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err = bob.Status(ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.Received(); got > size/16 {
		t.Errorf("%d bytes came over for two blocks of %d that differ", got, size)
	}
	do(ctx, t, alice, "secondary")
	equalDisks(t, p)
}
