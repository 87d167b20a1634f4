package state

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// permit is one question and its answer; 0 means allowed.
type permit struct {
	name string
	got  *Refusal
	want Code
}

func checkPermits(t *testing.T, cases []permit) {
	t.Helper()
	for _, c := range cases {
		code := 0
		if c.got != nil {
			code = c.got.Code
		}
		if code != c.want {
			t.Errorf("%s: %d, want %d", c.name, code, c.want)
		}
	}
}

func with(change func(*Local)) Local {
	l := Local{Role: Secondary, Disks: []Disk{UpToDate}, VerifyAlg: true}
	change(&l)
	return l
}

func peer(change func(*PeerView)) PeerView {
	p := PeerView{Name: "bob", Conn: Connected, Repl: []Conn{Connected}, Role: Secondary, Disks: []Disk{UpToDate}}
	change(&p)
	return p
}

func remote(l Local) Local { l.RemoteReads = true; return l }

func peers(p ...PeerView) []PeerView { return p }

// The nodes that the questions are about.
var (
	good       = with(func(*Local) {})
	bad        = with(func(l *Local) { l.Disks = []Disk{Inconsistent} })
	none       = with(func(l *Local) { l.Disks = []Disk{Diskless} })
	prim       = with(func(l *Local) { l.Role = Primary })
	fenced     = with(func(l *Local) { l.Fencing = true })
	primNoDisk = with(func(l *Local) { l.Role, l.Disks = Primary, []Disk{Diskless} })

	up        = peer(func(*PeerView) {})
	upPrimary = peer(func(p *PeerView) { p.Role = Primary })
	down      = PeerView{Name: "bob", Conn: StandAlone, Disks: []Disk{DUnknown}}
	waiting   = PeerView{Name: "bob", Conn: WFConnection, Disks: []Disk{DUnknown}}
	syncing   = peer(func(p *PeerView) { p.Repl = []Conn{SyncSource}; p.Disks = []Disk{Inconsistent} })
	behindUs  = peer(func(p *PeerView) { p.Repl = []Conn{Ahead} })
	noDisk    = peer(func(p *PeerView) { p.Disks = []Disk{Diskless} })
)

func TestPermissionsOfRolesDisksAndLinks(t *testing.T) {
	checkPermits(t, []permit{
		{"promote", MayPromote(good, peers(up), false), 0},
		{"promote alone", MayPromote(good, peers(down), false), 0},
		{"promote a Primary", MayPromote(prim, peers(upPrimary), false), 0},
		{"two Primaries", MayPromote(good, peers(upPrimary), false), -1},
		{"two Primaries by force", MayPromote(good, peers(upPrimary), true), -1},
		{"two Primaries allowed", MayPromote(with(func(l *Local) { l.AllowTwoPrimaries = true }), peers(upPrimary), false), 0},
		{"inconsistent", MayPromote(bad, peers(up), false), -2},
		{"inconsistent by force", MayPromote(bad, nil, true), 0},
		{"outdated", MayPromote(with(func(l *Local) { l.Disks = []Disk{Outdated} }), peers(down), false), -2},
		{"consistent", MayPromote(with(func(l *Local) { l.Disks = []Disk{Consistent} }), peers(down), false), -2},
		{"one of two volumes bad", MayPromote(with(func(l *Local) { l.Disks = []Disk{UpToDate, Inconsistent} }), peers(down), false), -2},
		{"diskless by force", MayPromote(none, peers(down), true), -2},
		{"failed by force", MayPromote(with(func(l *Local) { l.Disks = []Disk{Failed} }), nil, true), -2},
		{"nothing attached", MayPromote(with(func(l *Local) { l.Disks = nil }), nil, true), -2},
		{"diskless, reads from the peer", MayPromote(remote(none), peers(up), false), 0},
		{"diskless, reads from nobody", MayPromote(remote(none), peers(waiting), false), -2},
		{"fencing, peer out of sight", MayPromote(fenced, peers(waiting), false), -7},
		{"fencing, peer outdated", MayPromote(fenced, peers(PeerView{Name: "bob", Conn: WFConnection, Disks: []Disk{Outdated}}), false), 0},
		{"fencing, by force", MayPromote(fenced, peers(waiting), true), 0},
		{"fencing, connected", MayPromote(fenced, peers(up), false), 0},

		{"demote", MayDemote(nil), 0},
		{"demote while open", MayDemote([]string{"pid 7"}), -12},

		{"attach", MayAttach(none, 0), 0},
		{"attach twice", MayAttach(good, 0), 124},

		{"detach a Secondary", MayDetach(good, nil, 0, false), 0},
		{"detach a Primary", MayDetach(prim, peers(up), 0, false), -2},
		{"detach a Primary that reads remotely", MayDetach(remote(prim), peers(up), 0, false), 0},
		{"detach a Primary by force", MayDetach(prim, nil, 0, true), 0},
		{"detach again", MayDetach(primNoDisk, nil, 0, false), 0},

		{"connect", MayConnect(good, down, false), 0},
		{"connect twice", MayConnect(good, waiting, false), 125},
		{"discard while Primary", MayConnect(prim, down, true), 123},
		{"discard", MayConnect(good, down, true), 0},

		{"disconnect", MayDisconnect(prim, peers(up), up, false), 0},
		{"disconnect StandAlone", MayDisconnect(good, peers(down), down, false), -9},
		{"disconnect twice", MayDisconnect(good, nil, PeerView{Conn: Disconnecting}, true), -18},
		{"disconnect the only data", MayDisconnect(remote(primNoDisk), peers(up), up, false), -2},
		{"disconnect the only data by force", MayDisconnect(remote(primNoDisk), peers(up), up, true), 0},
		{"disconnect one of two", MayDisconnect(remote(primNoDisk), peers(up, peer(func(p *PeerView) { p.Name = "carol" })), up, false), 0},
	})
}

