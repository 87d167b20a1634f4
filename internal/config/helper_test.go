package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"sort"
	"strings"
	"testing"
)

// tree is a file system of texts for Parse.
type tree map[string]string

func (t tree) options() ParseOptions {
	return ParseOptions{
		Open: func(name string) ([]byte, error) {
			text, ok := t[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("no such file")}
			}
			return []byte(text), nil
		},
		Glob: func(pattern string) ([]string, error) {
			var out []string
			for name := range t {
				if ok, err := path.Match(pattern, name); err != nil {
					return nil, err
				} else if ok {
					out = append(out, name)
				}
			}
			sort.Strings(out)
			return out, nil
		},
	}
}

// twoHosts is the shortest complete pair of host sections.
const twoHosts = `
on alice { device /dev/drbd0; disk /dev/sda; meta-disk internal; address 10.0.0.1:7788; }
on bob   { device /dev/drbd0; disk /dev/sda; meta-disk internal; address 10.0.0.2:7788; }
`

// mustParse parses a text that is right.
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.conf", []byte(text), tree{}.options())
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return c
}

// oneResource parses a resource r0 with two hosts and what is given, below what stands before it.
func oneResource(t *testing.T, before, inside string) *Resource {
	t.Helper()
	return mustParse(t, before+"\nresource r0 {\n"+inside+twoHosts+"}\n").Resource("r0")
}

// shape gives all that a configuration says, without places: two texts mean the same where their shapes are equal.
func shape(t *testing.T, c *Config) string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	top := v.(map[string]any)
	delete(top, "Path")
	delete(top, "Files")
	delete(top, "Warnings")
	out, err := json.MarshalIndent(withoutPos(v), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func withoutPos(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "Pos")
		for k := range v {
			v[k] = withoutPos(v[k])
		}
	case []any:
		for i := range v {
			v[i] = withoutPos(v[i])
		}
	}
	return v
}

// firstDifference shows where two texts part.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[max(0, i-3)] + "\n- " + x[i] + "\n+ " + y[i]
		}
	}
	return "one is longer"
}
