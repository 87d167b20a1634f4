package config

import (
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	r := oneResource(t, "", "")
	n := r.Net
	if n.Protocol != 'C' || n.Timeout != 6*time.Second || n.PingTimeout != 500*time.Millisecond || n.ConnectInt != 10*time.Second ||
		n.PingInt != 10*time.Second || n.KoCount != 7 || n.AfterSB0 != "disconnect" || n.Fencing != "dont-care" || n.OnCongestion != "block" {
		t.Errorf("net defaults: %+v", n)
	}
	if n.Set.Has("protocol") {
		t.Error("a default counts as written")
	}
	d := r.Disk
	if d.OnIOError != "detach" || d.ResyncRate != 0 || d.ALExtents != 1237 || d.CPlanAhead != 2*time.Second || d.CFillTarget != 51200 ||
		d.CMaxRate != 100<<20 || d.CMinRate != 250<<10 || d.Size != 0 {
		t.Errorf("disk defaults: %+v", d)
	}
	if j := r.Journal; j.MaxSize != 4<<30 || j.OnFull != "pull-ahead" || j.MaxHistory != 4<<30 || j.MaxStaged != 256<<20 {
		t.Errorf("journal defaults: %+v", j)
	}
	if w := r.WAN; w.Compression != "auto" || !w.Fold || !w.Delta || !w.Dedupe || w.CacheSize != 64<<20 || w.LinkRate != 0 || w.FEC != "auto" {
		t.Errorf("wan defaults: %+v", w)
	}
}

