package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Ordered returns the options of a set in the order in which they were written.
func (s Set) Ordered() []Setting {
	out := make([]Setting, 0, len(s))
	for _, one := range s {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Setting) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col), strings.Compare(a.Name, b.Name))
	})
	return out
}

// Shown is an option's value as `drbdsetup show` prints it.
type Shown struct {
	Text    string // without quotes: a number carries the suffix of its scale
	Unit    string // "bytes/second", "1/10 seconds", "" for none
	Quoted  bool
	Default bool // means what silence means
}

// Show gives the value of a section's option in its one form: two values that mean the same have the same text. A name that the
// section does not know, or a value that does not parse, is shown as it is.
func Show(section, name, value string) Shown {
	o := index().options[section][name]
	if o == nil {
		return Shown{Text: value, Quoted: true}
	}
	s := Shown{Text: value, Unit: o.shownUnit(), Quoted: o.Kind == Text || o.Kind == Words, Default: o.isDefault(value)}
	n, err := o.parse(value)
	switch {
	case err != nil:
	case o.Kind == Bool && n == 1:
		s.Text = "yes"
	case o.Kind == Bool:
		s.Text = "no"
	case o.Kind == Number:
		s.Text = fmt.Sprint(n)
		if o.Scale != '1' {
			s.Text += string(o.Scale)
		}
	}
	return s
}

// shownUnit is the remark that drbdsetup puts behind a value.
func (o *Option) shownUnit() string {
	switch {
	case o.Kind != Number:
		return ""
	case o.Unit == "0.1 s":
		return "1/10 seconds"
	case o.Unit == "s":
		return "seconds"
	case strings.HasSuffix(o.Unit, "/s"):
		return "bytes/second"
	case o.Unit == "sectors" || o.Unit == "bytes":
		return "bytes"
	}
	return ""
}

// SectionOptions lists the options of a section by name, with their old names' targets left out, in the order of the table.
func SectionOptions(section string) []Option {
	var out []Option
	for _, o := range index().all {
		if o.Section == section {
			out = append(out, *o)
		}
	}
	return out
}

// FindOption returns the option that a name means in a section, by its name of today or an older one.
func FindOption(section, name string) (Option, bool) {
	ix := index()
	if a := ix.aliases[section][name]; a != nil && a.toSection == section && !a.drop {
		name = a.toName
	}
	o := ix.options[section][name]
	if o == nil {
		return Option{}, false
	}
	return *o, true
}

// NetDefaults are the net options of a configuration that says nothing.
func NetDefaults() Net { return newSections().Net }

// DiskDefaults are the disk options of a configuration that says nothing.
func DiskDefaults() Disk { return newSections().Disk }

// OptionsDefaults are the resource options of a configuration that says nothing.
func OptionsDefaults() Options { return newSections().Options }
