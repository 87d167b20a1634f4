package config

import (
	"path/filepath"
	"strconv"
	"strings"
)

var resourceWords = append([]string{
	"on", "floating", "stacked-on-top-of", "volume", "connection", "connection-mesh", "device", "meta-disk", "flexible-meta-disk",
	"protocol", "incon-degr-cmd", "ignore-on", "template-file", "skip",
}, sectionWords...)

// resourceSection reads resource NAME { … }.
func (p *parser) resourceSection(at Pos) {
	name := p.tok
	if name.kind != tokWord && name.kind != tokString || name.text == "" {
		p.expected("a resource name")
		return
	}
	p.next()
	r := &Resource{Name: name.text, Pos: at, config: p.cfg}
	if r.Name == "all" {
		p.errorf(name.pos, "a resource cannot be called 'all': verbs mean every resource by it")
	}
	if strings.ContainsAny(r.Name, "/:\n") {
		p.errorf(name.pos, "resource name '%s' must not hold '/' or ':'", r.Name)
	}
	if old := p.cfg.Resource(r.Name); old != nil {
		p.conflict("resource section", r.Name, at, old.Pos)
	} else {
		p.cfg.byName[r.Name] = r
	}
	if len(p.cfg.Resources) >= maxResources {
		p.fail(at, "more than %d resources", maxResources)
		return
	}
	p.cfg.Resources = append(p.cfg.Resources, r)
	seen := map[string]Pos{}
	p.block("the resource's name", func(t token) { p.resourceStatement(r, t, seen) })
}

// resourceStatement reads one statement of a resource; t is the current token.
func (p *parser) resourceStatement(r *Resource, t token, seen map[string]Pos) {
	if t.kind != tokWord {
		p.unknown(t, "", resourceWords)
		return
	}
	switch t.text {
	case "on":
		p.next()
		p.hostSection(r, t.pos)
	case "floating":
		p.next()
		p.floatingSection(r, t.pos)
	case "stacked-on-top-of":
		p.next()
		p.stackedSection(r, t.pos)
	case "connection":
		p.next()
		p.connectionSection(r, t.pos)
	case "connection-mesh":
		p.next()
		p.meshSection(r, t.pos)
	case "volume", "device", "meta-disk", "flexible-meta-disk":
		p.volumeStatement(&r.volumes, t)
	case "disk":
		p.next()
		if p.tok.kind != tokOpen {
			p.diskPath(implicitVolume(&r.volumes, t.pos), t.pos)
			return
		}
		p.once(seen, "disk section", r.Name+":disk", t.pos)
		p.optionSection("disk", &r.Written)
	case "ignore-on":
		p.next()
		for _, w := range p.words() {
			r.IgnoreOn = append(r.IgnoreOn, w.text)
		}
	case "template-file":
		p.next()
		p.templateFile(r, t.pos)
	default:
		p.resourceOptionStatement(r, t, seen)
	}
}

// resourceOptionStatement reads an option section of a resource, or an option that older lines kept outside them.
func (p *parser) resourceOptionStatement(r *Resource, t token, seen map[string]Pos) {
	switch {
	case contains(sectionWords, t.text):
		p.next()
		if t.text == "proxy" && p.tok.isWord("on") {
			p.errorf(t.pos, "'proxy on HOST' belongs inside the host's section 'on'")
			p.skipStatement()
			return
		}
		p.once(seen, t.text+" section", r.Name+":"+t.text, t.pos)
		p.optionSection(t.text, &r.Written)
	case index().aliases["resource"][t.text] != nil:
		p.option("resource", &r.Written)
	default:
		p.unknown(t, "in section 'resource'", resourceWords)
	}
}

// templateFile reads the common section of another file, which stands between common and this resource.
func (p *parser) templateFile(r *Resource, at Pos) {
	name, ok := p.oneWord("a file name")
	if !ok {
		return
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(at.File), name)
	}
	if r.Template != "" {
		p.errorf(at, "a resource has one template-file")
		return
	}
	r.Template = name
	delete(p.opened, filepath.Clean(name)) // several resources may use one template
	text, ok := p.open(at, name)
	if !ok {
		return
	}
	if p.size += len(text); len(text) > maxFileSize || p.size > maxTotalSize {
		p.fail(at, "template-file %s: too large", name)
		return
	}
	outerLex, outerTok := p.lex, p.tok
	p.lex = newLexer(name, text)
	p.next()
	if p.tok.isWord("common") {
		p.next()
		p.inherited("common", &r.template)
	} else {
		p.expected("'common' in a template-file")
	}
	if p.tok.kind != tokEOF {
		p.expected("the end of the template-file")
	}
	p.lex = outerLex
	if !p.dead {
		p.tok = outerTok
	}
}

