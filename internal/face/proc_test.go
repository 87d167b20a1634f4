package face

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"drship/internal/state"
)

// blocks in the files of testdata/proc are what a real DRBD 8.4.11 printed.
var (
	procBlock = regexp.MustCompile(`(?m)^version: (\S+) \(api:(\d+)/proto:(\S+)\)\n(.*)\n((?:[ \t].*\n)+)`)
	procLine  = regexp.MustCompile(`(?m)^ 0: cs:(\w+) ro:(\w+)/(\w+) ds:(\w+)/(\w+) (.) (.{6})\n    ns:(\d+) nr:(\d+) dw:(\d+) dr:(\d+) al:(\d+) bm:(\d+) lo:(\d+) pe:(\d+) ua:(\d+) ap:(\d+) ep:1 wo:f oos:(\d+)$`)
	procGauge = regexp.MustCompile(`\((\d+)/(\d+)\)K\n\tfinish: (\d+):(\d+):(\d+) speed: ([\d,]+) \(([\d,]+)\)(?: want: ([\d,]+))? K/sec`)
)

func number64(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.ReplaceAll(s, ",", ""), 10, 64)
	if err != nil && s != "" {
		t.Fatal(err)
	}
	return n
}

func connOf(t *testing.T, name string) state.Conn {
	t.Helper()
	for c := state.StandAlone; c <= state.Behind; c++ {
		if c.String() == name {
			return c
		}
	}
	t.Fatalf("no state %q", name)
	return 0
}

func diskOf(t *testing.T, name string) state.Disk {
	t.Helper()
	for d := state.Diskless; d <= state.UpToDate; d++ {
		if d.String() == name {
			return d
		}
	}
	t.Fatalf("no disk state %q", name)
	return 0
}

func roleOf(name string) state.Role {
	return map[string]state.Role{"Primary": state.Primary, "Secondary": state.Secondary}[name]
}

// readProc takes the figures out of a block, and nothing of how they are laid out.
func readProc(t *testing.T, block string) (Version, Resource) {
	t.Helper()
	h := procBlock.FindStringSubmatch(block)
	m := procLine.FindStringSubmatch(block)
	if h == nil || m == nil {
		t.Fatalf("cannot read\n%s", block)
	}
	n := func(i int) uint64 { return number64(t, m[i]) }
	conn := connOf(t, m[1])
	pv := PeerVolume{Disk: diskOf(t, m[5]), Conn: conn, Sent: n(8) * kib, Received: n(9) * kib, OutOfSync: n(18) * kib, Pending: n(15), Unacked: n(16),
		Flags: SyncFlags{User: m[7][3] == 'u', Peer: m[7][2] == 'p'}}
	if g := procGauge.FindStringSubmatch(block); g != nil {
		k := func(i int) uint64 { return number64(t, g[i]) }
		pv.Sync = &Progress{Verify: strings.HasPrefix(m[1], "Verify"), Left: k(1) * kib, Total: k(2) * kib, Rate: int64(k(6)) * kib, AverageRate: int64(k(7)) * kib,
			Want: int64(k(8)) * kib, ETA: time.Duration(k(3)*3600+k(4)*60+k(5)) * time.Second}
	}
	v := Volume{Disk: diskOf(t, m[4]), Written: n(10) * kib, Read: n(11) * kib, ALWrites: n(12), BMWrites: n(13), LowerPending: n(14), UpperPending: n(17), ALSuspended: m[7][5] == 's'}
	peer := Peer{Name: "bob", Conn: min(conn, state.Connected), Role: roleOf(m[3]), Volumes: []PeerVolume{pv}}
	if m[6] != " " {
		peer.Protocol = m[6][0]
	}
	return Version{Number: h[1], API: int(number64(t, h[2])), Proto: h[3], Build: h[4]}, Resource{Name: "r0", Role: roleOf(m[2]), Volumes: []Volume{v}, Peers: []Peer{peer}}
}

func TestProcAsRealDRBD(t *testing.T) {
	files, err := filepath.Glob("testdata/proc/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	blocks := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range procBlock.FindAllString(string(text), -1) {
			blocks++
			v, r := readProc(t, block)
			var b strings.Builder
			if err := Proc(&b, v, []Resource{r}, ProcOptions{Shape: Shape84}); err != nil {
				t.Fatal(err)
			}
			if b.String() != block {
				t.Errorf("%s:\n%s\nwant\n%s", file, b.String(), block)
			}
		}
	}
	if blocks < 60 {
		t.Errorf("only %d blocks found", blocks)
	}
}

