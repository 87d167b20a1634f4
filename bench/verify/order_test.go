package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// second adds a resource r1 beside r0: other disks, another port, and a resync that waits for r0's.
func second(text string) string {
	i := strings.Index(text, "resource r0")
	twin := strings.NewReplacer("resource r0", "resource r1", ":7788", ":7789", "vol0.img", "twin.img", "drbd0", "drbd1",
		"resync-rate 20M", "resync-rate 400M;\n\t\tresync-after r0").Replace(text[i:])
	return text + twin
}

// The resync of r1 waits until that of r0 is done.
func TestResyncAfter(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Sizes: []int64{size}, Protocol: "A", Disk: []string{"resync-rate 20M"}, Net: pair.QuickTiming(),
		Adjust: func(_, _, text string) string { return second(text) }})
	alice, bob := p.Node("alice"), p.Node("bob")
	for _, n := range p.Nodes {
		if err := os.WriteFile(filepath.Join(filepath.Dir(n.Backing(0)), "twin.img"), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scatter(t, alice.Backing(0), size, size)
	scatter(t, filepath.Join(filepath.Dir(alice.Backing(0)), "twin.img"), size, size)
	if err := p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		for _, verb := range []string{"create-md", "up"} {
			if _, err := n.Verb(ctx, verb, "all"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range []string{"r0", "r1"} {
		if _, err := alice.Verb(ctx, "wait-connect", r); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Verb(ctx, "primary", "--force", r); err != nil {
			t.Fatal(err)
		}
	}
	cstate := func(n *pair.Node, r string) string {
		out, err := n.Verb(ctx, "cstate", r)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	waited := false
	if _, err := bob.Wait(ctx, "r0 in sync", func(s pair.Status) bool {
		before, first, other := cstate(alice, "r0"), cstate(alice, "r1"), cstate(bob, "r1")
		after := cstate(alice, "r0")
		if before == "SyncSource" && after == "SyncSource" && first == "PausedSyncS" && other == "PausedSyncT" {
			waited = true
		}
		if before == "SyncSource" && after == "SyncSource" && first == "SyncSource" {
			t.Error("r1 is resynced beside r0")
		}
		return s.InSync()
	}); err != nil {
		t.Fatal(err)
	}
	if !waited {
		t.Error("r1 was never held while r0 was resynced")
	}
	if _, err := alice.Verb(ctx, "wait-sync", "r1"); err != nil {
		t.Fatal(err)
	}
	if got := cstate(bob, "r1"); got != "Connected" {
		t.Errorf("r1 is %s", got)
	}
}

// The schedule of rates holds replication itself down, and a resync to its share; adjust takes a new one over.
func TestRateSchedule(t *testing.T) {
	ctx := pairtest.Real(t)
	const slow = 4 << 20
	rule := "else 4M"
	p := pairtest.Up(ctx, t, pair.Options{Sizes: []int64{size}, Protocol: "A", Net: pair.QuickTiming(), WAN: []string{"compression off"},
		Adjust: func(_, _, text string) string {
			return strings.Replace(text, "compression off", "compression off;\n\t\trate-schedule \""+rule+"\"", 1)
		}})
	alice := p.Node("alice")
	part := func() time.Duration {
		t.Helper()
		v, err := alice.Open(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		data := make([]byte, 1<<20)
		begin := time.Now()
		for i := range int64(16) {
			fillRandom(data, byte(i))
			if err := v.WriteAt(ctx, data, i<<20, false); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := alice.Wait(ctx, "replication", pair.Status.Drained); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	held := part()
	do(ctx, t, p.Node("bob"), "invalidate")
	s, err := alice.Wait(ctx, "a pace by the schedule", func(s pair.Status) bool {
		return strings.Contains(paceOf(t, s).Why, "by configuration")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := paceOf(t, s); got.Want < slow*28/100 || got.Want > slow*32/100 {
		t.Errorf("30 %% of %d: %+v", slow, got)
	}
	rule = "else 2G"
	for _, n := range p.Nodes {
		if err := n.WriteConfig(); err != nil {
			t.Fatal(err)
		}
		do(ctx, t, n, "adjust")
	}
	do(ctx, t, alice, "disk-options", "--resync-rate=2G")
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	free := part()
	t.Logf("16 MiB at 4 MiB/s took %v, without a limit %v", held, free)
	if held < 3500*time.Millisecond || held < 3*free {
		t.Errorf("16 MiB took %v at 4 MiB/s, and %v without a limit", held, free)
	}
}

func fillRandom(b []byte, seed byte) {
	x := uint32(seed) + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
}
