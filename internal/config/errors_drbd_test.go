package config

import (
	"errors"
	"strings"
	"testing"
)

const hostsOnLines = " on alice { device /dev/drbd0; disk /dev/a; address 10.77.0.1:7788; meta-disk internal; } on bob { device /dev/drbd0; disk /dev/a; address 10.77.0.2:7788; meta-disk internal; }"

// The texts are those of drbdadm 9.22 in its 8.4 personality.
func TestErrorsAsDrbdadm(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"global { usage-count no; }\nresource r0 {\n  protocol C;\n  frobnicate yes;\n" + hostsOnLines + " }",
			"bad.conf:4: Parse error: 'protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of' expected,\n\tbut got 'frobnicate' (TK 282)"},
		{"resource r0 {\n  net {\n  protocol C;\n  on alice {\n  device /dev/drbd0;\n }", "bad.conf:4: Parse error: 'an option keyword' expected,\n\tbut got 'on'"},
		{"resource r0 {\n  net {\n  protocol C } on alice { } }", "bad.conf:3: Parse error: ';' expected,\n\tbut got '}' (TK 125)"},
		{"resource r0 {\n net { timeuot 50; }\n" + hostsOnLines + " }", "bad.conf:2: Parse error: 'an option keyword' expected,\n\tbut got 'timeuot'"},
		{"resource r0 {\n net { timeout; }\n" + hostsOnLines + " }", "bad.conf:2: Parse error: 'TK_STRING | TK_INTEGER' expected,\n\tbut got ';' (TK 59)"},
		{"resource r0 {\n syncer { foo 3; }\n" + hostsOnLines + " }", "bad.conf:2: Parse error: 'a syncer option keyword' expected,\n\tbut got 'foo'"},
		{"common { netz { } }", "bad.conf:1: Parse error: 'protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of' expected,\n\tbut got 'netz' (TK 282)"},
		{"global { usage-cuont no; }", "bad.conf:1: Parse error: 'dialog-refresh | minor-count | disable-ip-verification' expected,\n\tbut got 'usage-cuont'"},
		{"resource r0 {\n on alice { device /dev/drbd0; dsik /dev/a; address 10.77.0.1:7788; }\n}",
			"bad.conf:2: Parse error: 'disk | device | address | meta-disk | flexible-meta-disk' expected,\n\tbut got 'dsik'"},
		{"resource r0 {\n net {\n protocol D; }\n" + hostsOnLines + " }", "unknown protocol 'D', should be one of A,B,C"},
		{"resource r0 {\n net {\n ping-int 9999; }\n" + hostsOnLines + " }", "bad.conf:3: ping-int 9999 => 9999 out of range [1..120]."},
		{"resource r0 {\n net {\n timeout foo; }\n" + hostsOnLines + " }", "foo is not a valid number"},
		{"resource r0 {\n net {\n sndbuf-size 10Q; }\n" + hostsOnLines + " }", "10Q is not a valid number"},
		{"resource r0 {\n net {\n timeout 99999999999999999999999; }\n" + hostsOnLines + " }", "bad.conf:3: timeout 99999999999999999999999 => 18446744073709551615 out of range [1..600]."},
		{"resource r0 {\n net {\n ping-int -5; }\n" + hostsOnLines + " }", "bad.conf:3: ping-int -5 => 18446744073709551611 out of range [1..120]."},
		{"resource r0 {\n net {\n allow-two-primaries maybe; }\n" + hostsOnLines + " }", "bad.conf:3: Parse error: 'yes | no | ;' expected,\n\tbut got 'maybe'"},
		{"global { dialog-refresh abc; }", "bad.conf:1: Parse error: 'TK_INTEGER' expected,\n\tbut got 'abc' (TK 282)"},
		{"resource r0 {\n" + strings.Replace(hostsOnLines, "drbd0", "drbd0 minor x", 1) + " }", "bad.conf:2: Parse error: 'TK_INTEGER' expected,\n\tbut got 'x' (TK 282)"},
		{"resource r0 {\n" + strings.Replace(hostsOnLines, "7788", "77x", 1) + " }", "bad.conf:2: Parse error: 'TK_INTEGER' expected,\n\tbut got '77x' (TK 282)"},
		{"resource r0 {\n" + strings.Replace(hostsOnLines, "device", "volume z { device", 1) + " }", "bad.conf:2: Parse error: 'TK_INTEGER' expected,\n\tbut got 'z' (TK 282)"},
		{"resource r0 {\n on alice {\n device /dev/drbd0; disk /dev/a; meta-disk internal; }\n on bob { device /dev/drbd0; disk /dev/a; address 10.77.0.2:7788; } }",
			"bad.conf:2: in resource r0, on alice { ... }: 'address' keyword missing."},
		{"resource r0 {\n on alice { device /dev/drbd0; disk /dev/a; address 10.77.0.1:7788; }\n on bob { device /dev/drbd0; disk /dev/a; address 10.77.0.1:7788; } }",
			"bad.conf:3: conflicting use of IP '10.77.0.1:7788' ...\nbad.conf:2: IP '10.77.0.1:7788' first used here."},
		{"resource r0 {\n handlers { split-brain \"x\n", "bad.conf:2: Unterminated double quoted string\n  we don't allow embedded newlines"},
		{"include \"nope.conf\";\n", "bad.conf:1: Failed to open include file 'nope.conf'."},
	} {
		_, err := Parse("bad.conf", []byte(c.text), tree{}.options())
		list, ok := errors.AsType[ErrorList](err)
		if !ok {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if code := list.DRBDExit(); (code == 20) != strings.HasSuffix(c.want, " is not a valid number") {
			t.Errorf("%q: exit code %d", c.text, code)
		}
		if got := list.DRBD(); got != c.want && !strings.HasPrefix(got, c.want+"\n") {
			t.Errorf("%q:\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

// What a word means is drbdsetup's business: to print it, drbdadm takes any.
func TestWordsAsWritten(t *testing.T) {
	text := "resource r0 { net { on-congestion explode; verify-alg nosuch; }" + hostsOnLines + " }"
	o := tree{}.options()
	if _, err := Parse("bad.conf", []byte(text), o); err == nil {
		t.Error("a word that no option knows was taken")
	}
	o.AnyWord = true
	c, err := Parse("bad.conf", []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Resource("r0").Net.Set["on-congestion"].Value; got != "explode" {
		t.Errorf("%q", got)
	}
}

func TestTestsAFileBesideTheOthers(t *testing.T) {
	main := "include \"a.res\";\n"
	files := tree{"a.res": "resource a {" + hostsOnLines + " }", "new.res": strings.NewReplacer("drbd0", "drbd1", "7788", "7789", "/dev/a", "/dev/b").Replace("resource b {" + hostsOnLines + " }"),
		"bad.res": "resource b {" + hostsOnLines + " }"}
	o := files.options()
	o.Test = "new.res"
	if c, err := Parse("main.conf", []byte(main), o); err != nil || c.Resource("a") == nil || c.Resource("b") == nil {
		t.Errorf("a new file beside the others: %v", err)
	}
	o.Test = "bad.res"
	if _, err := Parse("main.conf", []byte(main), o); err == nil || !strings.Contains(err.Error(), "conflicting use") {
		t.Errorf("a new file that takes what another has: %v", err)
	}
	o.Exclude = "a.res"
	if c, err := Parse("main.conf", []byte(main), o); err != nil || c.Resource("a") != nil {
		t.Errorf("with the other left out: %v", err)
	}
}