func TestPermissionsOfResyncVerifyAndOutdate(t *testing.T) {
	checkPermits(t, []permit{
		{"invalidate", MayInvalidate(good, up), 0},
		{"invalidate alone", MayInvalidate(good, down), 0},
		{"invalidate a Primary", MayInvalidate(prim, up), -2},
		{"invalidate a Primary that reads remotely", MayInvalidate(remote(prim), up), 0},
		{"invalidate without a disk", MayInvalidate(none, up), -4},
		{"invalidate from a diskless peer", MayInvalidate(good, noDisk), -5},
		{"invalidate from an inconsistent peer", MayInvalidate(good, peer(func(p *PeerView) { p.Disks = []Disk{Inconsistent} })), -2},
		{"invalidate during a resync", MayInvalidate(good, syncing), -8},

		{"invalidate-remote", MayInvalidateRemote(prim, up), 0},
		{"invalidate-remote alone", MayInvalidateRemote(prim, waiting), -15},
		{"invalidate-remote of a Primary", MayInvalidateRemote(good, upPrimary), -10},
		{"invalidate-remote without a disk", MayInvalidateRemote(none, up), -4},
		{"invalidate-remote with bad data", MayInvalidateRemote(bad, up), -2},
		{"invalidate-remote during a resync", MayInvalidateRemote(prim, syncing), -8},

		{"verify", MayVerify(good, up), 0},
		{"verify alone", MayVerify(good, down), -15},
		{"verify without an algorithm", MayVerify(with(func(l *Local) { l.VerifyAlg = false }), up), -14},
		{"verify twice", MayVerify(good, peer(func(p *PeerView) { p.Repl = []Conn{VerifyS} })), -8},
		{"verify while ahead", MayVerify(good, behindUs), -18},
		{"verify without a disk", MayVerify(none, up), -4},
		{"verify a diskless peer", MayVerify(good, noDisk), -5},

		{"outdate", MayOutdate(good, peers(down)), 0},
		{"outdate a Primary", MayOutdate(prim, peers(down)), -2},
		{"outdate while connected", MayOutdate(good, peers(up)), -6},
		{"outdate what is lower", MayOutdate(bad, peers(down)), -16},

		{"pause", MayPauseSync(Pauses{}), 0},
		{"pause twice", MayPauseSync(Pauses{User: true}), 134},
		{"resume", MayResumeSync(Pauses{User: true, Peer: true}), 0},
		{"resume what runs", MayResumeSync(Pauses{}), 135},
		{"resume what a dependency holds", MayResumeSync(Pauses{Dependency: true, Peer: true}), 156},
		{"resume what the peer holds", MayResumeSync(Pauses{Peer: true}), 157},
	})
}

