package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Class says what drship does with an option.
type Class uint8

// The classes of option.
const (
	Honoured Class = iota // does what DRBD's documentation, or ours, says
	NoEffect              // accepted; a value other than the default brings a warning that says why
	NotYet                // as NoEffect: meant to be honoured, not in effect in this version
	Refused               // any value but the default is an error that says why
)

// Kind is the shape of an option's value.
type Kind uint8

// The kinds of value.
const (
	Text   Kind = iota // anything
	Bool               // yes or no; standing alone means yes
	Number             // see parseNumber; Scale, Min and Max apply
	Enum               // one of Values
	Words              // several words
)

// Option describes one option: the row of the table from which the parser, the documentation and the shell
// completion live.
type Option struct {
	Section string // net, disk, options, startup, handlers, proxy, plugin, journal, wan, global
	Name    string
	Kind    Kind
	Default string // as one would write it, "" for unset
	Min     int64  // in the option's own scale
	Max     int64
	Scale   byte   // what a bare number counts: '1', 's' sectors, 'k' KiB
	Unit    string // for the reader: "0.1 s", "bytes"
	Values  []string
	In      string // DRBD lines that know it; "drship" where it is ours
	Class   Class
	Note    string // what drship does with it

	check func(string) error // further check of a text
	tick  time.Duration      // what one unit is, for a time
	bind  func(*sections) any
}

// sections is the typed form of all sections; options bind to fields of it.
type sections struct {
	Net     Net
	Disk    Disk
	Options Options
	Startup Startup
	Proxy   Proxy
	Journal Journal
	WAN     WAN
	Global  Global
}

