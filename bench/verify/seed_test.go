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
