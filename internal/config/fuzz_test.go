package config

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// FuzzParse: whatever the text, Parse ends, its errors have places, and what it takes survives being printed.
func FuzzParse(f *testing.F) {
	for _, c := range errorCases {
		f.Add([]byte(c.text))
	}
	_, all := roots(f)
	for _, dir := range []string{"plain", "nine", "rich", "old", "stacked", "floating", "proxy", "ours"} {
		all = append(all, "testdata/"+dir+".conf")
	}
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	o := tree{
		"a.res": "resource a {" + twoHosts + "}", "self.conf": "include \"self.conf\"; include \"a.res\";",
		"tpl.conf": "common { net { timeout 9; } }",
	}.options()
	o.Addresses = []string{"10.0.0.1"}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("t.conf", text, o)
		if err != nil {
			var list ErrorList
			if !errors.As(err, &list) || len(list) > maxErrors+1 {
				t.Fatalf("%T with %d errors", err, len(list))
			}
			for _, e := range list {
				if !e.Pos.IsValid() || e.Text == "" {
					t.Fatalf("an error without place or text: %+v", e)
				}
			}
			return
		}
		for _, r := range c.Resources {
			for _, h := range r.Hosts {
				r.Peers(h.Name)
			}
		}
		var first, second bytes.Buffer
		if err := c.Dump(&first); err != nil {
			t.Fatal(err)
		}
		if err := c.DumpXML(&second); err != nil {
			t.Fatal(err)
		}
		second.Reset()
		again, err := Parse("t.conf", first.Bytes(), o)
		if err != nil {
			t.Fatalf("the dump does not parse: %v\n%s", err, first.String())
		}
		if err := again.Dump(&second); err != nil {
			t.Fatal(err)
		}
		if a, b := withoutPlaces(first.String()), withoutPlaces(second.String()); a != b {
			t.Fatalf("the dump of the dump differs:\n%s", firstDifference(a, b))
		}
	})
}