// volumeStatement reads what describes a volume, in a resource or a host: volume N { … }, or the keywords of an
// implicit volume 0.
func (p *parser) volumeStatement(list *[]*Volume, t token) {
	if t.text != "volume" {
		p.volumeKeyword(implicitVolume(list, t.pos), t)
		return
	}
	p.next()
	number := p.tok
	n, err := strconv.ParseUint(number.text, 10, 16)
	if number.kind != tokWord || err != nil {
		p.failAt(p.tok, notInteger(p.tok.text), "a volume number expected, but got %s", p.tok.describe())
		return
	}
	p.next()
	if n > maxVolumeNr {
		p.errorf(number.pos, "volume %d out of range [0..%d]", n, maxVolumeNr)
	}
	v := newVolume(uint16(n), t.pos)
	for _, old := range *list {
		if old.Number == v.Number {
			p.conflict("volume section", "volume "+number.text, t.pos, old.Pos)
		}
	}
	if len(*list) <= maxVolumeNr {
		*list = append(*list, v)
	}
	seen := map[string]Pos{}
	p.block("the volume's number", func(t token) {
		if t.isWord("disk") {
			p.next()
			if p.tok.kind == tokOpen {
				p.once(seen, "disk section", "volume "+number.text+":disk", t.pos)
				p.optionSection("disk", &v.Written)
				return
			}
			p.diskPath(v, t.pos)
			return
		}
		p.volumeKeyword(v, t)
	})
}

func newVolume(n uint16, at Pos) *Volume {
	return &Volume{Number: n, Minor: -1, MetaIndex: -1, Pos: at}
}

// implicitVolume returns volume 0 of a list in which no volume section stands, made when first needed.
func implicitVolume(list *[]*Volume, at Pos) *Volume {
	for _, v := range *list {
		if v.implicit {
			return v
		}
	}
	v := newVolume(0, at)
	v.implicit = true
	*list = append(*list, v)
	return v
}

// volumeKeyword reads device, meta-disk or flexible-meta-disk.
func (p *parser) volumeKeyword(v *Volume, t token) {
	switch {
	case t.isWord("device"):
		p.next()
		p.device(v, t.pos)
	case t.isWord("meta-disk"), t.isWord("flexible-meta-disk"):
		p.next()
		p.metaDisk(v, t)
	default:
		p.unknown(t, "in section 'volume'", []string{"device", "disk", "meta-disk", "flexible-meta-disk"})
	}
}

// device reads device [PATH] [minor N];
func (p *parser) device(v *Volume, at Pos) {
	words := p.words()
	if p.dead {
		return
	}
	if v.devicePos.IsValid() {
		p.conflict("keyword", "device", at, v.devicePos)
	}
	v.devicePos = at
	if len(words) > 0 && !(words[0].isWord("minor") && len(words) == 2) {
		v.Device = words[0].text
		words = words[1:]
	}
	switch {
	case len(words) == 0 && v.Device != "":
		if n, ok := trailingNumber(v.Device); ok && strings.HasPrefix(v.Device, "/dev/drbd") {
			v.Minor, v.hasMinor = n, true
			return
		}
		p.errorf(at, "no minor given nor device name contains a minor number")
	case len(words) == 2 && words[0].isWord("minor"):
		n, err := strconv.ParseUint(words[1].text, 10, 32)
		if err != nil || n > maxMinor {
			e := p.errorf(words[1].pos, "minor %s => out of range [0..%d]", words[1].text, maxMinor)
			if strings.Trim(words[1].text, "0123456789") != "" {
				e.parse = notInteger(words[1].text)
			}
			return
		}
		v.Minor, v.hasMinor = int(n), true
		if v.Device == "" {
			v.minorOnly = true
			v.Device = "/dev/drbd" + words[1].text
		}
	default:
		p.errorf(at, "device is written: device [PATH] [minor N];").Syntax = true
	}
}

// trailingNumber gives the number at the end of a device's name.
func trailingNumber(s string) (int, bool) {
	digits := s[len(strings.TrimRight(s, "0123456789")):]
	n, err := strconv.ParseUint(digits, 10, 32)
	return int(n), err == nil && n <= maxMinor
}

// diskPath reads disk PATH;
func (p *parser) diskPath(v *Volume, at Pos) {
	path, ok := p.oneWord("the path of a backing disk, or '{'")
	if !ok {
		return
	}
	if v.diskPos.IsValid() {
		p.conflict("keyword", "disk", at, v.diskPos)
	}
	if path == "" {
		p.errorf(at, "the path of the backing disk is empty")
	}
	v.Disk, v.diskPos = path, at
}

// metaDisk reads meta-disk internal; meta-disk PATH; meta-disk PATH[N]; and flexible-meta-disk.
func (p *parser) metaDisk(v *Volume, keyword token) {
	words := p.words()
	if p.dead {
		return
	}
	if v.metaPos.IsValid() {
		p.conflict("keyword", "meta-disk", keyword.pos, v.metaPos)
	}
	v.metaPos = keyword.pos
	v.flexibleMeta = keyword.text == "flexible-meta-disk"
	var text strings.Builder
	for _, w := range words {
		text.WriteString(w.text)
	}
	path, index, indexed := strings.Cut(text.String(), "[")
	v.MetaDisk = path
	bad := len(words) == 0 || len(words) > 2 || path == ""
	if indexed {
		n, err := strconv.ParseUint(strings.TrimSuffix(index, "]"), 10, 16)
		bad = bad || err != nil || !strings.HasSuffix(index, "]") || path == "internal"
		v.MetaIndex = int(n)
	} else if len(words) == 2 {
		bad = true
	}
	if bad {
		p.errorf(keyword.pos, "%s is written: internal, DEVICE or DEVICE[INDEX]", keyword.text).Syntax = true
	}
}