func TestRefusalTexts(t *testing.T) {
	for _, c := range []struct {
		r    *Refusal
		text string
		exit int
	}{
		{Refused(SSNoUpToDateDisk, ""), "State change failed: (-2) Need access to UpToDate data", 17},
		{Refused(SSTwoPrimaries, ""), "State change failed: (-1) Multiple primaries not allowed by config", 11},
		{Refused(SSDeviceInUse, ""), "State change failed: (-12) Device is held open by someone", 11},
		{Refused(SSPrimaryNop, ""), "State change failed: (-7) Refusing to be Primary while peer is not outdated", 11},
		{Refused(SSLowerThanOutdated, ""), "State change failed: (-16) Disk state is lower than outdated", 5},
		{Refused(SSNoLocalDisk, ""), "State change failed: (-4) Can not resync without local disk", 16},
		{Refused(ErrMinorInvalid, ""), "Failure: (127) Device minor not allocated", 10},
		{Refused(ErrInvalidRequest, "unknown %s", "connection"), "Failure: (162) Invalid configuration request\nunknown connection", 10},
		{Refused(ErrLocalAddr, "100%"), "Failure: (102) Local address(port) already in use.\n100%", 10},
	} {
		if got := c.r.Error(); got != c.text {
			t.Errorf("%q, want %q", got, c.text)
		}
		if got := c.r.ExitCode(); got != c.exit {
			t.Errorf("%q exits with %d, want %d", c.text, got, c.exit)
		}
	}
	var none *Refusal
	if none.Err() != nil || none.ExitCode() != 0 {
		t.Error("no refusal is an error")
	}
	var r *Refusal
	if !errors.As(MayDemote([]string{"a", "b"}).Err(), &r) || !strings.HasSuffix(r.Error(), "held open by: a, b") {
		t.Errorf("who holds it open is missing: %v", r)
	}
	for code, want := range map[Code]int{SSSuccess: 0, 0: 0, ErrNone: 0, SSHandshakeRetry: 11, 176: 10} {
		if got := ExitCode(code); got != want {
			t.Errorf("ExitCode(%d) = %d, want %d", code, got, want)
		}
	}
	if got := CodeText(-3); got != "Error code -3 unknown." {
		t.Errorf("CodeText(-3) = %q", got)
	}
}

// TestLegalPaths walks the paths that DRBD's logs in the reference show.
func TestLegalPaths(t *testing.T) {
	for _, path := range [][]Conn{
		{StandAlone, Unconnected, WFConnection, WFReportParams, Connected, WFBitMapS, SyncSource, PausedSyncS, SyncSource, Connected, VerifyS, Connected, TearDown, Unconnected},
		{Connected, WFBitMapT, WFSyncUUID, SyncTarget, PausedSyncT, SyncTarget, Connected, VerifyT, Connected, Disconnecting, StandAlone},
		{WFReportParams, Disconnecting, StandAlone},
		{WFReportParams, WFBitMapS, SyncSource, Ahead, SyncSource, Connected, Ahead, Connected},
		{Connected, Behind, SyncTarget, NetworkFailure, Unconnected},
		{Connected, StartingSyncT, WFSyncUUID, PausedSyncT, ProtocolError, Disconnecting},
		{WFConnection, Timeout, Unconnected, Disconnecting},
	} {
		for i := 1; i < len(path); i++ {
			if !Legal(path[i-1], path[i]) {
				t.Errorf("%v -> %v is illegal", path[i-1], path[i])
			}
		}
	}
	for _, p := range [][2]Conn{
		{StandAlone, WFConnection}, {StandAlone, Connected}, {StandAlone, Disconnecting}, {Unconnected, Connected}, {WFConnection, Connected},
		{Disconnecting, Unconnected}, {BrokenPipe, WFConnection}, {BrokenPipe, Timeout}, {Connected, SyncSource}, {Connected, SyncTarget},
		{SyncSource, SyncTarget}, {SyncSource, VerifyS}, {VerifyS, SyncSource}, {Ahead, Behind}, {Unconnected, NetworkFailure}, {Behind + 1, Behind + 1}, {Behind + 1, TearDown},
	} {
		if Legal(p[0], p[1]) {
			t.Errorf("%v -> %v is legal", p[0], p[1])
		}
	}
}

// TestEveryConnectionStateIsReachableAndHasAWayOut guards the table against states that nobody can enter or leave.
func TestEveryConnectionStateIsReachableAndHasAWayOut(t *testing.T) {
	reached := []Conn{StandAlone}
	for i := 0; i < len(reached); i++ {
		for next := StandAlone; next <= Behind; next++ {
			if next != reached[i] && Legal(reached[i], next) && !slices.Contains(reached, next) {
				reached = append(reached, next)
			}
		}
	}
	if len(reached) != int(Behind)+1 {
		t.Errorf("only %v can be reached", reached)
	}
	for c := Unconnected; c <= Behind; c++ {
		if !Legal(c, Disconnecting) {
			t.Errorf("%v cannot be disconnected", c)
		}
	}
}