// TestGaugeAsInTheDocuments holds the gauge against per cent and bars that people published.
func TestGaugeAsInTheDocuments(t *testing.T) {
	for _, c := range []struct {
		left, total uint64 // KiB
		verify      bool
		shape       Shape
		want        string
	}{
		{660016, 999984, false, Shape84, "[=====>..............] sync'ed: 34.3% (660016/999984)K"},
		{369200, 999984, false, Shape84, "[===========>........] sync'ed: 63.3% (369200/999984)K"},
		{57904, 999984, false, Shape84, "[=================>..] sync'ed: 94.3% (57904/999984)K"},
		{1760348, 2096348, false, Shape83, "[==>.................] sync'ed: 16.3% (1760348/2096348)K"},
		{133477612, 133615596, false, Shape84, "[>....................] sync'ed:  0.2% (130348/130480)M"},
		{133154284, 133615596, false, Shape84, "[>....................] sync'ed:  0.4% (130032/130480)M"},
		{472972, 522112, false, Shape07, "[==>.................] sync'ed: 10.2% (472972/522112)K"},
		{0, 2097052, true, Shape84, "[===================>] verified:100.0% (0/2097052)K"},
		{0, 0, false, Shape84, "[===================>] sync'ed:100.0% (0/0)K"},
		{8, 4, false, Shape84, "[>....................] sync'ed:  0.0% (8/4)K"},
		{16 << 30, 32 << 30, false, Shape84, "[=========>..........] sync'ed: 50.1% (16777216/33554432)M"},
	} {
		if got := gauge(&Progress{Left: c.left * kib, Total: c.total * kib, Verify: c.verify}, c.shape); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestProgressLines(t *testing.T) {
	p := &Progress{Left: 4 << 20, Total: 8 << 20, Rate: 12345 * kib, AverageRate: 999 * kib, Want: 4194304 * kib, ETA: -1, Stalled: true}
	got := ProgressLines(p, state.SyncTarget, Shape84)
	want := "\t[============>.......] sync'ed: 66.7% (4096/8192)K\n\tfinish: 99999:59:59 speed: 12,345 (999) want: 4,194,304 K/sec (stalled)\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := ProgressLines(p, state.SyncSource, Shape84); strings.Contains(got, "want") {
		t.Errorf("the source has no target rate of its own: %s", got)
	}
}

func base(conn state.Conn) Resource {
	return Resource{
		Name: "r0", Role: state.Primary, NodeID: 1,
		Volumes: []Volume{{Disk: state.UpToDate, Size: 2097052 * kib, ALWrites: 8, Quorum: true}},
		Peers:   []Peer{{Name: "peer", Conn: min(conn, state.Connected), Role: state.Secondary, Protocol: 'C', Volumes: []PeerVolume{{Disk: state.UpToDate, Conn: conn}}}},
	}
}

func proc(t *testing.T, rs []Resource, o ProcOptions) string {
	t.Helper()
	var b strings.Builder
	if err := Proc(&b, Version{Number: "8.4.11", API: 1, Proto: "86-101"}, rs, o); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(b.String(), "\n")
	return rest
}

func TestProcFlags(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Resource)
	}{
		{"r-----", func(*Resource) {}},
		{"s-----", func(r *Resource) { r.Suspended.Fencing = true }},
		{"rapu--", func(r *Resource) { r.Peers[0].Volumes[0].Flags = SyncFlags{true, true, true} }},
		{"r---d-", func(r *Resource) { r.Volumes[0].UpperBlocked = true; r.Peers[0].Congested = true }},
		{"r---b-", func(r *Resource) { r.Volumes[0].LowerBlocked = true }},
		{"r---n-", func(r *Resource) { r.Peers[0].Congested = true }},
		{"r---a-", func(r *Resource) { r.Volumes[0].LowerBlocked = true; r.Peers[0].Congested = true }},
		{"r----s", func(r *Resource) { r.Volumes[0].ALSuspended = true }},
	} {
		r := base(state.Connected)
		c.change(&r)
		first, _, _ := strings.Cut(proc(t, []Resource{r}, ProcOptions{Shape: Shape84}), "\n")
		if want := " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C " + c.want; first != want {
			t.Errorf("got  %q\nwant %q", first, want)
		}
	}
}

