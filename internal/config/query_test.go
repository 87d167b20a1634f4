package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// links writes each peer of node as NAME local remote.
func links(r *Resource, node string) string {
	var out []string
	for _, p := range r.Peers(node) {
		text := p.Host.Name + " " + p.Local.HostPort() + " " + p.Remote.HostPort()
		for _, path := range p.Paths {
			text += " | " + path[0].HostPort() + " " + path[1].HostPort()
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

const threeHosts = `
on alice { node-id 2; device minor 0; disk /dev/a; address 10.0.0.1:7000; }
on bob carol { device minor 0; disk /dev/a; address ipv6 [fd00::2]:7000; }
on dave { node-id 0; device minor 0; disk none; address dave.example:7000; }
`

func TestPeers(t *testing.T) {
	for _, c := range []struct{ name, connections, node, want string }{
		{"all", "", "alice", "bob 10.0.0.1:7000 [fd00::2]:7000, dave 10.0.0.1:7000 dave.example:7000"},
		{"second name", "", "carol", "alice [fd00::2]:7000 10.0.0.1:7000, dave [fd00::2]:7000 dave.example:7000"},
		{"mesh", "connection-mesh { hosts alice bob dave; }", "dave", "alice dave.example:7000 10.0.0.1:7000, bob dave.example:7000 [fd00::2]:7000"},
		{"part of a mesh", "connection-mesh { hosts alice bob; }", "alice", "bob 10.0.0.1:7000 [fd00::2]:7000"},
		{"outside of a mesh", "connection-mesh { hosts alice bob; }", "dave", ""},
		{"ports", "connection { host alice port 7001; host dave port 7002; }", "dave", "alice dave.example:7002 10.0.0.1:7001"},
		{"addresses", "connection { host alice address 10.9.0.1:71; host bob address 10.9.0.2; }", "alice", "bob 10.9.0.1:71 10.9.0.2:7000"},
		{"paths", "connection { path { host alice address 10.1.0.1:1; host bob address 10.1.0.2:1; } path { host bob address 10.2.0.2:1; host alice address 10.2.0.1:1; } }",
			"alice", "bob 10.1.0.1:1 10.1.0.2:1 | 10.2.0.1:1 10.2.0.2:1"},
		{"stranger", "", "erin", ""},
		{"ignored", "ignore-on alice;", "alice", ""},
	} {
		r := mustParse(t, "resource r0 {"+threeHosts+c.connections+"}").Resource("r0")
		if got := links(r, c.node); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestConnectionOverMesh(t *testing.T) {
	r := mustParse(t, "resource r0 {"+threeHosts+`net { protocol C; ping-int 9; } wan { link-rate 1M; }
		connection-mesh { hosts alice bob dave; net { ping-int 8; } }
		connection { host alice; host dave; net { protocol A; } wan { link-rate 2M; } } }`).Resource("r0")
	bob, dave := r.Peers("alice")[0], r.Peers("alice")[1]
	if bob.Net.Protocol != 'C' || bob.Net.PingInt != 8*time.Second || bob.WAN.LinkRate != 1<<20 {
		t.Errorf("by the mesh: %+v", bob.Net)
	}
	if dave.Net.Protocol != 'A' || dave.Net.PingInt != 9*time.Second || dave.WAN.LinkRate != 2<<20 {
		t.Errorf("by the connection: %+v", dave.Net)
	}
}

func TestLocal(t *testing.T) {
	r := mustParse(t, "resource r0 {"+threeHosts+"}").Resource("r0")
	h, err := r.Local("carol")
	if err != nil || h.Name != "bob" || h.NodeID != 1 {
		t.Errorf("carol is %+v, %v", h, err)
	}
	if d, err := r.Local("dave"); err != nil || !d.Volumes[0].Diskless() || d.NodeID != 0 {
		t.Errorf("dave: %+v, %v", d, err)
	}
	if _, err := r.Local("erin"); !errors.Is(err, ErrNotForHost) || err.Error() != "resource r0 is not for host erin" {
		t.Errorf("erin: %v", err)
	}
}

func TestFloating(t *testing.T) {
	text := `resource r0 { device /dev/drbd3; disk /dev/a;
		floating 10.0.0.1:7788;
		floating ipv6 [fd00::2]:7788 { disk /dev/b; } }`
	c, err := Parse("t.conf", []byte(text), ParseOptions{Addresses: []string{"127.0.0.1", "fd00::2"}})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Resource("r0")
	h, err := r.Local("whatever")
	if err != nil || h.Kind != Floating || h.Volumes[0].Disk != "/dev/b" || h.Volumes[0].Minor != 3 {
		t.Fatalf("%+v, %v", h, err)
	}
	if got := links(r, "whatever"); got != "10.0.0.1:7788 [fd00::2]:7788 10.0.0.1:7788" {
		t.Errorf("peers: %s", got)
	}
	if _, err := mustParse(t, text).Resource("r0").Local("whatever"); err == nil {
		t.Error("found without any address of the machine")
	}
}

func TestStacked(t *testing.T) {
	c := mustParse(t, "resource r0 {"+twoHosts+`}
	resource r0-U { net { protocol A; }
		stacked-on-top-of r0 { device /dev/drbd10; address 192.168.42.1:7788; }
		on charlie { device /dev/drbd10; disk /dev/hda6; address 192.168.42.2:7788; meta-disk internal; } }`)
	r := c.Resource("r0-U")
	h, err := r.Local("bob")
	if err != nil || h.Kind != OnTop || h.Lower != "r0" || h.Volumes[0].Disk != "/dev/drbd0" || !r.Stacked {
		t.Fatalf("%+v, %v", h, err)
	}
	if got := links(r, "charlie"); got != "r0 192.168.42.2:7788 192.168.42.1:7788" {
		t.Errorf("peers of charlie: %s", got)
	}
	if got := links(r, "alice"); got != "charlie 192.168.42.1:7788 192.168.42.2:7788" {
		t.Errorf("peers of alice: %s", got)
	}
}

func TestUnstacked(t *testing.T) {
	text := "resource r0 { net { protocol C; } " + twoHosts + `}
	resource r0-U { net { protocol A; }
		stacked-on-top-of r0 { device /dev/drbd10; address 192.168.42.1:7788; }
		on charlie { device /dev/drbd10; disk /dev/hda6; address 192.168.42.2:7788; meta-disk internal; } }`
	c := mustParse(t, text)
	flat := c.Unstacked()
	if len(flat.Resources) != 1 || flat.Resource("r0-U") != flat.Resource("r0") || len(flat.Warnings) != len(c.Warnings)+1 {
		t.Fatalf("%d resources, warnings %v", len(flat.Resources), flat.Warnings)
	}
	r := flat.Resource("r0")
	for node, want := range map[string]string{
		"alice":   "bob 10.0.0.1:7788 10.0.0.2:7788, charlie 192.168.42.1:7788 192.168.42.2:7788",
		"bob":     "alice 10.0.0.2:7788 10.0.0.1:7788, charlie 192.168.42.1:7788 192.168.42.2:7788",
		"charlie": "alice 192.168.42.2:7788 192.168.42.1:7788, bob 192.168.42.2:7788 192.168.42.1:7788",
	} {
		if got := links(r, node); got != want {
			t.Errorf("peers of %s: %s, want %s", node, got, want)
		}
	}
	for i, want := range []byte{'C', 'A'} {
		if p := r.Peers("alice")[i]; p.Net.Protocol != want {
			t.Errorf("protocol with %s: %c", p.Host.Name, p.Net.Protocol)
		}
	}
	if h, err := r.Local("charlie"); err != nil || h.Volumes[0].Disk != "/dev/hda6" || h.NodeID != 2 {
		t.Errorf("charlie: %+v, %v", h, err)
	}
	if again := c.Resource("r0"); len(again.Hosts) != 2 || len(again.Connections) != 0 {
		t.Error("the configuration as it was written has changed")
	}
}

// What has no counterpart is left out, and said to be.
func TestUnstackedNot(t *testing.T) {
	host := func(name, address string) string {
		return "on " + name + " { address " + address + ":7788; volume 0 { device /dev/drbd0; disk /dev/a; } volume 1 { device /dev/drbd1; disk /dev/b; } } "
	}
	c := mustParse(t, "resource r0 { "+host("alice", "10.0.0.1")+host("bob", "10.0.0.2")+`}
	resource r0-U { stacked-on-top-of r0 { device /dev/drbd10; address 192.168.42.1:7788; }
		on charlie { device /dev/drbd10; disk /dev/hda6; address 192.168.42.2:7788; meta-disk internal; } }`)
	flat := c.Unstacked()
	if len(flat.Resources) != 1 || flat.Resource("r0-U") != nil || len(flat.Resource("r0").Hosts) != 2 {
		t.Fatalf("%+v", flat.Resources)
	}
	if text := flat.Warnings[len(flat.Warnings)-1].Text; !strings.Contains(text, "r0-U is not run") {
		t.Errorf("warning: %s", text)
	}
}

func TestProxiedHostsTalkOutside(t *testing.T) {
	r := mustParse(t, `resource r0 {
		on alice { device minor 1; disk /dev/a; address 127.0.0.1:7789; proxy on alice { inside 127.0.0.1:7788; outside 10.1.1.1:7788; } }
		on bob { device minor 1; disk /dev/a; address 127.0.0.1:7789; proxy on bob { inside 127.0.0.1:7788; outside 10.1.1.2:7788; } } }`).Resource("r0")
	if got := links(r, "alice"); got != "bob 10.1.1.1:7788 10.1.1.2:7788" {
		t.Errorf("peers: %s", got)
	}
}

func TestFingerprint(t *testing.T) {
	digits := strings.Repeat("0aF", 21) + "0"
	r := mustParse(t, `resource r0 { on a { device minor 1; disk /dev/a; address 10.0.0.1:1; certificate-fingerprint "sha256:`+digits+`"; } }`).Resource("r0")
	if got := r.Hosts[0].Fingerprint; got != "sha256:"+strings.ToLower(digits) {
		t.Errorf("fingerprint %s", got)
	}
}

func TestRateSchedule(t *testing.T) {
	s, err := ParseRateSchedule("mon-fri 08:00-18:00 20M; sat,sun 22:00-02:00 unlimited; fri-mon 10:00-11:00 5M; else 80M")
	if err != nil {
		t.Fatal(err)
	}
	monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		day, hour, minute int
		want              int64
	}{
		{0, 8, 0, 20 << 20}, {0, 7, 59, 80 << 20}, {4, 17, 59, 20 << 20}, {4, 18, 0, 80 << 20}, {5, 22, 0, 0}, {6, 1, 59, 0}, {0, 1, 0, 0},
		{0, 2, 0, 80 << 20}, {6, 10, 30, 5 << 20}, {1, 1, 0, 80 << 20},
	} {
		at := monday.AddDate(0, 0, c.day).Add(time.Duration(c.hour)*time.Hour + time.Duration(c.minute)*time.Minute)
		if got := s.At(at); got != c.want {
			t.Errorf("%s: %d, want %d", at.Format("Mon 15:04"), got, c.want)
		}
	}
	for _, bad := range []string{"", ";", "20M", "08:00-18:00", "else 1M; else 2M", "25:00-26:00 1M", "mon 08:00 1M", "else 1Mbit", "a b c d"} {
		if _, err := ParseRateSchedule(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
