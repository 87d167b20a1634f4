package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// errorCases hold texts that are wrong with the whole error, position included. They seed the fuzzer, too.
var errorCases = []struct{ name, text, want string }{
	{"unknown keyword", "global { usage-count no; }\nresource r0 {\n  protocol C;\n  frobnicate yes;\n" + twoHosts + "}",
		"t.conf:4:3: unknown keyword 'frobnicate' in section 'resource'"},
	{"unknown keyword, near", "resource r0 {\n  metadisk internal;\n" + twoHosts + "}",
		"t.conf:2:3: unknown keyword 'metadisk' in section 'resource'; did you mean 'meta-disk'?"},
	{"top level", "resuorce r0 { }", "t.conf:1:1: unknown keyword 'resuorce' at the top level; did you mean 'resource'?"},
	{"unknown option", "resource r0 {\n  net { timeuot 50; }\n" + twoHosts + "}",
		"t.conf:2:9: unknown option 'timeuot' in section 'net'; did you mean 'timeout'?"},
	{"option of another section", "resource r0 { net { al-extents 257; } " + twoHosts + "}",
		"t.conf:1:21: unknown option 'al-extents' in section 'net'; it belongs in section 'disk'"},
	{"missing brace", "resource r0 {\n  net {\n  protocol C;\n  on alice {\n  } }",
		"t.conf:4:3: an option keyword of section 'net' expected, but got 'on' (is a '}' missing before it?)"},
	{"missing brace at the end", "resource r0 {\n" + twoHosts,
		"t.conf:5:1: '}' expected, but got the end of the file: '{' at t.conf:1 is never closed"},
	{"missing semicolon", "resource r0 {\n  net {\n  protocol C } }", "t.conf:3:14: ';' expected, but got '}'"},
	{"missing semicolon, next line", "resource r0 {\n net {\n  timeout 60\n  ping-int 10;\n }" + twoHosts + "}",
		"t.conf:4:3: ';' expected, but got 'ping-int'"},
	{"protocol", "resource r0 { net { protocol D; } " + twoHosts + "}",
		"t.conf:1:30: unknown protocol 'D', should be one of A,B,C"},
	{"two ranges", "resource r0 {\n net { ping-int 9999; }\n disk { al-extents 3; }" + twoHosts + "}",
		"t.conf:2:17: ping-int 9999 => 9999 out of range [1..120]\nt.conf:3:20: al-extents 3 => 3 out of range [67..65534]"},
	{"enumeration", "resource r0 { net { on-congestion pull-ahed; } " + twoHosts + "}",
		"t.conf:1:35: unknown on-congestion 'pull-ahed', should be one of block,pull-ahead,disconnect; did you mean 'pull-ahead'?"},
	{"bits a second", "resource r0 { disk { resync-rate 100Mbit; } " + twoHosts + "}",
		"t.conf:1:34: resync-rate: '100Mbit' is not a number (digits, then nothing or one of s K M G T); rates are in bytes a second: 33M is 33 MiB/s"},
	{"digest", "resource r0 { net { verify-alg crc32; } " + twoHosts + "}",
		"t.conf:1:32: verify-alg: unknown digest 'crc32', should be one of crc32c,md5,sha1,sha256,sha512,xxh3,blake3; did you mean 'crc32c'?"},
	{"no value", "resource r0 { net { timeout; } " + twoHosts + "}", "t.conf:1:21: option 'timeout' needs a value"},
	{"refused", "resource r0 { net { allow-two-primaries; } " + twoHosts + "}",
		"t.conf:1:21: allow-two-primaries yes is refused: a resource has one write order and so one Primary; a cluster file system needs DRBD itself"},
	{"no address", "resource r0 {\n on alice { device /dev/drbd0; disk /dev/a; meta-disk internal; }\n}",
		"t.conf:2:2: in resource r0, on alice { ... }: 'address' keyword missing."},
	{"no device, no disk", "resource r0 {\n on alice { disk /dev/a; address 1.2.3.4:5; }\n on bob { device minor 1; address 1.2.3.5:5; }\n}",
		"t.conf:2:2: in resource r0, on alice { ... }: 'device' keyword missing.\nt.conf:3:2: in resource r0, on bob { ... }: 'disk' keyword missing."},
	{"no hosts", "resource r0 { }", "t.conf:1:1: in resource r0: a host section ('on NAME { ... }') is missing."},
	{"same address", "resource r0 {\n on a { device minor 0; disk /dev/a; address 10.77.0.1:7788; }\n on b { device minor 0; disk /dev/a; address 10.77.0.1:7788; }\n}",
		"t.conf:3:38: conflicting use of IP '10.77.0.1:7788' ...\nt.conf:2:38: IP '10.77.0.1:7788' first used here."},
	{"same minor", "resource r0 {\n on a { device minor 0; disk /dev/a; address 10.0.0.1:1; }\n}\nresource r1 {\n on a { device /dev/drbd0; disk /dev/b; address 10.0.0.1:2; }\n}",
		"t.conf:5:9: conflicting use of device-minor 'device-minor:a:0' ...\nt.conf:2:9: device-minor 'device-minor:a:0' first used here."},
	{"same disk", "resource r0 {\n on a { device minor 0; disk /dev/a; address 10.0.0.1:1; }\n}\nresource r1 {\n on a { device minor 1; disk /dev/a; address 10.0.0.1:2; }\n}",
		"t.conf:5:25: conflicting use of disk 'disk:a:/dev/a' ...\nt.conf:2:25: disk 'disk:a:/dev/a' first used here."},
	{"same metadata slot", "resource r0 { on a { volume 0 { device minor 0; disk /a; meta-disk /m[0]; } volume 1 { device minor 1; disk /b; meta-disk /m [0]; } address 10.0.0.1:1; } }",
		"t.conf:1:113: conflicting use of meta-disk 'meta-disk:a:/m[0]' ...\nt.conf:1:58: meta-disk 'meta-disk:a:/m[0]' first used here."},
	{"resource twice", "resource r0 {" + twoHosts + "}\nresource r0 { }",
		"t.conf:5:1: conflicting use of resource section 'r0' ...\nt.conf:1:1: resource section 'r0' first used here."},
	{"section twice", "resource r0 {\n net { timeout 5; }\n net { ping-int 5; }" + twoHosts + "}",
		"t.conf:3:2: conflicting use of net section 'r0:net' ...\nt.conf:2:2: net section 'r0:net' first used here."},
	{"host twice", "resource r0 {" + twoHosts + "on bob { } }",
		"t.conf:4:1: conflicting use of host section 'r0: on bob' ...\nt.conf:3:1: host section 'r0: on bob' first used here."},
	{"volume missing", "resource r0 {\n on a { volume 0 { device minor 0; disk /a; } volume 1 { device minor 1; disk /b; } address 10.0.0.1:1; }\n on b { device minor 0; disk /a; address 10.0.0.2:1; } }",
		"t.conf:2:47: in resource r0, on a { ... }: volume 1 not defined on b"},
	{"no port", "resource r0 { on a { address 10.0.0.1; device minor 0; disk /a; } }", "t.conf:1:30: address '10.0.0.1' has no port"},
	{"bad address", "resource r0 { on a { address 10.0.0.300:1; } }", "t.conf:1:30: '10.0.0.300' is neither an IP address nor a host name"},
	{"family", "resource r0 { on a { address ssocks 10.0.0.1:1; } }", "t.conf:1:37: address family 'ssocks' is refused: the link is QUIC over UDP; use ipv4 or ipv6"},
	{"bare IPv6", "resource r0 { on a { address ipv6 fd00::1:7788; } }", "t.conf:1:35: address 'fd00::1:7788': an IPv6 address is written [ADDRESS]:PORT"},
	{"minor", "resource r0 { on a { device /dev/foo; } }", "t.conf:1:22: no minor given nor device name contains a minor number"},
	{"string", "resource r0 {\n handlers { split-brain \"x\n y\"; } }", "t.conf:2:25: string is not closed on its line"},
	{"invisible space", "resource\u00a0r0 { }", "t.conf:1:9: invisible character U+00A0 where a plain space should be (copied from a web page?)"},
	{"curly quotes", "include “drbd.d/*.res”;", "t.conf:1:9: character '“' (U+201C) where a plain quote, brace or semicolon should be"},
	{"not UTF-8", "resource r\xff { }", "t.conf:1:11: byte 0xff is not UTF-8"},
	{"skip", "skip resource x", "t.conf:1:1: skip: '{' expected"},
	{"node-id", "resource r0 { on a { node-id 32; } }", "t.conf:1:30: node-id 32 => out of range [0..31]"},
	{"fingerprint", "resource r0 { on a { certificate-fingerprint sha1:00; } }",
		"t.conf:1:46: certificate-fingerprint 'sha1:00' should be sha256: and 64 hexadecimal digits, as drship keygen prints it"},
	{"connection", "resource r0 {" + twoHosts + "connection { host alice; host bbo; } }",
		"t.conf:4:26: in resource r0: host 'bbo' has no section 'on'; did you mean 'bob'?"},
	{"one end", "resource r0 {" + twoHosts + "connection { host alice; } }",
		"t.conf:4:1: a connection needs two 'host' keywords, or path sections that hold them"},
	{"stacked on nothing", "resource r0 {" + twoHosts + "} resource up { stacked-on-top-of r9 { device minor 10; address 1.1.1.1:1; } }",
		"t.conf:4:17: in resource up: resource 'r9' of stacked-on-top-of is not known"},
	{"secret", "resource r0 { net { cram-hmac-alg sha1; } " + twoHosts + "}", "t.conf:1:21: in resource r0: cram-hmac-alg needs a shared-secret"},
	{"fencing with A", "resource r0 { net { protocol A; fencing resource-and-stonith; } " + twoHosts + "}",
		"t.conf:1:33: in resource r0: fencing resource-and-stonith does not go with protocol A"},
	{"resync-after in a circle", "resource a { disk { resync-after a; }" + twoHosts + "}", "t.conf:1:21: in resource a: resync-after a leads back to a"},
	{"plain NBD", "global { nbd-listen 0.0.0.0:10809; }",
		"t.conf:1:10: nbd-listen 0.0.0.0:10809 reaches beyond this machine: it needs nbd-tls-cert and nbd-tls-key, or allow-plaintext-nbd yes"},
	{"key without certificate", "global { nbd-tls-key /etc/k.pem; }", "t.conf:1:10: nbd-tls-cert and nbd-tls-key are needed together, nbd-tls-ca goes with them"},
	{"missing include", "include \"gone.conf\";", "t.conf:1:9: include gone.conf: no such file"},
	{"rate schedule", "resource r0 { wan { rate-schedule \"mon-fir 08:00-18:00 20M\"; }" + twoHosts + "}",
		"t.conf:1:35: rate-schedule: 'mon-fir' are no days; write mon-fri or sat,sun"},
	{"verify schedule", "resource r0 { net { verify-schedule \"0 3 * *\"; }" + twoHosts + "}",
		"t.conf:1:37: verify-schedule: '0 3 * *' has 4 fields; cron's are five: minute hour day month weekday"},
	{"all", "resource all {" + twoHosts + "}", "t.conf:1:10: a resource cannot be called 'all': verbs mean every resource by it"},
}

