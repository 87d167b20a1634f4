package verify

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
)

// pace is what status says of the resync's rate.
type pace struct {
	Rate int64  `json:"rate"`
	Want int64  `json:"want-rate"`
	ETA  int64  `json:"eta-ms"`
	Why  string `json:"why"`
}

func paceOf(t *testing.T, s pair.Status) pace {
	t.Helper()
	var all []struct {
		Connections []struct {
			Peers []struct {
				Ours *pace `json:"drship"`
			} `json:"peer_devices"`
		} `json:"connections"`
	}
	if err := json.Unmarshal([]byte(s.String()), &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		for _, c := range r.Connections {
			for _, v := range c.Peers {
				if v.Ours != nil {
					return *v.Ours
				}
			}
		}
	}
	return pace{}
}

// A resync over a line of 16 MB/s takes 30 % of it, and says so; an administrator holds it, and lets it go faster.
func TestPaceAndPause(t *testing.T) {
	ctx := pairtest.Real(t)
	const rate = 16_000_000
	p := pairtest.Up(ctx, t, pair.Options{Sizes: []int64{size}, Protocol: "A", Link: &relay.Link{Delay: 5 * time.Millisecond, Rate: rate},
		Net: append(pair.QuickTiming(), "verify-alg sha256")})
	alice, bob := p.Node("alice"), p.Node("bob")
	fill(ctx, t, alice)
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, bob, "invalidate")
	s, err := alice.Wait(ctx, "a pace that is measured", func(s pair.Status) bool {
		return s.Replication() == "SyncSource" && strings.Contains(paceOf(t, s).Why, "network")
	})
	if err != nil {
		t.Fatal(err)
	}
	got := paceOf(t, s)
	if got.Want < rate*30/100*6/10 || got.Want > rate*30/100*14/10 || got.ETA <= 0 {
		t.Errorf("30 %% of a line of %d bytes a second: %+v", rate, got)
	}
	t.Logf("%+v", got)

	do(ctx, t, bob, "pause-sync")
	waitState(ctx, t, alice, "PausedSyncS")
	waitState(ctx, t, bob, "PausedSyncT")
	before := settled(ctx, t, alice)
	if after := settled(ctx, t, alice); after != before {
		t.Errorf("out of sync went from %d to %d KiB while the resync is held", before, after)
	}
	do(ctx, t, bob, "resume-sync")
	waitState(ctx, t, alice, "SyncSource")
	do(ctx, t, alice, "disk-options", "--resync-rate=400M")
	if _, err := alice.Wait(ctx, "the rate for now", func(s pair.Status) bool {
		return s.InSync() || strings.Contains(paceOf(t, s).Why, "set for now")
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, alice, "secondary")
	equalDisks(t, p)
}

func do(ctx context.Context, t *testing.T, n *pair.Node, verb string, args ...string) {
	t.Helper()
	if _, err := n.Verb(ctx, verb, append(args, pair.Resource)...); err != nil {
		t.Fatal(err)
	}
}

func waitState(ctx context.Context, t *testing.T, n *pair.Node, want string) {
	t.Helper()
	if _, err := n.Wait(ctx, want, func(s pair.Status) bool { return s.Replication() == want }); err != nil {
		t.Fatal(err)
	}
}

// settled is what is out of sync, in KiB, once nothing is in flight any more.
func settled(ctx context.Context, t *testing.T, n *pair.Node) uint64 {
	t.Helper()
	var last uint64
	same := 0
	if _, err := n.Wait(ctx, "a resync that stands still", func(s pair.Status) bool {
		if now := s.OutOfSync(); now == last {
			same++
		} else {
			last, same = now, 0
		}
		return same >= 10
	}); err != nil {
		t.Fatal(err)
	}
	return last
}

// Replication that is paused goes on in the journal, over a restart of the Primary's node where it is to be kept, and nothing is lost.
func TestReplicationPaused(t *testing.T) {
	ctx := pairtest.Real(t)
	p, alice, bob := up(ctx, t)
	do(ctx, t, alice, "pause", "--keep")
	fill(ctx, t, alice)
	do(ctx, t, alice, "secondary")
	if err := alice.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alice.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Wait(ctx, "the link", pair.Status.Connected); err != nil {
		t.Fatal(err)
	}
	if bobHas(t, bob) {
		t.Fatal("the peer has data although replication is paused")
	}
	do(ctx, t, alice, "resume")
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Wait(ctx, "the data", func(pair.Status) bool { return bobHas(t, bob) }); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, alice, "verify")
	if _, err := alice.Wait(ctx, "the end of the verify", func(s pair.Status) bool {
		r, ok := report(ctx, t, alice)
		return ok && r.State == "done" && r.Differ == 0
	}); err != nil {
		t.Fatal(err)
	}
	equalDisks(t, p)
}

func bobHas(t *testing.T, n *pair.Node) bool {
	t.Helper()
	for _, b := range tail(t, n) {
		if b != 0 {
			return true
		}
	}
	return false
}

// A resync that is to be held for longer than the daemon lives is held again after its restart, on either side; without --keep it is not.
func TestPauseSyncKept(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{Sizes: []int64{size}, Protocol: "A", Net: pair.QuickTiming(), Disk: []string{"resync-rate 8M"}})
	alice, bob := p.Node("alice"), p.Node("bob")
	fill(ctx, t, alice)
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, bob, "invalidate")
	waitState(ctx, t, alice, "SyncSource")
	do(ctx, t, bob, "pause-sync", "--keep")
	waitState(ctx, t, alice, "PausedSyncS")
	revive(ctx, t, bob)
	waitState(ctx, t, bob, "PausedSyncT")
	do(ctx, t, bob, "resume-sync")
	waitState(ctx, t, alice, "SyncSource")
	do(ctx, t, bob, "pause-sync")
	waitState(ctx, t, bob, "PausedSyncT")
	revive(ctx, t, bob)
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
}
