package config

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The goldens named drbdadm-* are what DRBD's own drbdadm printed for the same text.
func TestDumpLikeDrbdadm(t *testing.T) {
	for _, c := range []struct{ conf, node string }{
		{"plain", "alice"}, {"nine", "alice"}, {"rich", "vm"}, {"old", "vm"}, {"stacked", "vm"}, {"floating", "vm"}, {"proxy", "vm"},
	} {
		t.Run(c.conf, func(t *testing.T) {
			cfg := parseFile(t, filepath.Join("testdata", c.conf+".conf"))
			var b bytes.Buffer
			if err := cfg.DumpWith(&b, DumpOptions{Node: c.node}); err != nil {
				t.Fatal(err)
			}
			compare(t, filepath.Join("testdata", "drbdadm-"+c.conf+".dump"), b.String())
			b.Reset()
			if err := cfg.DumpXML(&b); err != nil {
				t.Fatal(err)
			}
			compare(t, filepath.Join("testdata", "drbdadm-"+c.conf+".xml"), b.String())
		})
	}
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", golden, firstDifference(string(want), got))
	}
}

// parseFile parses a file with its includes.
func parseFile(t *testing.T, name string) *Config {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(name, text, ParseOptions{Open: os.ReadFile, Glob: filepath.Glob})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// roundTrip prints c and reads it back; both must mean the same, and print the same.
func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	var first, second bytes.Buffer
	if err := c.Dump(&first); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(c.Path, first.Bytes(), ParseOptions{Open: os.ReadFile, Glob: filepath.Glob, Addresses: c.addrs})
	if err != nil {
		t.Fatalf("the dump does not parse: %v\n%s", err, first.String())
	}
	if err := again.Dump(&second); err != nil {
		t.Fatal(err)
	}
	if a, b := withoutPlaces(first.String()), withoutPlaces(second.String()); a != b {
		t.Errorf("the dump of the dump differs:\n%s", firstDifference(a, b))
	}
	if a, b := shape(t, c), shape(t, again); a != b {
		t.Errorf("the dump means something else:\n%s", firstDifference(a, b))
	}
}

func withoutPlaces(dump string) string {
	var out []string
	for line := range strings.SplitSeq(dump, "\n") {
		if !strings.HasPrefix(line, "# defined at ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { roundTrip(t, parseFile(t, f)) })
	}
}

func TestDumpSelected(t *testing.T) {
	c := mustParse(t, "global { usage-count no; } common { } resource a {"+twoHosts+"} resource b { on x { device minor 7; disk /d; address 10.0.0.9:1; } }")
	var b bytes.Buffer
	if err := c.DumpWith(&b, DumpOptions{Node: "x", Resources: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, "# resource b on x: not ignored, not stacked\n# defined at test.conf:") || strings.Contains(got, "resource a") {
		t.Errorf("dump of one resource:\n%s", got)
	}
	b.Reset()
	if err := c.DumpXMLWith(&b, DumpOptions{Resources: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, "<resource name=\"b\" ") {
		t.Errorf("XML of one resource:\n%s", got)
	}
}

func TestXMLIsWellFormed(t *testing.T) {
	c := mustParse(t, `resource "a<&>'\"" { handlers { split-brain "x < y && z > \"q\""; }`+twoHosts+"}")
	var b bytes.Buffer
	if err := c.DumpXML(&b); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&b)
	found := false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "resource" {
			found = e.Attr[0].Value == `a<&>'"`
		}
	}
	if !found {
		t.Error("the resource's name did not survive")
	}
}

// failingWriter refuses everything.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestDumpReportsWriteErrors(t *testing.T) {
	c := mustParse(t, "resource a {"+twoHosts+"}")
	if err := c.Dump(failingWriter{}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("Dump: %v", err)
	}
	if err := c.DumpXML(failingWriter{}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("DumpXML: %v", err)
	}
}