// parse checks a value and gives it as a number: in the own scale of a Number, 1 for yes, 0 for all that is no number.
func (o *Option) parse(value string) (int64, error) {
	switch o.Kind {
	case Bool:
		b, err := parseBool(value)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", o.Name, err)
		}
		if b {
			return 1, nil
		}
		return 0, nil
	case Number:
		n, err := parseNumber(value, o.Scale)
		if wrong, ok := errors.AsType[*numberError](err); ok && wrong.outside {
			return 0, fmt.Errorf("%s %s => %d out of range [%d..%d]", o.Name, value, wrong.as, o.Min, o.Max)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w%s", o.Name, err, o.rateHint(value))
		}
		if n < o.Min || n > o.Max {
			return 0, fmt.Errorf("%s %s => %d out of range [%d..%d]", o.Name, value, n, o.Min, o.Max)
		}
		return n, nil
	case Enum:
		if slices.Contains(o.Values, value) {
			return 0, nil
		}
		return 0, &valueError{
			text:    fmt.Sprintf("unknown %s '%s', should be one of %s", o.Name, value, strings.Join(o.Values, ",")),
			nearest: nearest(value, o.Values),
		}
	}
	if o.check != nil {
		if err := o.check(value); err != nil {
			return 0, fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	return 0, nil
}

// valueError is an error in a value that a known value is near to.
type valueError struct{ text, nearest string }

func (e *valueError) Error() string { return e.text }

// rateHint tells who wrote bits that rates count bytes.
func (o *Option) rateHint(value string) string {
	if strings.HasSuffix(o.Unit, "/s") && strings.Contains(strings.ToLower(value), "b") {
		return "; rates are in bytes a second: 33M is 33 MiB/s"
	}
	return ""
}

// assign stores value, already parsed as n, where the option lives.
func (o *Option) assign(v *sections, value string, n int64) {
	if o.bind == nil {
		return
	}
	switch p := o.bind(v).(type) {
	case *string:
		*p = value
	case *byte:
		*p = value[0]
	case *bool:
		*p = n == 1
	case *int:
		*p = int(n)
	case *int64:
		*p = n * scaleBytes(o.Scale)
	case *time.Duration:
		*p = time.Duration(n) * o.tick
	case *[]string:
		*p = strings.Fields(value)
	}
}

// isDefault reports whether value means what silence means.
func (o *Option) isDefault(value string) bool {
	if value == o.Default {
		return true
	}
	if o.Kind != Bool && o.Kind != Number || o.Default == "" {
		return false
	}
	a, errA := o.parse(value)
	b, errB := o.parse(o.Default)
	return errA == nil && errB == nil && a == b
}

// set parses value and stores it.
func (o *Option) set(v *sections, value string) error {
	n, err := o.parse(value)
	if err != nil {
		return err
	}
	o.assign(v, value, n)
	return nil
}

// alias is an old or foreign name: section/name stands for toSection/toName. With fixed set the option's value is
// that (a flag that says no, say); values maps old values to new ones.
type alias struct {
	section, name     string
	toSection, toName string
	fixed             string
	values            map[string]string
	in, note          string
	drop              bool // has no successor: accepted with note as warning
}

// optionIndex finds options and aliases.
type optionIndex struct {
	options  map[string]map[string]*Option
	aliases  map[string]map[string]*alias
	defaults sections
	all      []*Option
	allAlias []*alias
}

var index = sync.OnceValue(buildIndex)

func buildIndex() *optionIndex {
	ix := &optionIndex{options: map[string]map[string]*Option{}, aliases: map[string]map[string]*alias{}}
	for _, table := range [][]Option{
		netOptions(), netSecurityOptions(), diskOptions(), resyncOptions(), resourceOptions(), startupOptions(),
		handlerOptions(), proxyOptions(), journalOptions(), wanOptions(), globalOptions(),
	} {
		for i := range table {
			o := &table[i]
			if ix.options[o.Section] == nil {
				ix.options[o.Section] = map[string]*Option{}
			}
			ix.options[o.Section][o.Name] = o
			ix.all = append(ix.all, o)
		}
	}
	old := aliases()
	for i := range old {
		a := &old[i]
		if ix.aliases[a.section] == nil {
			ix.aliases[a.section] = map[string]*alias{}
		}
		ix.aliases[a.section][a.name] = a
		ix.allAlias = append(ix.allAlias, a)
	}
	for _, o := range ix.all {
		if o.Default != "" {
			_ = o.set(&ix.defaults, o.Default) // a test holds every default against its own rule
		}
	}
	return ix
}

// OptionTable returns every option that drship knows, section by section, in the order of the tables.
func OptionTable() []Option {
	ix := index()
	out := make([]Option, len(ix.all))
	for i, o := range ix.all {
		out[i] = *o
	}
	return out
}

// names lists what may stand in a section, aliases included.
func (ix *optionIndex) names(section string) []string {
	var out []string
	for n := range ix.options[section] {
		out = append(out, n)
	}
	for n := range ix.aliases[section] {
		out = append(out, n)
	}
	return out
}

// sectionsWith lists the sections that know the option.
func (ix *optionIndex) sectionsWith(name string) []string {
	var out []string
	for section := range ix.options {
		if ix.options[section][name] != nil {
			out = append(out, section)
		}
	}
	slices.Sort(out)
	return out
}

// With returns n with one option changed, as `net-options --name=value` does; the error names range or values.
func (n Net) With(name, value string) (Net, error) {
	v := sections{Net: n}
	err := setOne(&v, "net", name, value, &v.Net.Set)
	return v.Net, err
}

// With returns d with one option changed, as `disk-options --name=value` does; the error names range or values.
func (d Disk) With(name, value string) (Disk, error) {
	v := sections{Disk: d}
	err := setOne(&v, "disk", name, value, &v.Disk.Set)
	return v.Disk, err
}

// With returns o with one option changed, as `resource-options --name=value` does; the error names range or values.
func (o Options) With(name, value string) (Options, error) {
	v := sections{Options: o}
	err := setOne(&v, "options", name, value, &v.Options.Set)
	return v.Options, err
}

func setOne(v *sections, section, name, value string, set *Set) error {
	ix := index()
	if a := ix.aliases[section][name]; a != nil && a.toSection == section && !a.drop {
		name = a.toName
		if a.fixed != "" {
			value = a.fixed
		} else if to, ok := a.values[value]; ok {
			value = to
		}
	}
	o := ix.options[section][name]
	if o == nil {
		if near := nearest(name, ix.names(section)); near != "" {
			return fmt.Errorf("unknown %s option '%s'; did you mean '%s'?", section, name, near)
		}
		return fmt.Errorf("unknown %s option '%s'", section, name)
	}
	if o.Class == Refused && !o.isDefault(value) {
		return errors.New(o.Name + " " + value + " is refused: " + o.Note)
	}
	if err := o.set(v, value); err != nil {
		return err
	}
	changed := Set{o.Name: Setting{Name: o.Name, Value: value}}
	for k, s := range *set {
		if k != o.Name {
			changed[k] = s
		}
	}
	*set = changed
	return nil
}

// number builds the common case of a Number option.
func number(section, name, def string, lo, hi int64, scale byte, unit, in string) Option {
	return Option{Section: section, Name: name, Kind: Number, Default: def, Min: lo, Max: hi, Scale: scale, Unit: unit, In: in}
}

// span builds a Number option that is a time of so many ticks.
func span(section, name, def string, lo, hi int64, tick time.Duration, in string) Option {
	unit := "s"
	switch tick {
	case 100 * time.Millisecond:
		unit = "0.1 s"
	case time.Millisecond:
		unit = "ms"
	}
	o := number(section, name, def, lo, hi, '1', unit, in)
	o.tick = tick
	return o
}

// yesNoOption builds a Bool option.
func yesNoOption(section, name, def, in string) Option {
	return Option{Section: section, Name: name, Kind: Bool, Default: def, In: in}
}

// enum builds an Enum option.
func enum(section, name, def, in string, values ...string) Option {
	return Option{Section: section, Name: name, Kind: Enum, Default: def, Values: values, In: in}
}

// text builds a Text option.
func text(section, name, in string, check func(string) error) Option {
	return Option{Section: section, Name: name, Kind: Text, In: in, check: check}
}

// to says where the value goes.
func (o Option) to(bind func(*sections) any) Option { o.bind = bind; return o }

// does says what drship does with an honoured option.
func (o Option) does(note string) Option { o.Class, o.Note = Honoured, note; return o }

// inert makes the option one without effect, and says why.
func (o Option) inert(why string) Option { o.Class, o.Note = NoEffect, why; return o }

// later makes the option one that is not in effect yet, and says what it will do.
func (o Option) later(note string) Option { o.Class, o.Note = NotYet, note; return o }

// refused makes any value but the default an error, and says why.
func (o Option) refused(why string) Option { o.Class, o.Note = Refused, why; return o }
