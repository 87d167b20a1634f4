package face

import (
	"slices"
	"strings"
	"testing"
	"time"

	"drship/internal/state"
)

// session replays the states of a real DRBD session, to be held against the lines that its events2 printed.
type session struct {
	t    *testing.T
	last Resource
	out  []string
	o    EventOptions
}

func (s *session) take(events []Event) {
	for _, e := range events {
		e.Time = time.Date(2026, 11, 20, 13, 3, 20, 301312000, time.UTC)
		if line, ok := e.Format(s.o); ok {
			s.out = append(s.out, line)
		}
	}
}

func (s *session) change(f func(r *Resource, p *Peer, v *PeerVolume)) {
	next := copyOf(s.last)
	var p *Peer
	var v *PeerVolume
	if len(next.Peers) > 0 {
		p, v = &next.Peers[0], &next.Peers[0].Volumes[0]
	}
	f(&next, p, v)
	s.take(Diff([]Resource{s.last}, []Resource{next}))
	s.last = next
}

func copyOf(r Resource) Resource {
	r.Volumes = append([]Volume(nil), r.Volumes...)
	r.Peers = append([]Peer(nil), r.Peers...)
	for i := range r.Peers {
		r.Peers[i].Volumes = append([]PeerVolume(nil), r.Peers[i].Volumes...)
	}
	return r
}

// run goes through the session; a handler's run is two snapshots.
func (s *session) run() {
	s.last = base(state.Connected)
	s.last.Role, s.last.Volumes[0].Disk = state.Secondary, state.Inconsistent
	s.last.Peers[0].Volumes[0] = PeerVolume{Conn: state.Connected, Disk: state.Inconsistent, OutOfSync: 2097052 * kib}
	s.take(Dump([]Resource{s.last}))
	helper := func(name string) {
		s.change(func(r *Resource, _ *Peer, _ *PeerVolume) { r.Helper = Helper{Seq: r.Helper.Seq + 1, Name: name} })
		s.change(func(r *Resource, _ *Peer, _ *PeerVolume) { r.Helper.Done = true })
	}
	conn := func(c state.Conn) {
		s.change(func(_ *Resource, p *Peer, v *PeerVolume) { p.Conn = min(c, state.Connected); v.Conn = c })
	}
	s.change(func(r *Resource, _ *Peer, _ *PeerVolume) { r.Role, r.Volumes[0].Disk = state.Primary, state.UpToDate })
	conn(state.WFBitMapS)
	helper("before-resync-source")
	conn(state.SyncSource)
	s.change(func(_ *Resource, _ *Peer, v *PeerVolume) { v.Sent, v.OutOfSync = 233472*kib, 1863580*kib }) // counters alone: no line
	s.change(func(_ *Resource, _ *Peer, v *PeerVolume) { v.Conn, v.Flags.User = state.PausedSyncS, true })
	s.change(func(_ *Resource, _ *Peer, v *PeerVolume) { v.Conn, v.Flags.User = state.SyncSource, false })
	s.change(func(_ *Resource, _ *Peer, v *PeerVolume) {
		v.Conn, v.Disk, v.Sent, v.OutOfSync = state.Connected, state.UpToDate, 2097052*kib, 0
	})
	s.change(func(_ *Resource, p *Peer, v *PeerVolume) {
		p.Conn, p.Role, v.Conn, v.Disk = state.TearDown, state.RoleUnknown, state.TearDown, state.DUnknown
	})
	conn(state.Unconnected)
	conn(state.WFConnection)
	conn(state.WFReportParams)
	helper("split-brain")
	conn(state.Disconnecting)
	conn(state.StandAlone)
	s.change(func(r *Resource, _ *Peer, _ *PeerVolume) { r.Peers = nil })
	s.change(func(r *Resource, _ *Peer, _ *PeerVolume) {
		r.Peers = []Peer{{Name: "peer", Conn: state.StandAlone, Volumes: []PeerVolume{{Disk: state.DUnknown, OutOfSync: 53316 * kib}}}}
	})
	s.change(func(r *Resource, _ *Peer, _ *PeerVolume) {
		r.Volumes[0].Disk, r.Volumes[0].LowerPending, r.Volumes[0].UpperBlocked = state.Failed, 1, true
	})
	s.change(func(r *Resource, _ *Peer, _ *PeerVolume) {
		r.Volumes[0].Disk, r.Volumes[0].UpperBlocked = state.Diskless, false
	})
	s.take(Diff([]Resource{s.last}, nil))
}