func TestErrors(t *testing.T) {
	for _, c := range errorCases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("t.conf", []byte(c.text), tree{}.options())
			if err == nil {
				t.Fatal("no error")
			}
			want := c.want
			got := err.Error()
			if !strings.HasPrefix(got, want) || len(got) > len(want) && got[len(want)] != '\n' {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			var one *Error
			if !errors.As(err, &one) || !one.Pos.IsValid() {
				t.Errorf("%T holds no *Error with a position", err)
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	text := "resource r0 { net { " + strings.Repeat("foo 1;", 1000) + " } }"
	_, err := Parse("t.conf", []byte(text), ParseOptions{})
	var list ErrorList
	if !errors.As(err, &list) || len(list) != maxErrors+1 {
		t.Fatalf("%d errors", len(list))
	}
	if _, err := Parse("t.conf", make([]byte, maxFileSize+1), ParseOptions{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
	if _, err := Parse("t.conf", []byte("skip x "+strings.Repeat("{", 10000)), ParseOptions{}); err == nil || !strings.Contains(err.Error(), "deeper than") {
		t.Errorf("deep braces: %v", err)
	}
}

func TestIncludeBounds(t *testing.T) {
	files := tree{"/a.conf": "include \"/b.conf\";", "/b.conf": "include \"/a.conf\";"}
	c, err := Parse("/a.conf", []byte(files["/a.conf"]), files.options())
	if err != nil || len(c.Files) != 2 || len(c.Warnings) != 1 {
		t.Errorf("a circle of includes: %v, %+v", err, c)
	}
	deep := tree{}
	for i := range 100 {
		deep[fmt.Sprintf("/%d.conf", i)] = fmt.Sprintf("include \"%d.conf\";", i+1)
	}
	_, err = Parse("/0.conf", []byte(deep["/0.conf"]), deep.options())
	if err == nil || !strings.Contains(err.Error(), "nested deeper than 16") {
		t.Errorf("a hundred includes deep: %v", err)
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.conf"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	var list ErrorList
	if errors.As(err, &list) {
		t.Error("a missing file is no error of its text")
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"net { sndbuf-size 512k; }", "test.conf:3:7: sndbuf-size: accepted without effect: a TCP buffer of the kernel"},
		{"net { sndbuf-size 0; tcp-cork yes; after-sb-0pri disconnect; }", ""},
		{"net { shared-secret x; }", "test.conf:3:7: shared-secret has no effect without cram-hmac-alg"},
		{"net { timeout 600; }", "test.conf:3:7: timeout should be shorter than connect-int and ping-int"},
		{"syncer { group 1; }", "test.conf:3:10: group: 0.7's groups are gone"},
		{"disk { sync-rate 40M; }", "test.conf:3:8: sync-rate: sync-rate is no name"},
		{"disk { resync-after zz; }", "test.conf:3:8: in resource r0: resource 'zz' mentioned in 'resync-after' option is not known"},
		{"options { quorum majority; }", "test.conf:3:11: quorum: accepted without effect: there is no quorum"},
	} {
		r := oneResource(t, "", c.text)
		ws := r.config.Warnings
		if c.want == "" {
			if len(ws) > 0 {
				t.Errorf("%s: warned %v", c.text, ws)
			}
			continue
		}
		if len(ws) == 0 || !strings.HasPrefix(ws[0].String(), c.want) {
			t.Errorf("%s: got %v, want %s", c.text, ws, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"timeout", "ping-timeout", "resync-rate", "disk"}
	for word, want := range map[string]string{
		"timeuot": "timeout", "timout": "timeout", "resyncrate": "resync-rate", "dsik": "disk", "frobnicate": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
