package compat

import (
	"os"
	"strings"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// edit replaces a part of a node's configuration.
func (s *shell) edit(node, old, now string) {
	s.t.Helper()
	path := s.p.Node(node).ConfigPath()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		s.t.Fatalf("no %q in the configuration:\n%s", old, text)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, now, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// What runs is led to what the file says in the fewest steps, while a client has the volume open; what was set for now is gone behind it.
func TestAdjust(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: append(pair.QuickTiming(), "verify-alg crc32c"), Disk: []string{"c-max-rate 100M"}})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	v, err := s.p.Node("alice").Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	const both = ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate `
	s.replay(ctx, []step{
		{"alice", "drbdadm -d adjust r0", 0, `^$`},
		{"alice", "drbdsetup show r0", 0, `(?s)^resource r0 \{\n    options \{\n    \}\n    net \{\n.*_this_host \{\n.*c-max-rate      \t102400k; # bytes/second, default|^resource r0`},
		{"alice", "drbdadm net-options --verify-alg=md5 r0", 0, `^$`},
		{"alice", "drbdadm -- --c-max-rate=20M disk-options r0", 0, `^$`},
		{"alice", "drbdadm net-options --protocol=A r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, both + `A r-----`},
		{"alice", "drbdadm net-options --timeout=50 --sndbuf-size=1M r0", 0, `^sndbuf-size: accepted without effect: .*\n$`},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbdsetup show r0", 0, `(?s)protocol        \tA;.*timeout         \t50; # 1/10 seconds.*verify-alg      \t"md5";.*c-max-rate      \t20480k; # bytes/second`},
		{"alice", "drbdadm -d adjust r0", 0, `(?s)^drbdsetup-84 disk-options 0 --set-defaults .*\ndrbdsetup-84 net-options ipv4:\S+ ipv4:\S+ --set-defaults .*\n$`},
		{"alice", "drbdadm adjust r0", 0, `^$`},
		{"alice", "drbdadm -d adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, both + `C r-----`},
		{"alice", "drbdadm net-options --protocol=A --fencing=resource-and-stonith r0", 10, `^r0: Failure: \(154\) `},
		{"alice", "drbdadm net-options --ping-int=9999 r0", 10, `out of range \[1\.\.120\]`},
		{"alice", "drbdadm new-resource r0", 10, `^r0: Failure: \(162\) Invalid configuration request\nadditional info from kernel:\nresource exists\n`},
		{"alice", "drbdadm del-minor r0", 10, `Failure: \(160\) `},
	})
	if err := v.WriteAt(ctx, []byte("still the same client"), 0, true); err != nil {
		t.Fatalf("the client did not outlive adjust: %v", err)
	}
	// The file changes: adjust takes it over; what needs no step gets none.
	s.edit("alice", "verify-alg crc32c", "verify-alg sha1")
	s.replay(ctx, []step{
		{"alice", "drbdadm -d adjust all", 0, `^drbdsetup-84 net-options \S+ \S+ --set-defaults [^\n]*--verify-alg=sha1[^\n]*\n$`},
		{"alice", "drbdadm sh-list-adjustable", 0, `^r0\n$`},
		{"alice", "drbdadm syncer r0", 0, `^$`},
		{"alice", "drbdadm sh-list-adjustable", 0, `^$`},
		{"alice", "drbdadm disconnect r0", 0, `^$`},
		{"alice", "drbdadm -d adjust r0", 0, `^drbdsetup-84 connect r0 \S+ \S+ [^\n]*\n$`},
		{"alice", "drbdadm adjust r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, both + `C r-----`},
	})
	// connect follows the file as it is now; a file that does not parse changes nothing.
	s.edit("bob", "protocol C", "protocol B")
	s.replay(ctx, []step{
		{"bob", "drbdadm disconnect r0", 0, `^$`},
		{"bob", "drbdadm connect r0", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate B r-----`},
	})
	s.edit("bob", "protocol B", "protocol Q")
	s.replay(ctx, []step{
		{"bob", "drbdadm adjust r0", 10, `^unknown protocol 'Q', should be one of A,B,C\n$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate B r-----`},
	})
	s.edit("bob", "protocol Q", "protocol C")
	s.replay(ctx, []step{
		{"bob", "drbdadm detach r0", 0, `^$`},
		{"bob", "drbdadm -d adjust r0", 0, `(?s)^drbdmeta 0 v08 \S+ internal apply-al\ndrbdsetup-84 attach 0 .*\ndrbdsetup-84 net-options .*--protocol=C.*\n$`},
		{"bob", "drbdadm adjust r0", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----`},
		{"bob", "drbdadm down r0", 0, `^$`},
		{"bob", "drbdadm adjust r0", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----`},
	})
}

// The single steps of up and down lead where up and down do.
func TestSteps(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming(), Handlers: []string{`split-brain "exit 7"`}})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, []step{
		{"alice", "drbdadm create-md r0", 0, created},
		{"bob", "drbdadm create-md r0", 0, created},
		{"bob", "drbdadm up r0", 0, `^$`},
		{"alice", "drbdadm new-resource r0", 0, `^$`},
		{"alice", "drbdsetup new-minor r0 0 0", 0, `^$`},
		{"alice", "drbdsetup new-minor r0 7 1", 10, `^r0: Failure: \(162\) `},
		{"alice", "drbdsetup attach 0 /dev/other /dev/other internal", 10, `the configuration gives the volume the disk `},
		{"alice", "drbdadm attach r0", 0, `^$`},
		{"alice", "drbdsetup new-minor r0 0 0", 10, `Failure: \(161\) Minor or volume exists already`},
		{"alice", "drbdadm new-peer r0:bob", 0, `^$`},
		{"alice", "drbdadm new-path r0:bob", 0, `^$`},
		{"alice", "drbdadm connect r0:bob", 0, `^$`},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbdadm peer-role r0", 0, `^Secondary\n$`},
		{"alice", "drbdadm del-path r0", 10, `Failure: \(125\) `},
		{"alice", "drbdsetup del-resource r0", 10, `Failure: \(125\) `},
		{"alice", "drbdadm split-brain r0", 7, `ended with exit code 7`},
		{"alice", "drbdadm out-of-sync r0", 0, `^$`},
		{"alice", "drbdadm wait-con-int", 0, `^$`},
		{"alice", "drbdadm del-peer r0", 0, `^$`},
		{"alice", "drbdsetup del-resource r0", 10, `Failure: \(159\) `},
		{"alice", "drbdadm detach r0", 0, `^$`},
		{"alice", "drbdadm del-minor r0", 0, `^$`},
		{"alice", "drbdsetup del-resource r0", 0, `^$`},
		{"alice", "drbdadm status r0", 10, `^r0: No such resource\n`},
	})
}

// Verify as the documents run it: the states while it runs, nothing afterwards, and what it found.
func TestVerifyTranscript(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: append(pair.QuickTiming(), "verify-alg crc32c", "verify-rate 8M")})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	s.replay(ctx, []step{
		{"alice", "drbdadm net-options --verify-alg=md5 r0", 0, `^$`},
		{"alice", "drbdadm verify r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----` + counted + `0\n\t\[[=>.]+\] verified: *\d+\.\d% \(\d+/\d+\)K\n\tfinish: \d+:\d\d:\d\d speed: [\d,]+ \([\d,]+\) want: [\d,]+ K/sec\n$`},
		{"bob", "drbdadm cstate r0", 0, `^VerifyT\n$`},
		{"alice", "drbdadm net-options --verify-alg=sha1 r0", 10, `^r0: Failure: \(149\) `},
		{"alice", "drbdadm verify r0", 11, `^0: State change failed: \(-8\) `},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----` + counted + `0\n$`},
		{"alice", "drbdadm verify --start=0 --stop=8 r0/0", 0, `^$`},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbdadm disconnect r0", 0, `^$`},
		{"alice", "drbdadm verify r0", 11, `^0: State change failed: \(-15\) Need a connection to start verify or resync\nCommand 'drbdsetup-84 verify 0' terminated with exit code 11\n$`},
	})
}
