package compat

import (
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// The states of docs/states.md that a resync and a missing disk bring, as /proc/drbd and the verbs show them on both sides.
func TestStates(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: append(pair.QuickTiming(), "verify-alg crc32c"), Disk: []string{"resync-rate 2M"}})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, s.p.Node("alice"))
	for _, n := range []string{"alice", "bob"} {
		s.replay(ctx, []step{{n, "drbdadm create-md r0", 0, created}, {n, "drbdadm up r0", 0, `^$`}})
	}
	bar := `\n\t\[[=>.]{20}\] sync'ed: +\d+\.\d% \(\d+/\d+\)[KM]\n\tfinish: \d+:\d\d:\d\d speed: [\d,]+ \([\d,]+\)`
	s.replay(ctx, []step{
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbdadm primary --force r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----` + counted + `\d+` + bar},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----` + counted + `\d+` + bar},
		{"bob", "drbd-overview", 0, `^ *0:r0(/0)? +(SyncTarget|Sync Target) +Secondary/Primary +Inconsistent/UpToDate`},
		{"bob", "drbdadm pause-sync r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:PausedSyncS ro:Primary/Secondary ds:UpToDate/Inconsistent C r-p---`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:PausedSyncT ro:Secondary/Primary ds:Inconsistent/UpToDate C r--u--`},
		{"bob", "drbdadm resume-sync r0", 0, `^$`},
		{"alice", "drbdadm cstate r0", 0, `^SyncSource\n$`},
		{"alice", "drbdadm -- --resync-rate=500M disk-options r0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
		{"bob", "drbdadm detach r0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^Diskless/UpToDate\n$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/Diskless C r-----`},
		{"bob", "drbdadm attach r0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
		{"alice", "drbdadm disconnect r0", 0, `^$`},
		{"bob", "drbdadm cstate r0", 0, `^WFConnection\n$`},
		{"bob", "drbdadm outdate r0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^Outdated/DUnknown\n$`},
		{"bob", "drbdadm primary r0", 17, `State change failed: \(-2\)`},
		{"alice", "drbdadm connect r0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
	})
}
