package config

import (
	"errors"
	"fmt"
	"strings"
)

// sectionWords are the option sections that may stand in common and in a resource.
var sectionWords = []string{"net", "disk", "options", "startup", "handlers", "syncer", "proxy", "journal", "wan"}

// slot returns where the settings of a section are kept.
func (w *Written) slot(section string) *[]Setting {
	switch section {
	case "net":
		return &w.Net
	case "disk":
		return &w.Disk
	case "options":
		return &w.Options
	case "startup":
		return &w.Startup
	case "handlers":
		return &w.Handlers
	case "proxy":
		return &w.Proxy
	case "plugin":
		return &w.Plugin
	case "journal":
		return &w.Journal
	case "wan":
		return &w.WAN
	}
	return nil
}

// optionSection reads { name value; … } of one section into w.
func (p *parser) optionSection(section string, w *Written) {
	p.block("'"+section+"'", func(t token) {
		if section == "proxy" && t.isWord("plugin") {
			p.next()
			p.optionSection("plugin", w)
			return
		}
		p.option(section, w)
	})
}

// option reads one option of a section; the current token is its name.
func (p *parser) option(section string, w *Written) {
	name := p.tok
	if name.kind != tokWord {
		p.expected("an option keyword")
		return
	}
	p.next()
	ix := index()
	if ix.options[section][name.text] == nil && ix.aliases[section][name.text] == nil {
		p.unknownOption(section, name)
		return
	}
	value, pos, ok := p.optionValue(section, name)
	if ok {
		p.put(section, name, value, pos, w)
	}
}

// unknownOption notes an option that the section does not know. Where a whole section follows, a brace is missing
// before it, and reading ends.
func (p *parser) unknownOption(section string, name token) {
	if p.tok.kind == tokOpen || contains([]string{"on", "resource", "volume", "connection", "floating"}, name.text) {
		p.failAt(name, afterToken("an option keyword", name, false), "an option keyword of section '%s' expected, but got '%s' (is a '}' missing before it?)", section, name.text)
		return
	}
	ix := index()
	e := p.errorf(name.pos, "unknown option '%s' in section '%s'", name.text, section)
	expected, _ := expectedIn("in section '"+section+"'", []string{"an option keyword"})
	e.Syntax, e.parse = true, afterToken(expected, name, false)
	e.Nearest = nearest(name.text, ix.names(section))
	if in := ix.sectionsWith(name.text); len(in) > 0 {
		e.Nearest = ""
		e.Text += fmt.Sprintf("; it belongs in section '%s'", strings.Join(in, "' or '"))
	}
	p.skipStatement()
}

