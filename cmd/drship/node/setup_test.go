package node

import (
	"log/slog"
	"strings"
	"testing"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/setup"
)

const twoNodes = `resource r0 {
  net { protocol C; ping-int 9; allow-unauthenticated yes; }
  disk { c-max-rate 50M; }
  on alice { device /dev/drbd0; disk /dev/a; address 10.77.0.1:7788; }
  on bob { device /dev/drbd0; disk /dev/a; address 10.77.0.2:7788; }
}
`

// nodeOf is a node that runs nothing, with a configuration that the returned function replaces and has read again.
func nodeOf(t *testing.T, text string) (*Node, func(string) error) {
	t.Helper()
	env := Env{StateDir: t.TempDir(), RunDir: t.TempDir(), Node: "alice", Logger: slog.New(slog.DiscardHandler)}
	env.LoadConfig = func() (*config.Config, error) { return config.Parse("t.conf", []byte(text), config.ParseOptions{}) }
	n, err := New(env)
	if err != nil {
		t.Fatal(err)
	}
	return n, func(now string) error { text = now; return n.reload(t.Context()) }
}

// A resource that is down takes the file as it is; one that is up keeps what it runs with, part by part.
func TestTakesTheFileInParts(t *testing.T) {
	n, read := nodeOf(t, twoNodes)
	r := find(n.all(), "r0")
	if err := read(strings.Replace(twoNodes, "ping-int 9", "ping-int 8", 1)); err != nil {
		t.Fatal(err)
	}
	if got := r.cfg.Net.PingInt.Seconds(); got != 8 {
		t.Errorf("down: ping-int %v", got)
	}
	r.mu.Lock()
	r.net = &network{} // it is up now
	r.mu.Unlock()
	changed := strings.NewReplacer("ping-int 9", "ping-int 7", "50M", "60M", "protocol C", "protocol A").Replace(twoNodes) + "# r0\n"
	changed = strings.Replace(changed, "  disk {", "  handlers { split-brain \"x\"; }\n  disk {", 1)
	if err := read(changed); err != nil {
		t.Fatal(err)
	}
	if r.cfg.Net.PingInt.Seconds() != 8 || r.peers[0].cfg.Net.Protocol != 'C' || r.cfg.Disk.CMaxRate != 50<<20 || r.cfg.Handlers["split-brain"] != "x" {
		t.Errorf("up: net %+v, disk %+v, handlers %v", r.cfg.Net, r.cfg.Disk, r.cfg.Handlers)
	}
	var kinds []string
	for _, s := range setup.Plan(r.running(), r.asked()) {
		kinds = append(kinds, s.Kind.String())
	}
	if got := strings.Join(kinds, " "); got != "attach connect" {
		t.Errorf("steps: %s", got)
	}
	r.take(partNet)
	if r.cfg.Net.PingInt.Seconds() != 7 || r.peers[0].cfg.Net.Protocol != 'A' || r.cfg.Disk.CMaxRate != 50<<20 {
		t.Errorf("net taken: net %+v, disk %+v", r.cfg.Net, r.cfg.Disk)
	}
	r.take(partDisk)
	if r.cfg.Disk.CMaxRate != 60<<20 || r.host.Volumes[0].DiskOptions.CMaxRate != 60<<20 {
		t.Errorf("disk taken: %+v", r.cfg.Disk)
	}
}

// A resource that moves to other hosts is no error of the file.
func TestResourceLeavesTheHost(t *testing.T) {
	n, read := nodeOf(t, twoNodes)
	if err := read(strings.Replace(twoNodes, "on alice", "on carol", 1)); err != nil {
		t.Fatal(err)
	}
	if len(n.all()) != 0 {
		t.Error("a resource of other hosts is still here")
	}
	if err := read(twoNodes); err != nil || len(n.all()) != 1 {
		t.Errorf("it does not come back: %v", err)
	}
}

// peer-device-options of one peer steer its resyncs alone, and the next adjust takes them back.
func TestSteersOnePeer(t *testing.T) {
	three := strings.Replace(twoNodes, "  on bob", "  on carol { device /dev/drbd0; disk /dev/a; address 10.77.0.3:7788; }\n  on bob", 1)
	n, _ := nodeOf(t, three)
	r := find(n.all(), "r0")
	q := control.Request{Verb: "peer-device-options", Resource: "r0", Peer: "bob", Volume: control.AnyVolume, Options: map[string]string{"resync-rate": "1048576", "c-max-rate": "20M"}}
	if _, err := verbPeerDeviceOptions(t.Context(), r, &q); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]int64{"bob": {20 << 20, 1 << 20}, "carol": {50 << 20, 0}} {
		if d, rate := r.steeredLocked(r.peerLocked(name)); d.CMaxRate != want[0] || rate != want[1] {
			t.Errorf("%s: c-max-rate %d, rate %d", name, d.CMaxRate, rate)
		}
	}
	r.net = &network{}
	for _, p := range r.peers {
		p.wanted = true
	}
	var kinds []string
	for _, s := range setup.Plan(r.running(), r.asked()) {
		if s.Peer != nil {
			kinds = append(kinds, s.Kind.String()+" "+s.Peer.Name)
		}
	}
	if got := strings.Join(kinds, ", "); got != "peer-device-options bob" {
		t.Errorf("steps of adjust: %s", got)
	}
	q.Options = map[string]string{"al-extents": "7"}
	if _, err := verbPeerDeviceOptions(t.Context(), r, &q); err == nil {
		t.Error("an option of disks was taken for one of a peer device")
	}
	r.take(partDisk)
	if d, rate := r.steeredLocked(r.peerLocked("bob")); d.CMaxRate != 50<<20 || rate != 0 {
		t.Errorf("behind adjust: %d, %d", d.CMaxRate, rate)
	}
}
