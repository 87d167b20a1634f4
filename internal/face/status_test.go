package face

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"drship/internal/state"
)

func status(t *testing.T, o StatusOptions, rs ...Resource) string {
	t.Helper()
	var b strings.Builder
	if err := Status(&b, rs, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// realStates are the moments of a real session that the reference holds.
func realStates() (syncing, equal, waiting, paused, alone, diskless Resource) {
	syncing = base(state.SyncSource)
	syncing.Volumes[0].Read = 174080 * kib
	syncing.Peers[0].Volumes[0] = PeerVolume{Disk: state.Inconsistent, Conn: state.SyncSource, Sent: 174080 * kib, OutOfSync: 1922972 * kib}
	equal = base(state.Connected)
	equal.Volumes[0].Read = 2097052 * kib
	equal.Peers[0].Volumes[0].Sent = 2097052 * kib
	waiting = base(state.WFConnection)
	waiting.Role, waiting.Volumes[0].Disk, waiting.Volumes[0].ALSuspended = state.Secondary, state.Inconsistent, true
	waiting.Peers[0].Role = state.RoleUnknown
	waiting.Peers[0].Volumes[0] = PeerVolume{Disk: state.DUnknown, OutOfSync: 2097052 * kib}
	paused = base(state.PausedSyncS)
	paused.Peers[0].Volumes[0] = PeerVolume{Disk: state.Inconsistent, Conn: state.PausedSyncS, OutOfSync: 1863580 * kib, Flags: SyncFlags{User: true}}
	alone = base(state.StandAlone)
	alone.Role = state.Secondary
	diskless = base(state.Connected)
	diskless.Volumes[0].Disk = state.Diskless
	return syncing, equal, waiting, paused, alone, diskless
}

// TestStatusAsRealDRBD84 reproduces what drbdsetup-84 printed of a real pair.
func TestStatusAsRealDRBD84(t *testing.T) {
	syncing, equal, waiting, paused, alone, diskless := realStates()
	for _, c := range []struct {
		name string
		r    Resource
		long bool
		want string
	}{
		{"SyncSource", syncing, false, `r0 role:Primary
  disk:UpToDate
  peer role:Secondary
    replication:SyncSource peer-disk:Inconsistent done:8.30

`},
		{"SyncSource, long", syncing, true, `r0 role:Primary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate
      size:2097052 read:174080 written:0 al-writes:8 bm-writes:0 upper-pending:0
      lower-pending:0 al-suspended:no blocked:no
  peer connection:Connected role:Secondary congested:no
    volume:0 replication:SyncSource peer-disk:Inconsistent done:8.30
        resync-suspended:no
        received:0 sent:174080 out-of-sync:1922972 pending:0 unacked:0

`},
		{"Connected, long", equal, true, `r0 role:Primary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate
      size:2097052 read:2097052 written:0 al-writes:8 bm-writes:0
      upper-pending:0 lower-pending:0 al-suspended:no blocked:no
  peer connection:Connected role:Secondary congested:no
    volume:0 replication:Established peer-disk:UpToDate resync-suspended:no
        received:0 sent:2097052 out-of-sync:0 pending:0 unacked:0

`},
		{"Connected", equal, false, `r0 role:Primary
  disk:UpToDate
  peer role:Secondary
    replication:Established peer-disk:UpToDate

`},
		{"WFConnection", waiting, false, `r0 role:Secondary
  disk:Inconsistent
  peer connection:Connecting

`},
		{"WFConnection, long", waiting, true, `r0 role:Secondary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:Inconsistent
      size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0
      lower-pending:0 al-suspended:yes blocked:no
  peer connection:Connecting role:Unknown congested:no
    volume:0 replication:Off peer-disk:DUnknown resync-suspended:no
        received:0 sent:0 out-of-sync:2097052 pending:0 unacked:0

`},
		{"PausedSyncS", paused, false, `r0 role:Primary
  disk:UpToDate
  peer role:Secondary
    replication:PausedSyncS peer-disk:Inconsistent done:11.13
        resync-suspended:user

`},
		{"StandAlone", alone, false, `r0 role:Secondary
  disk:UpToDate

`},
		{"Diskless", diskless, false, `r0 role:Primary
  disk:Diskless
  peer role:Secondary
    replication:Established peer-disk:UpToDate

`},
	} {
		if got := status(t, StatusOptions{Shape: Shape84, Verbose: c.long, Statistics: c.long}, c.r); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// ours is a resource of two volumes and two peers, one of them far behind.
func ours() Resource {
	r := base(state.SyncSource)
	r.Journal = JournalStatus{Bytes: 12 << 20, Max: 4 << 30, Records: 77, Mode: "journal"}
	r.Volumes[0].Open, r.Volumes[0].Backing = true, "/dev/sdb1"
	r.Volumes = append(r.Volumes, Volume{Number: 1, Minor: 1, Disk: state.Diskless, Quorum: true})
	r.Peers[0].Name, r.Peers[0].TLS = "bob", true
	r.Peers[0].LagTime, r.Peers[0].LagBytes = 1500*time.Millisecond, 3<<20
	r.Peers[0].Volumes[0].Disk = state.Inconsistent
	r.Peers[0].Volumes[0].Sync = &Progress{Total: 1 << 30, Left: 1 << 28, Rate: 33 << 20, AverageRate: 33 << 20, Want: 34 << 20, ETA: 7 * time.Second, Why: "30 % of the network"}
	r.Peers[0].Volumes = append(r.Peers[0].Volumes, PeerVolume{Number: 1, Disk: state.UpToDate, Conn: state.Connected})
	r.Peers = append(r.Peers, Peer{Name: "carol", NodeID: 2, Conn: state.StandAlone, Error: `Split-Brain "r0"`, Volumes: []PeerVolume{{Disk: state.DUnknown}}})
	return r
}

func TestStatusAsDRBD9WithOurLines(t *testing.T) {
	plain := `r0 role:Primary
  volume:0 disk:UpToDate open:yes
  volume:1 disk:Diskless client:no open:no
  bob role:Secondary tls:yes
    volume:0 replication:SyncSource peer-disk:Inconsistent done:75.00
    volume:1 peer-disk:UpToDate
  carol connection:StandAlone

`
	if got := status(t, StatusOptions{}, ours()); got != plain {
		t.Errorf("got\n%s\nwant\n%s", got, plain)
	}
	want := `r0 role:Primary
    journal:12.0MiB max:4.0GiB records:77 mode:journal
  volume:0 disk:UpToDate open:yes
  volume:1 disk:Diskless client:no open:no
  bob role:Secondary tls:yes
      lag:1.5s lag-bytes:3.0MiB
    volume:0 replication:SyncSource peer-disk:Inconsistent done:75.00
        rate:33.0MiB/s want:34.0MiB/s eta:0:00:07 why:"30 % of the network"
    volume:1 peer-disk:UpToDate
  carol connection:StandAlone
      error:"Split-Brain \"r0\""

`
	if got := status(t, StatusOptions{Ours: true}, ours()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r := base(state.Connected)
	r.Suspended.Quorum, r.Volumes[0].Quorum, r.Peers[0].Congested = true, false, true
	r.Volumes[0].LowerBlocked = true
	want = `r0 role:Primary suspended:quorum
  disk:UpToDate quorum:no open:no
      read:0 written:0 blocked:lower
  peer role:Secondary congested:yes ap-in-flight:0 rs-in-flight:0
    peer-disk:UpToDate
        received:0 sent:0

`
	if got := status(t, StatusOptions{Statistics: true}, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = `r0 node-id:1 role:Primary suspended:no force-io-failures:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate backing_dev:none quorum:yes open:no
      size:2097052 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0
      lower-pending:0 al-suspended:no blocked:no
  peer node-id:0 connection:Connected role:Secondary tls:no congested:no
      ap-in-flight:0 rs-in-flight:0
    volume:0 replication:Established peer-disk:UpToDate resync-suspended:no
        received:0 sent:0 out-of-sync:0 pending:0 unacked:0

`
	if got := status(t, StatusOptions{Statistics: true, Verbose: true}, base(state.Connected)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatusJSON(t *testing.T) {
	ahead := base(state.Ahead)
	ahead.Name = "r1"
	ahead.Peers[0].Volumes[0].Sync = &Progress{Total: 4096, Left: 4096, ETA: -1}
	verify := base(state.VerifyS)
	verify.Name = "r2"
	verify.Peers[0].Local, verify.Peers[0].Remote = "10.0.0.1:7788", "[fe80::1]:7788"
	verify.Peers[0].Volumes[0].Sync = &Progress{Verify: true, Total: 1 << 20, Left: 1 << 19, AverageRate: 1 << 18, Position: 1 << 19, Paused: time.Second}
	var b strings.Builder
	if err := StatusJSON(&b, []Resource{ours(), ahead, verify}); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil || len(got) != 3 {
		t.Fatalf("%d resources, %v", len(got), err)
	}
	get := func(from any, path ...any) any {
		v := from
		for _, p := range path {
			switch p := p.(type) {
			case int:
				v = v.([]any)[p]
			case string:
				v = v.(map[string]any)[p]
			}
		}
		return v
	}
	peer := func(r int) any { return get(got[r], "connections", 0, "peer_devices", 0) }
	for _, c := range []struct {
		got, want any
	}{
		{get(got[0], "name"), "r0"}, {get(got[0], "node-id"), 1.0}, {get(got[0], "role"), "Primary"}, {get(got[0], "suspended"), false},
		{get(got[0], "write-ordering"), "flush"}, {get(got[0], "drship", "journal-bytes"), float64(12 << 20)},
		{get(got[0], "devices", 0, "disk-state"), "UpToDate"}, {get(got[0], "devices", 0, "size"), 2097052.0}, {get(got[0], "devices", 0, "drship", "backing-disk"), "/dev/sdb1"},
		{get(got[0], "connections", 0, "connection-state"), "Connected"}, {get(got[0], "connections", 0, "drship", "lag-ms"), 1500.0},
		{get(got[0], "connections", 0, "drship", "cstate"), "Connected"}, {get(got[0], "connections", 1, "drship", "last-error"), `Split-Brain "r0"`},
		{get(peer(0), "replication-state"), "SyncSource"}, {get(peer(0), "has-sync-details"), true}, {get(peer(0), "percent-resync-done"), 75.0},
		{get(peer(0), "rs-total"), float64(1 << 21)}, {get(peer(0), "want"), 34.0}, {get(peer(0), "db/dt [MiB/s]"), 33.0}, {get(peer(0), "estimated-seconds-to-finish"), 7.0},
		{get(peer(0), "rs-failed"), 0.0}, {get(peer(0), "ov-left"), nil}, {get(peer(0), "drship", "why"), "30 % of the network"},
		{get(got[0], "connections", 0, "peer_devices", 1, "drship"), nil}, {get(got[0], "connections", 0, "peer_devices", 1, "rs-total"), nil},
		{get(peer(1), "replication-state"), "Ahead"}, {get(peer(1), "percent-resync-done"), 0.0}, {get(peer(1), "estimated-seconds-to-finish"), 987654321.0},
		{get(peer(1), "drship", "eta-ms"), -1.0},
		{get(peer(2), "has-online-verify-details"), true}, {get(peer(2), "ov-left"), 1024.0}, {get(peer(2), "ov-position"), 1024.0}, {get(peer(2), "rs-failed"), nil},
		{get(peer(2), "rs-dt-start-ms"), 3000.0}, {get(got[2], "connections", 0, "paths", 0, "remote_host", "family"), "ipv6"}, {get(got[2], "connections", 0, "paths", 0, "this_host", "port"), 7788.0},
	} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
	if i, j := strings.Index(b.String(), `"name"`), strings.Index(b.String(), `"node-id"`); i < 0 || j < i {
		t.Error("the keys are not in DRBD's order")
	}
	if !strings.HasPrefix(mustJSON(t, nil), "[]") {
		t.Error("no resources are no list")
	}
}

func mustJSON(t *testing.T, rs []Resource) string {
	t.Helper()
	var b strings.Builder
	if err := StatusJSON(&b, rs); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOneLineAnswers(t *testing.T) {
	two := ours()
	for _, c := range []struct {
		name string
		f    func(*strings.Builder) error
		want string
	}{
		{"role", func(b *strings.Builder) error { return Role(b, base(state.SyncSource)) }, "Primary/Secondary\n"},
		{"cstate", func(b *strings.Builder) error { return CState(b, base(state.SyncSource)) }, "SyncSource\n"},
		{"dstate", func(b *strings.Builder) error { return DState(b, base(state.SyncSource)) }, "UpToDate/UpToDate\n"},
		{"role of two", func(b *strings.Builder) error { return Role(b, two) }, "Primary/Secondary/Unknown\nPrimary/Secondary/Unknown\n"},
		{"cstate of two", func(b *strings.Builder) error { return CState(b, two) }, "SyncSource\nStandAlone\nConnected\nStandAlone\n"},
		{"dstate of two", func(b *strings.Builder) error { return DState(b, two) }, "UpToDate/Inconsistent/DUnknown\nDiskless/UpToDate/DUnknown\n"},
		{"dstate of one volume and peer", func(b *strings.Builder) error { return DState(b, two.Only(1, "bob")) }, "Diskless/UpToDate\n"},
		{"cstate of one peer", func(b *strings.Builder) error { return CState(b, two.Only(-1, "carol")) }, "StandAlone\nStandAlone\n"},
		{"role without peers", func(b *strings.Builder) error {
			return Role(b, Resource{Role: state.Secondary, Volumes: make([]Volume, 1)})
		}, "Secondary/Unknown\n"},
		{"cstate without peers", func(b *strings.Builder) error { return CState(b, Resource{Volumes: make([]Volume, 1)}) }, "StandAlone\n"},
		{"dstate without peers", func(b *strings.Builder) error { return DState(b, Resource{Volumes: make([]Volume, 1)}) }, "Diskless/DUnknown\n"},
	} {
		var b strings.Builder
		if err := c.f(&b); err != nil || b.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, b.String(), err, c.want)
		}
	}
}

func TestOverviewAsInTheDocuments(t *testing.T) {
	r := base(state.Connected)
	r.Name = "mydrbd"
	overview := func(rs ...Resource) string {
		var b strings.Builder
		if err := Overview(&b, rs); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got, want := overview(r), " 0:mydrbd  Connected Primary/Secondary UpToDate/UpToDate C r-----\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s := base(state.SyncSource)
	s.Name = "mydrbd"
	s.Peers[0].Congested = true
	s.Peers[0].Volumes[0].Disk = state.Inconsistent
	s.Peers[0].Volumes[0].Sync = &Progress{Left: 1760348 * kib, Total: 2096348 * kib}
	want := " 0:mydrbd  SyncSource Primary/Secondary UpToDate/Inconsistent C r---n-\n\t[==>.................] sync'ed: 16.3% (1760348/2096348)K\n"
	if got := overview(s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	two := ours()
	two.Volumes[0].Minor, two.Volumes[1].Minor = 120, 3
	r.Volumes[0].Mount = &Mount{Dir: "/mydata", FS: "ext3", Size: 2 << 30, Used: 68 << 20}
	want = `  0:mydrbd  Connected  Primary/Secondary UpToDate/UpToDate C r----- /mydata ext3 2.0G 68M 1.9G 4%
  3:r0/1    StandAlone Primary/Unknown   Diskless/DUnknown   r-----
120:r0/0    StandAlone Primary/Unknown   UpToDate/DUnknown   r-----
`
	if got := overview(two, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := overview(); got != "" {
		t.Errorf("nothing configured: %q", got)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

var errBroken = errors.New("broken pipe")

func TestWritersReportErrors(t *testing.T) {
	rs := []Resource{ours()}
	for name, err := range map[string]error{
		"Proc": Proc(brokenPipe{}, Version{}, rs, ProcOptions{}), "Status": Status(brokenPipe{}, rs, StatusOptions{}), "StatusJSON": StatusJSON(brokenPipe{}, rs),
		"Role": Role(brokenPipe{}, rs[0]), "CState": CState(brokenPipe{}, rs[0]), "DState": DState(brokenPipe{}, rs[0]), "Overview": Overview(brokenPipe{}, rs),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
