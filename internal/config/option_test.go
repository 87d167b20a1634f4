package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/options.md instead of comparing it")

func TestOptionTable(t *testing.T) {
	ix := index()
	seen := map[string]bool{}
	for _, o := range ix.all {
		name := o.Section + "/" + o.Name
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if o.Note == "" || o.In == "" {
			t.Errorf("%s does not say what drship does, or where the option comes from", name)
		}
		if o.Default != "" {
			if _, err := o.parse(o.Default); err != nil {
				t.Errorf("%s: the default breaks its own rule: %v", name, err)
			}
		}
		if o.Kind == Number && o.Min > o.Max || o.Kind == Enum && len(o.Values) == 0 {
			t.Errorf("%s allows nothing", name)
		}
		if o.bind == nil {
			if o.Class == Honoured && o.Section != "plugin" && o.Section != "handlers" {
				t.Errorf("%s is honoured, and its value goes nowhere", name)
			}
			continue
		}
		checkBinding(t, name, o)
	}
	for _, a := range ix.allAlias {
		if a.drop {
			if a.note == "" {
				t.Errorf("%s/%s is dropped without a word", a.section, a.name)
			}
			continue
		}
		o := ix.options[a.toSection][a.toName]
		if o == nil {
			t.Errorf("%s/%s leads nowhere", a.section, a.name)
			continue
		}
		for _, v := range append([]string{a.fixed}, mapValues(a.values)...) {
			if _, err := o.parse(v); v != "" && err != nil {
				t.Errorf("%s/%s becomes %s %s: %v", a.section, a.name, o.Name, v, err)
			}
		}
	}
}

func mapValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// checkBinding wants a field of the kind that the option's values need, and no field bound twice.
func checkBinding(t *testing.T, name string, o *Option) {
	t.Helper()
	var v sections
	var ok bool
	switch o.bind(&v).(type) {
	case *string:
		ok = o.Kind == Text || o.Kind == Enum
	case *byte:
		ok = o.Kind == Enum
	case *bool:
		ok = o.Kind == Bool
	case *int:
		ok = o.Kind == Number && o.tick == 0 && o.Scale == '1'
	case *int64:
		ok = o.Kind == Number && o.tick == 0
	case *time.Duration:
		ok = o.Kind == Number && o.tick != 0
	case *[]string:
		ok = o.Kind == Words
	}
	if !ok {
		t.Errorf("%s: a value of kind %d goes to a %T", name, o.Kind, o.bind(&v))
	}
	for _, other := range index().all {
		if other != o && other.bind != nil && reflect.ValueOf(other.bind(&v)).Pointer() == reflect.ValueOf(o.bind(&v)).Pointer() &&
			reflect.TypeOf(other.bind(&v)) == reflect.TypeOf(o.bind(&v)) {
			t.Errorf("%s and %s share a field", name, other.Name)
		}
	}
}

// docs/options.md is written from the tables: go test ./internal/config -run Documented -update
func TestOptionsAreDocumented(t *testing.T) {
	const path = "../../docs/options.md"
	want := optionsDoc()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the tables say; run this test with -update:\n%s", path, firstDifference(string(got), want))
	}
}

func optionsDoc() string {
	var b bytes.Buffer
	intro, err := os.ReadFile("testdata/options-intro.md")
	if err != nil {
		return err.Error()
	}
	b.Write(intro)
	class := map[Class]string{Honoured: "honoured", NoEffect: "no effect", NotYet: "no effect yet", Refused: "refused"}
	section := ""
	for _, o := range OptionTable() {
		if o.Section != section {
			section = o.Section
			title := section + " { }"
			if section == "plugin" {
				title = "proxy { plugin { } }"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| option | DRBD | default | values | class | what drship does |\n|---|---|---|---|---|---|\n", title)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", o.Name, o.In, code(o.Default), values(&o), class[o.Class], cell(o.Note))
	}
	fmt.Fprintf(&b, "\n## Old names\n\n| where | name | DRBD | read as |\n|---|---|---|---|\n")
	for _, a := range index().allAlias {
		as := fmt.Sprintf("`%s { %s }`", a.toSection, strings.TrimSpace(a.toName+" "+a.fixed))
		for old, to := range a.values {
			as = fmt.Sprintf("`%s { %s %s }` for `%s`", a.toSection, a.toName, to, old)
		}
		if a.drop {
			as = "nothing"
		}
		if a.note != "" {
			as += ", with a warning: " + cell(a.note)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", a.section, a.name, a.in, as)
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// values gives range and unit, or the words allowed.
func values(o *Option) string {
	switch o.Kind {
	case Number:
		return strings.TrimSpace(fmt.Sprintf("%d … %d %s", o.Min, o.Max, o.Unit))
	case Enum:
		return strings.Join(o.Values, ", ")
	case Bool:
		return "yes, no"
	case Words:
		return "words"
	}
	return "text"
}