// optionValue reads the value of an option up to its ';' and gives it with its position.
func (p *parser) optionValue(section string, name token) (string, Pos, bool) {
	first := p.tok
	if first.kind == tokSemi {
		p.next()
		return "", name.pos, true
	}
	words := p.words()
	if p.dead {
		return "", name.pos, false
	}
	many := section == "plugin"
	if o := index().options[section][name.text]; o != nil && o.Kind == Words {
		many = true
	}
	if len(words) > 1 && !many {
		e := p.errorf(words[1].pos, "';' expected, but got %s", words[1].describe())
		e.Syntax, e.parse = true, afterToken(";", words[1], true)
		return "", name.pos, false
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	return strings.Join(texts, " "), first.pos, true
}

// put keeps one option under its name of today, checked. An option written twice counts as written last, as in DRBD.
func (p *parser) put(section string, name token, value string, at Pos, w *Written) {
	ix := index()
	label := name.text
	if a := ix.aliases[section][name.text]; a != nil {
		old := value
		section, label, value = a.toSection, a.toName, translate(a, value)
		if a.note != "" && (a.values == nil || old != value) {
			p.warn(name.pos, name.text+": "+a.note)
		}
		if a.drop {
			return
		}
	}
	o := ix.options[section][label]
	if o.Kind == Words {
		value = strings.Join(strings.Fields(value), " ")
	}
	if value == "" {
		if o.Kind != Bool && section != "plugin" {
			e := p.errorf(name.pos, "option '%s' needs a value", name.text)
			e.Syntax, e.parse = true, afterToken("TK_STRING | TK_INTEGER", token{kind: tokSemi, text: ";"}, true)
			return
		}
		value = "yes"
	}
	if _, err := o.parse(value); err != nil && !(p.o.AnyWord && (o.Kind == Enum || o.Kind == Text)) {
		p.badValue(at, err, section == "global", value)
		return
	}
	if !p.classify(o, name.pos, value) {
		return
	}
	slot := &p.cfg.global
	if section != "global" {
		slot = w.slot(section)
	}
	p.keep(slot, Setting{Name: label, Value: value, Pos: name.pos})
}

// translate gives the value of today.
func translate(a *alias, value string) string {
	if a.fixed != "" {
		return a.fixed
	}
	if to, ok := a.values[value]; ok {
		return to
	}
	return value
}

// badValue notes a value that its option does not take. Numbers of the global section, and yes and no, are tokens to drbdadm.
func (p *parser) badValue(at Pos, err error, global bool, value string) {
	e := p.errorf(at, "%v", err)
	wrong, number := errors.AsType[*numberError](err)
	switch {
	case number && global:
		e.parse = notInteger(value)
	case number:
		e.noNumber = wrong.value
	case errors.Is(err, errBool):
		e.parse = &parseError{expected: "yes | no | ;", got: value}
	}
	var ve *valueError
	if errors.As(err, &ve) {
		e.Nearest = ve.nearest
	}
}

// classify warns of, or refuses, an option that drship does not honour; it reports whether the option is kept.
func (p *parser) classify(o *Option, at Pos, value string) bool {
	if o.Class == Honoured || o.isDefault(value) {
		return true
	}
	switch o.Class {
	case Refused:
		p.errorf(at, "%s %s is refused: %s", o.Name, value, o.Note)
		return false
	case NotYet:
		p.warn(at, o.Name+": accepted, not in effect in this version ("+o.Note+")")
	case NoEffect:
		p.warn(at, o.Name+": accepted without effect: "+o.Note)
	}
	return true
}

// keep puts s into the list, in the place of an earlier one of its name.
func (p *parser) keep(list *[]Setting, s Setting) {
	for i := range *list {
		if (*list)[i].Name == s.Name {
			(*list)[i] = s
			return
		}
	}
	if len(*list) >= maxSettings {
		p.fail(s.Pos, "a section of more than %d options", maxSettings)
		return
	}
	*list = append(*list, s)
}

// globalSection reads global { … }.
func (p *parser) globalSection(at Pos) {
	if p.cfg.globalPos.IsValid() {
		p.conflict("section", "global", at, p.cfg.globalPos)
	} else {
		p.cfg.globalPos = at
	}
	p.block("'global'", func(token) { p.option("global", nil) })
}

// commonSection reads common { … }.
func (p *parser) commonSection(at Pos) {
	if p.cfg.commonPos.IsValid() {
		p.conflict("resource section", "common", at, p.cfg.commonPos)
	} else {
		p.cfg.commonPos = at
	}
	p.cfg.HasCommon = true
	p.inherited("common", &p.cfg.Common)
}

// inherited reads a block of option sections: common, or the common of a template-file.
func (p *parser) inherited(what string, w *Written) {
	seen := map[string]Pos{}
	p.block("'"+what+"'", func(t token) {
		switch {
		case t.kind == tokWord && contains(sectionWords, t.text):
			p.next()
			p.once(seen, t.text+" section", what+":"+t.text, t.pos)
			p.optionSection(t.text, w)
		case t.kind == tokWord && index().aliases["resource"][t.text] != nil:
			p.option("resource", w)
		default:
			p.unknown(t, "in section '"+what+"'", append([]string{"protocol"}, sectionWords...))
		}
	})
}