func TestProcOfSeveral(t *testing.T) {
	a, b, c := base(state.Connected), base(state.Connected), base(state.StandAlone)
	a.Volumes[0].Minor, b.Volumes[0].Minor, c.Volumes[0].Minor = 12, 0, 1
	c.Role, c.Volumes[0].Disk = state.Secondary, state.Diskless
	b.Peers = append(b.Peers, Peer{Name: "carol", Conn: state.WFConnection, Protocol: 'A', Volumes: []PeerVolume{{Disk: state.DUnknown, OutOfSync: 5 << 20}}})
	rs := []Resource{a, b, c}
	counters := "    ns:0 nr:0 dw:0 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:%d\n"
	want := " 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown A r-----\n" + fmt.Sprintf(counters, 5120) +
		" 1: cs:Unconfigured\n\n12: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n" + fmt.Sprintf(counters, 0)
	if got := proc(t, rs, ProcOptions{Shape: Shape84}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := proc(t, rs[1:2], ProcOptions{Shape: Shape84, Peer: "peer"}); !strings.HasPrefix(got, " 0: cs:Connected") {
		t.Errorf("the peer that was asked for: %s", got)
	}
}

func TestProcOf07(t *testing.T) {
	r := base(state.SyncSource)
	r.Peers[0].Volumes[0] = PeerVolume{Conn: state.SyncSource, Sent: 49492 * kib, Pending: 89, Unacked: 99, Disk: state.Inconsistent,
		Sync: &Progress{Left: 472972 * kib, Total: 522112 * kib, ETA: 67 * time.Second, Rate: 7020 * kib, AverageRate: 7020 * kib}}
	r.Volumes[0].ALWrites, r.Volumes[0].BMWrites, r.Volumes[0].Read = 0, 66, 49888*kib
	var b strings.Builder
	v := Version{Number: "0.7.21", API: 79, Proto: "74", Build: "SVN Revision: 2326 build by root@host.example.com, 20yy-mm-dd 15:47:30"}
	if err := Proc(&b, v, []Resource{r}, ProcOptions{Shape: Shape07}); err != nil {
		t.Fatal(err)
	}
	want := `version: 0.7.21 (api:79/proto:74)
SVN Revision: 2326 build by root@host.example.com, 20yy-mm-dd 15:47:30
 0: cs:SyncSource st:Primary/Secondary ld:Consistent
    ns:49492 nr:0 dw:0 dr:49888 al:0 bm:66 lo:0 pe:89 ua:99 ap:0
	[==>.................] sync'ed: 10.2% (472972/522112)K
	finish: 0:01:07 speed: 7,020 (7,020) K/sec
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestProgressBar(t *testing.T) {
	p := Progress{Total: 1 << 30, Left: 1 << 29, Rate: 33 << 20, ETA: 15 * time.Second}
	for _, c := range []struct {
		width  int
		change func(*Progress)
		want   string
	}{
		{80, func(*Progress) {}, "[===========...........]  50.0 %  512.0 MiB of 1.0 GiB  33.0 MiB/s  0:00:15 left"},
		{30, func(*Progress) {}, " 50.0 %"},
		{60, func(*Progress) {}, "50.0 %  512.0 MiB of 1.0 GiB  33.0 MiB/s  0:00:15 left"},
		{80, func(p *Progress) { p.Left = 1 }, "[=======================.]  99.9 %  1.0 GiB of 1.0 GiB  33.0 MiB/s  0:00:15 left"},
		{80, func(p *Progress) { p.Left = 0 }, "[================================] 100.0 %  1.0 GiB of 1.0 GiB  33.0 MiB/s  done"},
		{80, func(p *Progress) { p.Stalled = true }, "[=============..............]  50.0 %  512.0 MiB of 1.0 GiB  33.0 MiB/s  stalled"},
		{90, func(p *Progress) { p.ETA = -1 }, "[=============.............]  50.0 %  512.0 MiB of 1.0 GiB  33.0 MiB/s  never at this rate"},
	} {
		q := p
		c.change(&q)
		got := ProgressBar(q, c.width)
		if len(got) > c.width {
			t.Errorf("%d columns in %d: %q", len(got), c.width, got)
		}
		if got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 1536: "1.5 KiB", 64 << 40: "64.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
