package verify

import (
	"context"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
)

// A resync that was cut goes on where it stood: no more than 64 MiB come over twice, whoever went away.
func TestResyncGoesOn(t *testing.T) {
	const whole, again = 256 << 20, 64 << 20
	for _, c := range []struct {
		name string
		cut  func(ctx context.Context, t *testing.T, p *pair.Pair)
	}{
		{"the line", func(ctx context.Context, t *testing.T, p *pair.Pair) {
			p.Relay.Cut()
			if _, err := p.Node("alice").Wait(ctx, "the end of the link", func(s pair.Status) bool { return !s.Connected() }); err != nil {
				t.Fatal(err)
			}
			p.Relay.Heal()
		}},
		{"the target", func(ctx context.Context, t *testing.T, p *pair.Pair) { revive(ctx, t, p.Node("bob")) }},
		{"the source", func(ctx context.Context, t *testing.T, p *pair.Pair) {
			revive(ctx, t, p.Node("alice"))
			if err := p.Node("alice").Promote(ctx); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := pairtest.Real(t)
			p := pairtest.New(t, pair.Options{Sizes: []int64{whole}, Protocol: "A", Link: &relay.Link{}, Disk: []string{"resync-rate 30M"}})
			alice, bob := p.Node("alice"), p.Node("bob")
			scatter(t, alice.Backing(0), whole, whole)
			scatter(t, bob.Backing(0), whole, whole)
			if err := p.Create(ctx); err != nil {
				t.Fatal(err)
			}
			if err := p.DeclareEqual(ctx); err != nil {
				t.Fatal(err)
			}
			if err := alice.Promote(ctx); err != nil {
				t.Fatal(err)
			}
			if err := p.WaitUpToDate(ctx); err != nil {
				t.Fatal(err)
			}
			before := p.Relay.Counters(relay.AtoB).OutBytes
			do(ctx, t, bob, "invalidate")
			for _, part := range []uint64{3, 2} { // a quarter is done, then half of it
				if _, err := alice.Wait(ctx, "a resync that has gone some way", func(s pair.Status) bool {
					return s.Replication() == "SyncSource" && s.OutOfSync() < whole/1024*part/4
				}); err != nil {
					t.Fatal(err)
				}
				c.cut(ctx, t, p)
			}
			if err := p.WaitUpToDate(ctx); err != nil {
				t.Fatal(err)
			}
			sent := int64(p.Relay.Counters(relay.AtoB).OutBytes - before)
			t.Logf("%d MiB came over for %d MiB, cut twice", sent>>20, whole>>20)
			if sent > whole+whole/16+2*again {
				t.Errorf("%d bytes came over for %d and two cuts", sent, whole)
			}
			do(ctx, t, alice, "secondary")
			equalDisks(t, p)
		})
	}
}

// revive kills a node and starts it again.
func revive(ctx context.Context, t *testing.T, n *pair.Node) {
	t.Helper()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
}
