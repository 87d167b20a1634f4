package sim

import (
	"flag"
	"testing"
	"testing/synctest"
)

var (
	walks = flag.Int("walks", 6, "how many random walks; one with -short. From 30 on they have to meet every state")
	steps = flag.Int("steps", 250, "steps of a walk")
)

// every state that a walk of full length has to meet.
var everyState = []string{
	"off", "down", "role Primary", "role Secondary", "peer's role Unknown", "suspended user",
	"connection StandAlone", "connection WFConnection", "connection Connected", "connection SyncSource", "connection SyncTarget",
	"connection PausedSyncS", "connection PausedSyncT",
	"disk Diskless", "disk Inconsistent", "disk Outdated", "disk UpToDate", "peer's disk DUnknown", "peer's disk Diskless",
	"together Connected, Primary, Diskless/UpToDate", "connection Ahead", "connection Behind", "connection VerifyS", "connection VerifyT", "suspended no-data",
}

// TestWalk: no acknowledged write disappears unless its side was named as the loser, disks that say UpToDate after healing are equal, and every
// state is met.
func TestWalk(t *testing.T) {
	n := *walks
	if testing.Short() {
		n = 1
	}
	seen := newAtlas()
	writes, splits, forced := 0, 0, 0
	for i := range n {
		seed := *first + uint64(i)
		var log lockedBuffer
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w, err := newWalk(seed, dir, &log)
			defer w.close()
			for step := 0; err == nil && step < *steps; step++ {
				err = w.step(step)
			}
			if err == nil {
				err = w.heal()
			}
			if err != nil && *keep {
				t.Log(log.String()) // a bubble that fails ends the test around it
			}
			if err != nil {
				t.Errorf("seed %d: %v\nreplay: go test ./bench/sim -run Walk -seed %d -walks 1 -log", seed, err, seed)
			}
			seen.add(w.atlas)
			writes, splits, forced = writes+w.writes, splits+w.splits, forced+w.forced
		})
		if *keep {
			t.Logf("seed %d:\n%s", seed, log.String())
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d walks of %d steps: %d writes acknowledged, %d split brains, %d times data was declared good\n%s", n, *steps, writes, splits, forced, seen)
	for _, name := range everyState {
		if n >= 30 && seen.states[name] == 0 {
			t.Errorf("never met: %s", name)
		}
	}
}