func TestUnits(t *testing.T) {
	r := oneResource(t, "", `
		net { protocol A; timeout 55; ping-int 9; congestion-fill 8; sndbuf-size 512k; ko-count 3; shared-secret "s e"; cram-hmac-alg sha256; }
		disk { resync-rate 33M; size 2048s; c-fill-target 1M; c-max-rate 2048; al-extents 257; c-plan-ahead 5; }
		journal { max-size 2G; on-full block; max-history 0; max-staged 64M; }
		wan { link-rate 12M; compression zstd; level 9; fold no; cache-size 0; }
	`)
	if n := r.Net; n.Protocol != 'A' || n.Timeout != 5500*time.Millisecond || n.PingInt != 9*time.Second || n.CongestionFill != 4096 ||
		n.SndbufSize != 512<<10 || n.KoCount != 3 || n.SharedSecret != "s e" {
		t.Errorf("net: %+v", n)
	}
	if d := r.Disk; d.ResyncRate != 33<<20 || d.Size != 1<<20 || d.CFillTarget != 1<<20 || d.CMaxRate != 2<<20 || d.ALExtents != 257 ||
		d.CPlanAhead != 500*time.Millisecond {
		t.Errorf("disk: %+v", d)
	}
	if j := r.Journal; j.MaxSize != 2<<30 || j.OnFull != "block" || j.MaxHistory != 0 || j.MaxStaged != 64<<20 {
		t.Errorf("journal: %+v", j)
	}
	if w := r.WAN; w.LinkRate != 12<<20 || w.Compression != "zstd" || w.Level != 9 || w.Fold || w.CacheSize != 0 {
		t.Errorf("wan: %+v", w)
	}
	if s, ok := r.Disk.Set["resync-rate"]; !ok || s.Value != "33M" || s.Pos.String() != "test.conf:5:10" {
		t.Errorf("resync-rate as written: %+v", s)
	}
}

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		text  string
		scale byte
		want  int64
	}{
		{"0", '1', 0}, {"12", '1', 12}, {"4k", '1', 4096}, {"4K", 'k', 4}, {"1s", '1', 512}, {"3s", 'k', 1}, {"10M", 'k', 10240},
		{"1G", 's', 2 << 20}, {"7", 's', 7}, {"2T", '1', 2 << 40},
	} {
		if got, err := parseNumber(c.text, c.scale); err != nil || got != c.want {
			t.Errorf("%s in %c: %d, %v; want %d", c.text, c.scale, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "k", "-1", "+1", "1.5M", "1MB", "0x10", "99999999999999999999", "9999999999T", " 1"} {
		if n, err := parseNumber(bad, '1'); err == nil {
			t.Errorf("%q was taken as %d", bad, n)
		}
	}
}

func TestInheritance(t *testing.T) {
	c := mustParse(t, `
	common { net { protocol A; timeout 40; ping-int 7; } disk { al-extents 100; resync-rate 1M; on-io-error pass_on; } handlers { pri-lost "a"; out-of-sync "b"; } }
	resource r0 {
		net { protocol B; }
		handlers { out-of-sync "c"; }
		disk { resync-rate 2M; }
		volume 0 { device minor 10; disk /dev/v0; disk { al-extents 200; } }
		volume 1 { device minor 11; disk /dev/v1; meta-disk internal; }
		on alice { address 10.0.0.1:1; disk { resync-rate 3M; } volume 1 { disk /dev/other; disk { resync-rate 4M; } } }
		on bob { address 10.0.0.2:1; }
		connection { host alice; host bob; net { timeout 30; } disk { resync-rate 5M; } volume 1 { disk { resync-rate 6M; } } }
	}
	resource r1 { `+twoHosts+` }`)
	r := c.Resource("r0")
	if r.Net.Protocol != 'B' || r.Net.Timeout != 4*time.Second || r.Net.PingInt != 7*time.Second {
		t.Errorf("resource's net: %+v", r.Net)
	}
	if r.Handlers["pri-lost"] != "a" || r.Handlers["out-of-sync"] != "c" {
		t.Errorf("handlers: %v", r.Handlers)
	}
	alice, err := r.Local("alice")
	if err != nil {
		t.Fatal(err)
	}
	bob, err := r.Local("bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host    *Host
		volume  int
		disk    string
		rate    int64
		extents int
	}{
		{alice, 0, "/dev/v0", 3 << 20, 200}, {alice, 1, "/dev/other", 4 << 20, 100},
		{bob, 0, "/dev/v0", 2 << 20, 200}, {bob, 1, "/dev/v1", 2 << 20, 100},
	} {
		v := c.host.Volumes[c.volume]
		if v.Disk != c.disk || v.DiskOptions.ResyncRate != c.rate || v.DiskOptions.ALExtents != c.extents || v.DiskOptions.OnIOError != "pass_on" {
			t.Errorf("%s volume %d: %s %+v", c.host.Name, c.volume, v.Disk, v.DiskOptions)
		}
	}
	peer := r.Peers("alice")[0]
	if peer.Net.Timeout != 3*time.Second || peer.Net.Protocol != 'B' || peer.Disk.ResyncRate != 5<<20 {
		t.Errorf("connection: %+v %+v", peer.Net, peer.Disk)
	}
	if peer.VolumeDisk(alice.Volumes[0]).ResyncRate != 5<<20 || peer.VolumeDisk(alice.Volumes[1]).ResyncRate != 6<<20 {
		t.Error("the volume of a connection does not go before the connection")
	}
	if r1 := c.Resource("r1"); r1.Net.Protocol != 'A' || r1.Net.Set.Has("protocol") == false || r1.Disk.ResyncRate != 1<<20 {
		t.Errorf("common reaches r1 as %+v", r1.Net)
	}
}

func TestOldNames(t *testing.T) {
	r := oneResource(t, "common { protocol B; syncer { rate 10M; verify-alg md5; cpu-mask ff; } }", `
		incon-degr-cmd "halt -f";
		syncer { al-extents 517; csums-alg sha1; use-rle; c-min-rate 1M; on-no-data-accessible suspend-io; group 3; }
		disk { on-io-error panic; fencing resource-only; no-disk-flushes; no-md-flushes; no-disk-barrier; no-disk-drain; use-bmbv; }
		net { no-tcp-cork; on-disconnect reconnect; }
		handlers { outdate-peer "/sbin/outdate"; }
		startup { become-primary-on alice bob; wfc-timeout 0; }
	`)
	if r.Net.Protocol != 'B' || r.Net.VerifyAlg != "md5" || r.Net.CsumsAlg != "sha1" || r.Net.Fencing != "resource-only" || !r.Net.UseRLE {
		t.Errorf("net: %+v", r.Net)
	}
	if r.Disk.ResyncRate != 10<<20 || r.Disk.ALExtents != 517 || r.Disk.CMinRate != 1<<20 || r.Disk.OnIOError != "call-local-io-error" {
		t.Errorf("disk: %+v", r.Disk)
	}
	if r.Options.CPUMask != "ff" || r.Options.OnNoDataAccessible != "suspend-io" {
		t.Errorf("options: %+v", r.Options)
	}
	if r.Handlers["pri-on-incon-degr"] != "halt -f" || r.Handlers["fence-peer"] != "/sbin/outdate" {
		t.Errorf("handlers: %v", r.Handlers)
	}
	if len(r.Startup.BecomePrimaryOn) != 2 || r.Startup.BecomePrimaryOn[1] != "bob" {
		t.Errorf("startup: %+v", r.Startup)
	}
	for name, want := range map[string]string{"disk-flushes": "no", "md-flushes": "no", "disk-barrier": "no", "disk-drain": "no"} {
		if got := r.Disk.Set[name].Value; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.Net.Set["tcp-cork"].Value != "no" {
		t.Error("no-tcp-cork is not tcp-cork no")
	}
}

func TestProxyBecomesWAN(t *testing.T) {
	for _, c := range []struct {
		section, compression string
		level                int
		cache                int64
	}{
		{"proxy { memlimit 100M; plugin { zstd level 7; } }", "zstd", 7, 64 << 20},
		{"proxy { plugin { lz4; } }", "s2", 0, 64 << 20},
		{"proxy { plugin { lzma contexts 2; } }", "zstd", 19, 64 << 20},
		{"proxy { plugin { zlib level 9; } }", "zstd", 9, 64 << 20},
		{"proxy { memlimit 32M; }", "auto", 0, 32 << 20},
		{"proxy { memlimit 32M; } wan { cache-size 128M; }", "auto", 0, 128 << 20},
		{"proxy { plugin { lzma; } } wan { compression off; }", "off", 0, 64 << 20},
	} {
		r := oneResource(t, "", c.section)
		if r.WAN.Compression != c.compression || r.WAN.Level != c.level || r.WAN.CacheSize != c.cache {
			t.Errorf("%s: %s level %d, cache of %d bytes", c.section, r.WAN.Compression, r.WAN.Level, r.WAN.CacheSize)
		}
	}
}

func TestTemplateFile(t *testing.T) {
	files := tree{"/etc/tpl.conf": "common { net { timeout 33; ping-int 20; } }"}
	c, err := Parse("/etc/drbd.conf", []byte(`common { net { timeout 22; ko-count 2; } }
		resource r0 { template-file "tpl.conf"; net { ping-int 4; } `+twoHosts+` }`), files.options())
	if err != nil {
		t.Fatal(err)
	}
	n := c.Resource("r0").Net
	if n.Timeout != 3300*time.Millisecond || n.KoCount != 2 || n.PingInt != 4*time.Second {
		t.Errorf("a template stands between common and resource, got %+v", n)
	}
}

func TestWith(t *testing.T) {
	r := oneResource(t, "", "disk { resync-rate 1M; }")
	d, err := r.Disk.With("resync-rate", "5M")
	if err != nil || d.ResyncRate != 5<<20 || r.Disk.ResyncRate != 1<<20 || r.Disk.Set["resync-rate"].Value != "1M" {
		t.Errorf("%+v, %v; the first %+v", d, err, r.Disk)
	}
	if d, err = r.Disk.With("no-disk-flushes", ""); err != nil || d.Set["disk-flushes"].Value != "no" {
		t.Errorf("an old name: %+v, %v", d.Set, err)
	}
	for name, value := range map[string]string{"resync-raet": "1M", "al-extents": "3", "on-io-error": "panik"} {
		if _, err := r.Disk.With(name, value); err == nil {
			t.Errorf("%s %s was taken", name, value)
		}
	}
	if _, err := r.Net.With("allow-two-primaries", "yes"); err == nil {
		t.Error("a refused option was taken")
	}
	if o, err := r.Options.With("on-no-data-accessible", "suspend-io"); err != nil || o.OnNoDataAccessible != "suspend-io" {
		t.Errorf("options: %+v, %v", o, err)
	}
}

func TestLexing(t *testing.T) {
	c := mustParse(t, "\ufeff# first\r\nglobal{usage-count no;}# more\r\nskip resource old { \"unclosed? no\" { } }\nresource \"r 1\" {;;skip net { timeout x; }\n"+
		"handlers{split-brain\"a;b {c} # no comment \\\"q\\\" \\\\ \\\nnext\";}"+twoHosts+"}")
	r := c.Resource("r 1")
	if r == nil || len(c.Resources) != 1 {
		t.Fatalf("resources: %+v", c.Resources)
	}
	if got, want := r.Handlers["split-brain"], `a;b {c} # no comment "q" \ next`; got != want {
		t.Errorf("string is %q, want %q", got, want)
	}
	if r.Net.Set.Has("timeout") {
		t.Error("a skipped section was read")
	}
}

func TestIncludes(t *testing.T) {
	files := tree{
		"/etc/drbd.d/global_common.conf": "global { usage-count no; } common { net { timeout 11; } }",
		"/etc/drbd.d/b.res":              "resource b {" + twoHosts + "}",
		"/etc/drbd.d/a.res": `resource a { on alice { device minor 9; disk /dev/x; address 10.0.0.1:9; }
			on bob { device minor 9; disk /dev/x; address 10.0.0.2:9; } }`,
		"/etc/drbd.d/notes.txt": "no configuration at all {{{",
	}
	c, err := Parse("/etc/drbd.conf", []byte("include\"drbd.d/global_common.conf\";\ninclude \"drbd.d/*.res\"; include \"none.d/*.res\";\ninclude drbd.d/a.res;"), files.options())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Resources) != 2 || c.Resources[0].Name != "a" || c.Resources[1].Net.Timeout != 1100*time.Millisecond || len(c.Files) != 4 {
		t.Errorf("files %v, resources %v", c.Files, c.Resources)
	}
	if pos := c.Resources[1].Pos.String(); pos != "/etc/drbd.d/b.res:1:1" {
		t.Errorf("a resource stands at %s", pos)
	}
}
