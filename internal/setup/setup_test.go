package setup

import (
	"bytes"
	"strings"
	"testing"

	"drship/internal/config"
)

const recorded = `global { usage-count no; }
common { }
resource r0 {
  protocol C;
  net { verify-alg crc32c; timeout 70; }
  disk { c-plan-ahead 0; resync-rate 4194304k; }
  options { cpu-mask 3; }
  on alice { device /dev/drbd0; disk /dev/backing; address 10.77.0.1:7788; meta-disk internal; }
  on bob   { device /dev/drbd0; disk /dev/backing; address 10.77.0.2:7788; meta-disk internal; }
}
`

func asked(t *testing.T, text string) Resource {
	t.Helper()
	c, err := config.Parse("t.conf", []byte(text), config.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Resources[0]
	host, err := r.Local("alice")
	if err != nil {
		t.Fatal(err)
	}
	return Of(r, host, r.Peers("alice"))
}

func calls(running *Resource, want Resource) string {
	c := Caller{Setup: "drbdsetup-84", Meta: "drbdmeta", Resource: want.Name}
	var b strings.Builder
	for _, s := range Plan(running, want) {
		for _, line := range c.Calls(s, &want) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

const (
	resourceOptions = "drbdsetup-84 resource-options r0 --set-defaults --cpu-mask=3\n"
	netOptions      = "drbdsetup-84 net-options ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --set-defaults --protocol=C --verify-alg=crc32c --timeout=70\n"
	newMinor        = "drbdsetup-84 new-minor r0 0 0\n"
	attach          = "drbdmeta 0 v08 /dev/backing internal apply-al\ndrbdsetup-84 attach 0 /dev/backing /dev/backing internal --resync-rate=4194304k --c-plan-ahead=0\n"
	connect         = "drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C --verify-alg=crc32c --timeout=70\n"
	diskOptions     = "drbdsetup-84 disk-options 0 --set-defaults --resync-rate=4194304k --c-plan-ahead=0\n"
)

// The calls are those that drbdadm 8.4 of drbd-utils 9.22 printed for the same differences, with a drbdsetup that showed what runs.
func TestPlanAsDrbdadm(t *testing.T) {
	for name, c := range map[string]struct {
		running func(*Resource)
		want    string
	}{
		"nothing":         {func(*Resource) {}, ""},
		"same meaning":    {func(r *Resource) { r.Volumes[0].Options[0].Value = "4G"; r.Peers[0].Net = r.Peers[0].Net[1:] }, ""},
		"resource option": {func(r *Resource) { r.Options = nil }, resourceOptions},
		"minor":           {func(r *Resource) { r.Volumes[0].Minor = 3 }, "drbdsetup-84 detach 3\ndrbdsetup-84 del-minor 3\n" + newMinor + attach},
		"disk":            {func(r *Resource) { r.Volumes[0].Disk = "/dev/other" }, "drbdsetup-84 detach 0\n" + attach},
		"diskless":        {func(r *Resource) { r.Volumes[0].Disk = "" }, attach},
		"stand alone":     {func(r *Resource) { r.Peers[0].Connect = false }, connect},
		"no connection":   {func(r *Resource) { r.Peers = nil }, connect},
		"address": {func(r *Resource) { r.Peers[0].Remote = "ipv4:10.77.0.3:7788" },
			"drbdsetup-84 disconnect ipv4:10.77.0.1:7788 ipv4:10.77.0.3:7788\n" + connect},
		"disk option":      {func(r *Resource) { r.Volumes[0].Options = With(r.Volumes[0].Options, "resync-rate", "100k") }, diskOptions},
		"more disk option": {func(r *Resource) { r.Volumes[0].Options = With(r.Volumes[0].Options, "al-extents", "257") }, diskOptions},
		"net option":       {func(r *Resource) { r.Peers[0].Net = With(r.Peers[0].Net, "ko-count", "3") }, netOptions},
		"protocol":         {func(r *Resource) { r.Peers[0].Net = With(r.Peers[0].Net, "protocol", "A") }, netOptions},
		"size":             {func(r *Resource) { r.Volumes[0].Options = With(r.Volumes[0].Options, "size", "1000s") }, "drbdsetup-84 resize 0\ndrbdsetup-84 check-resize 0\n"},
		"volume gone": {func(r *Resource) {
			r.Volumes = append(r.Volumes, Volume{Number: 1, Minor: 1, Disk: "/dev/x", MetaDisk: "internal", Slot: -1})
		}, "drbdsetup-84 detach 1\ndrbdsetup-84 del-minor 1\n"},
	} {
		running := asked(t, recorded)
		c.running(&running)
		if got := calls(&running, asked(t, recorded)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
	up := "drbdsetup-84 new-resource r0 --cpu-mask=3\n" + newMinor + attach + connect
	if got := calls(nil, asked(t, recorded)); got != up {
		t.Errorf("down:\n%s\nwant\n%s", got, up)
	}
}

// Options come in drbdadm's order: inherited ones first, the last of them in front; those of a disk, which the volume inherits, once more the other
// way round.
func TestCallsOrderOptions(t *testing.T) {
	text := strings.Replace(recorded, "common { }", "common { net { max-buffers 2000; timeout 60; } disk { on-io-error detach; al-extents 257; } options { cpu-mask 3; on-no-data-accessible suspend-io; } }", 1)
	text = strings.Replace(text, "options { cpu-mask 3; }", "", 1)
	want := "drbdsetup-84 new-resource r0 --on-no-data-accessible=suspend-io --cpu-mask=3\n" + newMinor +
		"drbdmeta 0 v08 /dev/backing internal apply-al\ndrbdsetup-84 attach 0 /dev/backing /dev/backing internal --resync-rate=4194304k --c-plan-ahead=0 --on-io-error=detach --al-extents=257\n" +
		"drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --max-buffers=2000 --protocol=C --verify-alg=crc32c --timeout=70\n"
	if got := calls(nil, asked(t, text)); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}

// A plan that was carried out leaves nothing to do.
func TestPlanEnds(t *testing.T) {
	want := asked(t, recorded)
	if steps := Plan(&want, asked(t, recorded)); steps != nil {
		t.Errorf("%+v", steps)
	}
}

func TestShow(t *testing.T) {
	r := asked(t, strings.Replace(strings.Replace(recorded, " timeout 70;", "", 1), "options { cpu-mask 3; }", "", 1))
	var b bytes.Buffer
	if err := Show(&b, []Resource{r}, false); err != nil {
		t.Fatal(err)
	}
	want := `resource r0 {
    options {
    }
    net {
        verify-alg      	"crc32c";
    }
    _remote_host {
        address			ipv4 10.77.0.2:7788;
    }
    _this_host {
        address			ipv4 10.77.0.1:7788;
        volume 0 {
            device			minor 0;
            disk			"/dev/backing";
            meta-disk			internal;
            disk {
                resync-rate     	4194304k; # bytes/second
                c-plan-ahead    	0; # 1/10 seconds
            }
        }
    }
}
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := Show(&b, []Resource{r}, true); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"timeout         \t60; # 1/10 seconds, default", "protocol        \tC; # default", "ping-int        \t10; # seconds, default", "al-extents      \t1237; # default", "c-fill-target   \t100s; # bytes, default"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
}

// With several peers each connection has a section of its own, as in DRBD 9.
func TestShowSeveralPeers(t *testing.T) {
	r := asked(t, strings.Replace(recorded, "  on bob", "  on carol { device /dev/drbd0; disk /dev/backing; address 10.77.0.3:7788; meta-disk /dev/m[1]; }\n  on bob", 1))
	r.Peers[1].Connect = false
	var b bytes.Buffer
	if err := Show(&b, []Resource{r, r}, false); err != nil {
		t.Fatal(err)
	}
	part := "    connection {\n        _peer_node_id 1;\n        path {\n            _this_host ipv4 10.77.0.1:7788;\n            _remote_host ipv4 10.77.0.3:7788;\n        }\n        net {\n"
	if text := b.String(); strings.Count(text, part) != 2 || strings.Contains(text, "10.77.0.2") || !strings.Contains(text, "}\n\nresource r0 {\n") {
		t.Errorf("%s", text)
	}
}
