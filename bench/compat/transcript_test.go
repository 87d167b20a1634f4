package compat

import (
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const (
	created = `(?s)initializing activity log.*Writing meta data\.\.\.\nNew drbd meta data block success`
	// head is the beginning of /proc/drbd; the line of minor 0 follows.
	head    = `(?s)^version: 8\.4\.\d+ \(api:1/proto:86-101\)\n`
	counted = `\n    ns:\d+ nr:\d+ dw:\d+ dr:\d+ al:\d+ bm:\d+ lo:\d+ pe:\d+ ua:\d+ ap:\d+ ep:\d+ wo:f oos:`
)

// first is how every document begins: metadata, up, the first synchronisation.
func first(overwrite string) []step {
	return []step{
		{"alice", "cat /proc/drbd", 0, head + `[^\n]*\n$`},
		{"alice", "drbdadm create-md r0", 0, created},
		{"bob", "drbdadm create-md all", 0, created},
		{"alice", "drbdadm create-md r0", 40, `(?s)There appears to be.*already in place.*Operation refused\..*Command 'drbdmeta 0 v08 \S+ internal create-md' terminated with exit code 40\ndrbdadm create-md r0: exited with code 40\n$`},
		{"alice", "drbdadm up all", 0, `^$`},
		{"bob", "drbdadm up r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, head + `.*\n 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----` + counted + `16384\n$`},
		{"bob", "drbd-overview", 0, `^ *0:r0(/0)? +Connected +Secondary/Secondary +Inconsistent/Inconsistent`},
		{"alice", "drbdadm primary r0", 17, `^0: State change failed: \(-2\) Need access to UpToDate data\nCommand 'drbdsetup-84 primary 0' terminated with exit code 17\n$`},
		{"alice", overwrite, 0, `^$`},
		{"alice", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
		{"bob", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----` + counted + `0\n$`},
	}
}

// transcript is what a document runs behind first: how it names the forced promotion, and the rest.
type transcript struct {
	overwrite string
	rest      []step
}

var transcripts = map[string]transcript{
	"switch over": {"drbdadm -- --overwrite-data-of-peer primary r0", []step{
		{"alice", "drbdadm role r0", 0, `^Primary/Secondary\n$`},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbd-overview", 0, `^ *0:r0(/0)? +Connected +Primary/Secondary +UpToDate/UpToDate`},
		{"bob", "drbdadm primary r0", 11, `^0: State change failed: \(-1\) Multiple primaries not allowed by config\nCommand 'drbdsetup-84 primary 0' terminated with exit code 11\n$`},
		{"alice", "drbdadm secondary r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----`},
		{"bob", "drbdadm primary r0", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`},
		{"alice", "drbdadm state all", 0, `^Secondary/Primary\n'drbdadm state' is deprecated, use 'drbdadm role' instead\.\n$`},
	}},
	"the primary goes down": {"drbdadm -- --overwrite-data-of-peer primary all", []step{
		{"alice", "drbdadm down r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, head + `[^\n]*\n$`},
		{"alice", "drbdadm role r0", 10, `^0: Failure: \(127\) Device minor not allocated\nadditional info from kernel:\nunknown minor\nCommand 'drbdsetup-84 role 0' terminated with exit code 10\n$`},
		{"alice", "drbdadm status r0", 10, `^r0: No such resource\nCommand 'drbdsetup-84 status r0' terminated with exit code 10\n$`},
		{"alice", "drbdadm dstate r0", 0, `^Consistent\n$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown C r-----`},
		{"bob", "drbdadm primary r0", 0, `^$`},
		{"bob", "cat /proc/drbd", 0, ` 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----`},
		{"alice", "drbdadm outdate r0", 0, `^$`},
		{"alice", "drbdadm dstate r0", 0, `^Outdated\n$`},
		{"alice", "drbdmeta 0 v08 /dev/x internal outdate", 0, `^$`},
		{"alice", "drbdsetup status r9", 10, `^r9: No such resource\n$`},
		{"alice", "drbdmeta", 20, `FORMATS:\n  v06 minor\n`},
		{"alice", "drbdadm up all", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----`},
		{"alice", "drbdadm down all", 0, `^$`},
		{"alice", "drbdadm invalidate r0", 0, `^$`},
		{"alice", "drbdadm outdate r0", 5, `\(-16\) `},
		{"alice", "drbdadm dstate r0", 0, `^Inconsistent\n$`},
		{"alice", "drbdadm up all", 0, `^$`},
		{"alice", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
	}},
	"0.7": {"drbdadm -- --do-what-I-say primary all", []step{
		{"alice", "drbdadm state all", 0, `^Primary/Secondary\n'drbdadm state' is deprecated, use 'drbdadm role' instead\.\n$`},
		{"bob", "drbdadm state all", 0, `^Secondary/Primary\n'drbdadm state' is deprecated, use 'drbdadm role' instead\.\n$`},
		{"alice", "drbdadm down all", 0, `^$`},
		{"bob", "drbdadm -- --do-what-I-say primary all", 0, `^$`},
		{"bob", "drbdadm state all", 0, `^Primary/Unknown\n'drbdadm state' is deprecated, use 'drbdadm role' instead\.\n$`},
	}},
	"drbdsetup": {"drbdsetup /dev/drbd0 primary -o", []step{
		{"alice", "drbdsetup status r0", 0, `^r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    replication:Established peer-disk:UpToDate\n\n$`},
		{"alice", "drbdadm get-gi r0", 0, `^[0-9A-F]{16}:0{16}:[0-9A-F]{16}:[0-9A-F]{16}:1:1:1:1:0:0:0\n$`},
		{"alice", "drbdadm show-gi r0", 0, `(?s)flags: Primary, Connected, UpToDate\nmeta-data: need apply-al\n$`},
		{"alice", "drbdadm dump-md r0", 20, `^Device '0' is configured!`},
		{"alice", "drbdadm pause-sync r0", 0, `^$`},
		{"alice", "drbdadm pause-sync r0", 10, `Failure: \(134\) Sync-pause flag is already set`},
		{"alice", "drbdadm resume-sync r0", 0, `^$`},
		{"alice", "drbdadm resume-sync r0", 10, `Failure: \(135\) Sync-pause flag is already cleared`},
		{"bob", "drbdadm down r0", 0, `^$`},
		{"bob", "drbdadm show-gi r0", 0, `(?s)flags: Secondary, StandAlone, UpToDate\nmeta-data: clean\nlast agreed size: 16 MB \(32768 sectors\)\n$`},
		{"bob", "drbdadm dump-md r0", 0, `(?s)^# DRBD meta data dump\n# .*la-size-sect 32768;\n.*bm {\n   # at 0kB\n    64 times 0x0000000000000000;\n}\n# bits-set 0;\n$`},
		{"bob", "drbdadm apply-al r0", 0, `^$`},
		{"bob", "drbdadm wipe-md r0", 1, `Operation cancelled\.`},
		{"bob", "drbdadm -- --force wipe-md r0", 0, `^Wiping meta data\.\.\.\nDRBD meta data block successfully wiped out\.\n$`},
		{"bob", "drbdadm up r0", 10, `Failure: \(119\) No valid meta-data signature found\.`},
	}},
}

func TestTranscripts(t *testing.T) {
	ctx := pairtest.Real(t)
	for name, c := range transcripts {
		t.Run(name, func(t *testing.T) {
			s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: append(pair.QuickTiming(), "verify-alg crc32c")})
			if err := s.p.StartAll(ctx); err != nil {
				t.Fatal(err)
			}
			s.replay(ctx, first(c.overwrite))
			s.replay(ctx, c.rest)
		})
	}
}

// The recovery of a split brain, as two of the documents and DRBD's own tell it.
func TestSplitBrainTranscript(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, first("drbdadm primary --force r0"))
	s.replay(ctx, []step{
		{"alice", "drbdadm disconnect r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----`},
		{"bob", "drbdadm disconnect r0", 0, `^$`},
		{"bob", "drbdadm primary r0", 0, `^$`},
		{"alice", "drbdadm connect r0", 0, `^$`},
		{"bob", "drbdadm connect r0", 0, `^$`},
		{"alice", "drbdadm cstate r0", 0, `^StandAlone\n$`},
		{"bob", "drbdadm cstate r0", 0, `^StandAlone\n$`},
		{"alice", "drbdadm disconnect r0", 10, `^\?\?: Failure: \(162\) Invalid configuration request\nadditional info from kernel:\nunknown connection\nCommand 'drbdsetup-84 disconnect ipv4:\S+ ipv4:\S+' terminated with exit code 10\n$`},
		// The victim, then the survivor.
		{"bob", "drbdadm -- --discard-my-data connect r0", 10, `Failure: \(123\) --discard-my-data not allowed when primary\.`},
		{"bob", "drbdadm secondary r0", 0, `^$`},
		{"bob", "drbdadm connect --discard-my-data r0", 0, `^$`},
		{"bob", "drbdadm -- --discard-my-data connect r0", 10, `^r0: Failure: \(10[23]\) .*\nCommand 'drbdsetup-84 connect r0 `},
		{"alice", "drbdadm connect r0", 0, `^$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`},
	})
}

// Two disks that are known to be equal need no first synchronisation.
func TestSkipsTheFirstSync(t *testing.T) {
	ctx := pairtest.Real(t)
	s := newShell(t, pair.Options{Sizes: []int64{volumeSize}, Net: pair.QuickTiming()})
	if err := s.p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	s.replay(ctx, []step{
		{"alice", "drbdadm create-md r0", 0, created},
		{"bob", "drbdadm create-md r0", 0, created},
		{"alice", "drbdadm up r0", 0, `^$`},
		{"alice", "drbdadm -- --clear-bitmap new-current-uuid r0", 11, `State change failed: \(-15\) Need a connection`},
		{"bob", "drbdadm up r0", 0, `^$`},
		{"alice", "drbdadm cstate r0", 0, `^Connected\n$`},
		{"alice", "drbdadm -- --clear-bitmap new-current-uuid r0/0", 0, `^$`},
		{"bob", "drbdadm dstate r0", 0, `^UpToDate/UpToDate\n$`},
		{"alice", "cat /proc/drbd", 0, ` 0: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:0 ` + `(?s).*oos:0\n$`},
		{"alice", "drbdadm -- --clear-bitmap new-current-uuid r0", 10, `Failure: \(150\)`},
		{"bob", "drbdadm primary r0", 0, `^$`},
		{"alice", "drbdadm state r0", 0, `^Secondary/Primary\n'drbdadm state' is deprecated, use 'drbdadm role' instead\.\n$`},
	})
}
