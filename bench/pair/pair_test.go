package pair

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drship/bench/relay"
	"drship/internal/config"
)

// TestConfiguration holds what is generated against the program's own parser, each node's view of the other included.
func TestConfiguration(t *testing.T) {
	for _, link := range []*relay.Link{nil, {}} {
		p, err := New(Options{
			Binary: "drship", Dir: t.TempDir(), Sizes: []int64{1 << 20, 2 << 20}, Protocol: "B", Link: link,
			Net: QuickTiming(), Journal: []string{"max-size 16M", "on-full block"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range p.Nodes {
			c, err := config.Load(n.ConfigPath())
			if err != nil {
				t.Fatal(err)
			}
			r := c.Resource(Resource)
			if r == nil || r.Net.Protocol != 'B' || r.Journal.OnFull != "block" || r.Journal.MaxSize != 16<<20 {
				t.Fatalf("%s reads %+v", n.Name, r)
			}
			own, err := r.Local(n.Name)
			if err != nil || own == nil {
				t.Fatalf("%s does not find itself: %v", n.Name, err)
			}
			if got := own.Address.HostPort(); got != p.address[i].String() {
				t.Errorf("%s listens at %s, want %s", n.Name, got, p.address[i])
			}
			peers := r.Peers(n.Name)
			direct := p.address[1-i].String()
			if got := peers[0].Host.Address.HostPort(); (got == direct) != (link == nil) {
				t.Errorf("%s finds its peer at %s; directly it is at %s, relay %v", n.Name, got, direct, link != nil)
			}
			if st, err := os.Stat(n.Backing(1)); err != nil || st.Size() != 2<<20 {
				t.Errorf("backing file of volume 1: %v, %v", st, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStatusInSync(t *testing.T) {
	good := Status{
		Devices:     []Device{{Disk: "UpToDate"}},
		Connections: []Connection{{State: "Connected", Peers: []PeerDevice{{Disk: "UpToDate", Replication: "Established"}}}},
	}
	if !good.InSync() {
		t.Fatal("a pair in sync is not seen as such")
	}
	for name, spoil := range map[string]func(*Status){
		"no device":     func(s *Status) { s.Devices = nil },
		"no peer":       func(s *Status) { s.Connections = nil },
		"own disk":      func(s *Status) { s.Devices = []Device{{Disk: "Inconsistent"}} },
		"not connected": func(s *Status) { s.Connections[0].State = "Connecting" },
		"peer disk": func(s *Status) {
			s.Connections[0].Peers = []PeerDevice{{Disk: "Inconsistent", Replication: "Established"}}
		},
		"resync":             func(s *Status) { s.Connections[0].Peers = []PeerDevice{{Disk: "UpToDate", Replication: "SyncSource"}} },
		"blocks out of sync": func(s *Status) { s.Connections[0].Peers[0].OutOfSync = 4 },
	} {
		s := good
		s.Connections = append([]Connection(nil), good.Connections...)
		s.Connections[0].Peers = append([]PeerDevice(nil), good.Connections[0].Peers...)
		spoil(&s)
		if s.InSync() {
			t.Errorf("%s: taken for in sync", name)
		}
	}
}

func TestVerbError(t *testing.T) {
	script := filepath.Join(t.TempDir(), "drship")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$1 refused\" >&2\nexit 11\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Binary: script, Dir: t.TempDir(), Sizes: []int64{1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Nodes[0].Verb(t.Context(), "primary", Resource)
	if e, ok := err.(*VerbError); !ok || e.Code != 11 || !strings.Contains(e.Text, "primary refused") {
		t.Errorf("got %v", err)
	}
	if err := p.Nodes[0].Start(t.Context()); err == nil || !strings.Contains(err.Error(), "daemon refused") {
		t.Errorf("a daemon that ends at once: %v", err)
	}
}