func TestEventsAsRealDRBD84(t *testing.T) {
	want := `exists resource name:r0 role:Secondary suspended:no
exists connection name:r0 peer-node-id:0 conn-name:peer connection:Connected role:Secondary
exists device name:r0 volume:0 minor:0 disk:Inconsistent
exists peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:Inconsistent resync-suspended:no
exists -
change resource name:r0 role:Primary
change device name:r0 volume:0 minor:0 disk:UpToDate
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:WFBitMapS
call helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:before-resync-source
response helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:before-resync-source status:0
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:PausedSyncS resync-suspended:user
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource resync-suspended:no
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate
change connection name:r0 peer-node-id:0 conn-name:peer connection:TearDown role:Unknown
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown
change connection name:r0 peer-node-id:0 conn-name:peer connection:Unconnected
change connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting
change connection name:r0 peer-node-id:0 conn-name:peer connection:Connected
call helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:split-brain
response helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:split-brain status:0
change connection name:r0 peer-node-id:0 conn-name:peer connection:Disconnecting
change connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone
destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0
destroy connection name:r0 peer-node-id:0 conn-name:peer
create connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown
create peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no
change device name:r0 volume:0 minor:0 disk:Failed
change device name:r0 volume:0 minor:0 disk:Diskless
destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0
destroy connection name:r0 peer-node-id:0 conn-name:peer
destroy device name:r0 volume:0 minor:0
destroy resource name:r0`
	s := &session{t: t, o: EventOptions{Shape: Shape84}}
	s.run()
	if got := strings.Join(s.out, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEventsWithStatisticsAsRealDRBD84(t *testing.T) {
	s := &session{t: t, o: EventOptions{Shape: Shape84, Statistics: true, Timestamps: true}}
	s.run()
	const stamp = "2026-11-20T13:03:20.301312+00:00 "
	for at, want := range map[int]string{
		0:  "exists resource name:r0 role:Secondary suspended:no write-ordering:flush",
		1:  "exists connection name:r0 peer-node-id:0 conn-name:peer connection:Connected role:Secondary congested:no",
		2:  "exists device name:r0 volume:0 minor:0 disk:Inconsistent size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no",
		3:  "exists peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:Inconsistent resync-suspended:no received:0 sent:0 out-of-sync:2097052 pending:0 unacked:0",
		4:  "exists -",
		5:  "change resource name:r0 role:Primary",
		6:  "change device name:r0 volume:0 minor:0 disk:UpToDate size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0 lower-pending:0",
		11: "change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:PausedSyncS resync-suspended:user received:0 sent:233472 out-of-sync:1863580 pending:0 unacked:0",
		25: "create connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown congested:no",
		27: "change device name:r0 volume:0 minor:0 disk:Failed size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0 lower-pending:1 blocked:upper",
		28: "change device name:r0 volume:0 minor:0 disk:Diskless size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0 lower-pending:1",
	} {
		if at >= len(s.out) || s.out[at] != stamp+want {
			t.Errorf("line %d of %d:\n got %s\nwant %s", at, len(s.out), s.out[min(at, len(s.out)-1)], stamp+want)
		}
	}
}

func lines(events []Event, o EventOptions) string {
	var out []string
	for _, e := range events {
		if l, ok := e.Format(o); ok {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func TestEventsAsDRBD9(t *testing.T) {
	r := ours().Only(0, "bob")
	r.Peers[0].Local, r.Peers[0].Remote = "10.0.0.1:7788", "10.0.0.2:7788"
	want := `exists resource name:r0 role:Primary suspended:no force-io-failures:no may_promote:no promotion_score:10101
exists connection name:r0 peer-node-id:0 conn-name:bob connection:Connected role:Secondary
exists device name:r0 volume:0 minor:0 backing_dev:/dev/sdb1 disk:UpToDate client:no open:yes quorum:yes
exists peer-device name:r0 peer-node-id:0 conn-name:bob volume:0 replication:SyncSource peer-disk:Inconsistent peer-client:no resync-suspended:no done:75.00
exists path name:r0 peer-node-id:0 conn-name:bob local:ipv4:10.0.0.1:7788 peer:ipv4:10.0.0.2:7788 established:yes
exists -`
	if got := lines(Dump([]Resource{r}), EventOptions{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	next := copyOf(r)
	next.Role, next.Volumes[0].Open, next.Peers[0].Remote, next.Peers[0].Volumes[0].Disk = state.Secondary, false, "[::1]:7788", state.UpToDate
	want = `change resource name:r0 role:Secondary may_promote:yes promotion_score:10102
destroy path name:r0 peer-node-id:0 conn-name:bob local:ipv4:10.0.0.1:7788 peer:ipv4:10.0.0.2:7788
change device name:r0 volume:0 minor:0 open:no
change peer-device name:r0 peer-node-id:0 conn-name:bob volume:0 peer-disk:UpToDate done:75.00
create path name:r0 peer-node-id:0 conn-name:bob local:ipv4:10.0.0.1:7788 peer:ipv6:[::1]:7788 established:yes`
	if got := lines(Diff([]Resource{r}, []Resource{next}), EventOptions{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := lines(Diff([]Resource{r}, []Resource{next}), EventOptions{Shape: Shape84}); strings.Contains(got, "open") || strings.Contains(got, "path") || strings.Contains(got, "change device") {
		t.Errorf("8.4 knows nothing of it:\n%s", got)
	}
	if got := Diff([]Resource{r}, []Resource{copyOf(r)}); got != nil {
		t.Errorf("nothing happened: %v", got)
	}
	if got := Diff(nil, []Resource{r})[0].String(); got != "create resource name:r0 role:Primary suspended:no force-io-failures:no may_promote:no promotion_score:10101" {
		t.Errorf("a new resource: %s", got)
	}
}

func TestPromotion(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Resource)
		may    bool
		score  int
	}{
		{"both UpToDate", func(*Resource) {}, true, 10102},
		{"a Primary here", func(r *Resource) { r.Role = state.Primary }, false, 10102},
		{"a Primary there", func(r *Resource) { r.Peers[0].Role = state.Primary }, false, 10102},
		{"no quorum", func(r *Resource) { r.Volumes[0].Quorum = false }, false, 0},
		{"inconsistent", func(r *Resource) { r.Volumes[0].Disk = state.Inconsistent }, false, 10001},
		{"diskless", func(r *Resource) { r.Volumes[0].Disk = state.Diskless }, false, 1},
		{"no data anywhere", func(r *Resource) { r.Volumes[0].Disk = state.Inconsistent; r.Peers[0].Conn = state.StandAlone }, false, 0},
		{"no volumes", func(r *Resource) { r.Volumes = nil }, false, 0},
	} {
		r := base(state.Connected)
		r.Role = state.Secondary
		c.change(&r)
		if may, score := promotion(&r); may != c.may || score != c.score {
			t.Errorf("%s: %v %d, want %v %d", c.name, may, score, c.may, c.score)
		}
	}
}

func TestDiffAndFull(t *testing.T) {
	before := []Resource{{Name: "r0", Role: state.Secondary, Volumes: []Volume{{Disk: state.UpToDate, Quorum: true}}}}
	after := []Resource{{Name: "r0", Role: state.Primary, Volumes: []Volume{{Disk: state.UpToDate, Quorum: true, Written: 4096}}}}
	for o, want := range map[EventOptions][]string{
		{Shape: Shape84}:             {"change resource name:r0 role:Primary"},
		{Shape: Shape84, Diff: true}: {"change resource name:r0 role:Secondary->Primary"},
		{Shape: Shape84, Full: true}: {"change resource name:r0 role:Primary suspended:no write-ordering:flush"},
	} {
		if got := formatted(Diff(before, after), o); !slices.Equal(got, want) {
			t.Errorf("%+v:\n got %q\nwant %q", o, got, want)
		}
	}
	o := EventOptions{Shape: Shape84, Statistics: true}
	want := []string{"change resource name:r0 role:Primary",
		"change device name:r0 volume:0 minor:0 size:0 read:0 written:4 al-writes:0 bm-writes:0 upper-pending:0 lower-pending:0"}
	if got := formatted(DiffCounters(before, after), o); !slices.Equal(got, want) {
		t.Errorf("counters:\n got %q\nwant %q", got, want)
	}
	if got := formatted(DiffCounters(after, after), o); got != nil {
		t.Errorf("nothing changed: %q", got)
	}
}

func formatted(events []Event, o EventOptions) []string {
	var out []string
	for _, e := range events {
		if line, ok := e.Format(o); ok {
			out = append(out, line)
		}
	}
	return out
}

func TestPassedStates(t *testing.T) {
	at := func(seq uint64, conn state.Conn, disk state.Disk) Resource {
		role, peerDisk := state.Secondary, state.UpToDate
		if conn < state.Connected {
			role, peerDisk = state.RoleUnknown, state.DUnknown
		}
		return Resource{Name: "r0", Role: state.Primary, PassedSeq: seq, Volumes: []Volume{{Disk: disk, Quorum: true}},
			Peers: []Peer{{Name: "bob", NodeID: 1, Conn: min(conn, state.Connected), Role: role, Volumes: []PeerVolume{{Conn: conn, Disk: peerDisk}}}}}
	}
	before, after := at(3, state.Connected, state.Diskless), at(6, state.WFConnection, state.UpToDate)
	after.Peers[0].Passed = []PassedConn{{3, state.WFBitMapS}, {5, state.NetworkFailure}, {6, state.Unconnected}}
	after.Volumes[0].Passed = []PassedDisk{{2, state.Failed}, {4, state.Attaching}}
	want := []string{
		"change device name:r0 volume:0 minor:0 disk:Attaching",
		"change connection name:r0 peer-node-id:1 conn-name:bob connection:NetworkFailure role:Unknown",
		"change peer-device name:r0 peer-node-id:1 conn-name:bob volume:0 replication:Off peer-disk:DUnknown",
		"change connection name:r0 peer-node-id:1 conn-name:bob connection:Unconnected",
		"change connection name:r0 peer-node-id:1 conn-name:bob connection:Connecting",
		"change device name:r0 volume:0 minor:0 disk:UpToDate",
	}
	if got := formatted(Diff([]Resource{before}, []Resource{after}), EventOptions{Shape: Shape84}); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := Diff([]Resource{after}, []Resource{after}); got != nil {
		t.Errorf("told twice: %v", got)
	}
}
