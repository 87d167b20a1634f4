package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of one configuration. They are far beyond what anybody writes by hand, and keep a hostile or mistaken file
// from taking the daemon's memory.
const (
	maxFileSize   = 4 << 20
	maxTotalSize  = 64 << 20
	maxFiles      = 10000
	maxDepth      = 16 // includes inside includes
	maxErrors     = 50
	maxWarnings   = 1000
	maxResources  = 10000
	maxHosts      = 64  // of a resource
	maxSettings   = 500 // of a section
	maxStatements = 64  // words in one statement
	maxSkipDepth  = 256
	maxVolumeNr   = 255
	maxMinor      = 1<<20 - 1
	maxNodeID     = 31
)

// ParseOptions gives Parse its surroundings, so that it needs no file system.
type ParseOptions struct {
	// Open returns the text of an included file; nil refuses includes.
	Open func(path string) ([]byte, error)
	// Glob returns the files that match a pattern, sorted; nil takes every pattern as a plain name.
	Glob func(pattern string) ([]string, error)
	// Addresses are the machine's IP addresses; they tell which floating host is the local one.
	Addresses []string
	// AnyWord takes any word as a value that is a word: drbdadm leaves those to drbdsetup.
	AnyWord bool
	// Test is read behind everything else; Exclude is not read where it is included. "" for none.
	Test, Exclude string
}

// parser reads one configuration. After a syntax error it is dead: every token is the end of the file, so that all
// loops end by themselves.
type parser struct {
	o      ParseOptions
	cfg    *Config
	lex    *lexer
	tok    token // the current one
	dead   bool
	errs   ErrorList
	size   int
	depth  int
	opened map[string]bool
}

// Parse reads a configuration from text; name stands in positions. See Load.
func Parse(name string, text []byte, o ParseOptions) (*Config, error) {
	p := &parser{o: o, cfg: &Config{Path: name, addrs: o.Addresses, byName: map[string]*Resource{}}, opened: map[string]bool{}}
	p.file(name, text)
	if o.Test != "" && !p.dead {
		at := Pos{File: o.Test, Line: 1, Col: 1}
		if more, ok := p.open(at, o.Test); ok {
			p.file(o.Test, more)
		}
	}
	if len(p.errs) == 0 {
		p.finish()
	}
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return p.cfg, nil
}

// file reads one file at the top level.
func (p *parser) file(name string, text []byte) {
	if len(text) > maxFileSize {
		p.fail(Pos{File: name, Line: 1, Col: 1}, "the file is larger than %d bytes", maxFileSize)
		return
	}
	if p.size += len(text); p.size > maxTotalSize || len(p.cfg.Files) >= maxFiles {
		p.fail(Pos{File: name, Line: 1, Col: 1}, "the configuration has more than %d bytes or %d files", maxTotalSize, maxFiles)
		return
	}
	p.cfg.Files = append(p.cfg.Files, name)
	p.opened[filepath.Clean(name)] = true
	outerLex, outerTok := p.lex, p.tok
	p.lex = newLexer(name, text)
	p.next()
	for p.tok.kind != tokEOF {
		p.top()
	}
	p.lex, p.tok = outerLex, outerTok
}

var topWords = []string{"global", "common", "resource", "include", "skip"}

// top reads one statement outside all sections.
func (p *parser) top() {
	t := p.tok
	switch {
	case t.isWord("global"):
		p.next()
		p.globalSection(t.pos)
	case t.isWord("common"):
		p.next()
		p.commonSection(t.pos)
	case t.isWord("resource"):
		p.next()
		p.resourceSection(t.pos)
	case t.isWord("include"):
		p.next()
		p.include()
	case t.isWord("skip"):
		p.skip()
	case t.kind == tokWord && strings.HasPrefix(t.text, "require-drbd-module-version-"):
		p.next()
		p.warn(t.pos, t.text+": there is no DRBD module to require; ignored")
		p.words()
	default:
		p.unknown(t, "at the top level", topWords)
	}
}

// include reads the files of a pattern, relative to the file that includes them.
func (p *parser) include() {
	at := p.tok.pos
	pattern, ok := p.oneWord("a file name or pattern")
	if !ok {
		return
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.File), pattern)
	}
	files := []string{pattern}
	magic := strings.ContainsAny(pattern, "*?[")
	if magic && p.o.Glob != nil {
		found, err := p.o.Glob(pattern)
		if err != nil {
			p.errorf(at, "include %s: %v", pattern, err)
			return
		}
		files = found // none is fine: a folder of resources may be empty
	}
	for _, f := range files {
		if p.dead {
			return
		}
		if text, ok := p.open(at, f); ok {
			p.depth++
			p.file(f, text)
			p.depth--
		}
	}
}

// open reads an included file, unless it was read before: a file that two patterns match counts once.
func (p *parser) open(at Pos, name string) ([]byte, bool) {
	switch {
	case p.o.Exclude != "" && filepath.Clean(name) == filepath.Clean(p.o.Exclude):
		return nil, false
	case p.opened[filepath.Clean(name)]:
		p.warn(at, "include "+name+": read already, not read again")
		return nil, false
	case p.depth >= maxDepth:
		p.fail(at, "include %s: includes are nested deeper than %d", name, maxDepth)
		return nil, false
	case p.o.Open == nil:
		p.errorf(at, "include %s: includes are not possible here", name)
		return nil, false
	}
	text, err := p.o.Open(name)
	if err != nil {
		p.errorf(at, "include %s: %s", name, reason(err))
		return nil, false
	}
	return text, true
}

// reason strips the path from an error of the file system: the position names it already.
func reason(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// next moves to the next token.
func (p *parser) next() {
	if p.dead {
		p.tok = token{kind: tokEOF, pos: p.lex.pos()}
		return
	}
	t, err := p.lex.next()
	if err != nil {
		p.dead = true
		p.errs = append(p.errs, err)
		t = token{kind: tokEOF, pos: err.Pos}
	}
	p.tok = t
}

// errorf notes an error that reading can go on behind.
func (p *parser) errorf(pos Pos, format string, args ...any) *Error {
	e := &Error{Pos: pos, Text: fmt.Sprintf(format, args...)}
	p.add(e)
	return e
}

func (p *parser) add(e *Error) {
	if p.dead {
		return
	}
	p.errs = append(p.errs, e)
	if len(p.errs) >= maxErrors {
		p.errs = append(p.errs, &Error{Pos: e.Pos, Text: "too many errors, the rest is not shown"})
		p.kill()
	}
}

// fail notes an error that ends reading.
func (p *parser) fail(pos Pos, format string, args ...any) {
	if p.dead {
		return
	}
	p.errs = append(p.errs, &Error{Pos: pos, Text: fmt.Sprintf(format, args...), Syntax: true})
	p.kill()
}

func (p *parser) kill() {
	p.dead = true
	p.tok = token{kind: tokEOF, pos: p.tok.pos}
}

func (p *parser) warn(pos Pos, text string) {
	if len(p.cfg.Warnings) < maxWarnings {
		p.cfg.Warnings = append(p.cfg.Warnings, Warning{Pos: pos, Text: text})
	}
}

// expected ends reading with DRBD's wording.
func (p *parser) expected(what string) {
	short, _, _ := strings.Cut(what, " behind ")
	p.failAt(p.tok, afterToken(strings.Trim(short, "'"), p.tok, false), "%s expected, but got %s", what, p.tok.describe())
}

// failAt is fail for a token that stands where another should.
func (p *parser) failAt(t token, parse *parseError, format string, args ...any) {
	if p.dead {
		return
	}
	p.fail(t.pos, format, args...)
	p.errs[len(p.errs)-1].parse = parse
}

// unknown notes a keyword that does not belong where it stands, and skips its statement.
func (p *parser) unknown(t token, where string, known []string) {
	expected, numbered := expectedIn(where, known)
	if t.kind != tokWord {
		p.failAt(t, afterToken(expected, t, numbered), "'%s' expected, but got %s", strings.Join(known, " | "), t.describe())
		return
	}
	e := p.errorf(t.pos, "unknown keyword '%s' %s", t.text, where)
	e.Nearest, e.Syntax, e.parse = nearest(t.text, known), true, afterToken(expected, t, numbered)
	p.next()
	p.skipStatement()
}

// skipStatement moves behind the next ';' or the next balanced '{ … }', and stops before a '}' that is not its own.
func (p *parser) skipStatement() {
	for {
		switch p.tok.kind {
		case tokSemi:
			p.next()
			return
		case tokOpen:
			p.skipBlock()
			return
		case tokClose, tokEOF:
			return
		}
		p.next()
	}
}

// skipBlock moves behind the brace that closes the current one.
func (p *parser) skipBlock() {
	open := p.tok.pos
	depth := 0
	for {
		switch p.tok.kind {
		case tokOpen:
			if depth++; depth > maxSkipDepth {
				p.fail(p.tok.pos, "braces are nested deeper than %d", maxSkipDepth)
			}
		case tokClose:
			depth--
		case tokEOF:
			p.fail(open, "'{' is never closed")
			return
		}
		p.next()
		if depth == 0 {
			return
		}
	}
}

// skip reads a section that the word skip comments out; what stands before its brace does not matter.
func (p *parser) skip() {
	at := p.tok.pos
	for p.tok.kind != tokOpen && p.tok.kind != tokEOF {
		if p.tok.kind == tokSemi { // a statement without a section, as skip floating …;
			p.next()
			return
		}
		p.next()
	}
	if p.tok.kind == tokEOF {
		p.fail(at, "skip: '{' expected")
		return
	}
	p.skipBlock()
}

// block reads '{', statements, '}'. each is called with the first token of a statement as the current one.
func (p *parser) block(what string, each func(t token)) {
	open := p.tok.pos
	if p.tok.kind != tokOpen {
		p.expected("'{' behind " + what)
		return
	}
	p.next()
	for p.tok.kind != tokClose {
		if p.tok.kind == tokEOF {
			p.fail(p.tok.pos, "'}' expected, but got the end of the file: '{' at %s is never closed", open.fileLine())
			return
		}
		if p.tok.kind == tokSemi { // an empty statement
			p.next()
			continue
		}
		if p.tok.isWord("skip") {
			p.skip()
			continue
		}
		each(p.tok)
	}
	p.next()
}

// words reads words up to ';'.
func (p *parser) words() []token {
	var out []token
	for {
		switch p.tok.kind {
		case tokWord, tokString:
			if len(out) == maxStatements {
				p.fail(p.tok.pos, "';' expected: a statement of more than %d words", maxStatements)
				return nil
			}
			out = append(out, p.tok)
			p.next()
		case tokSemi:
			p.next()
			return out
		default:
			p.expected("';'")
			return nil
		}
	}
}

// oneWord reads exactly one word and ';'.
func (p *parser) oneWord(what string) (string, bool) {
	first := p.tok
	if first.kind != tokWord && first.kind != tokString {
		p.expected(what)
		return "", false
	}
	p.next()
	if p.tok.kind != tokSemi {
		p.expected("';'")
		return "", false
	}
	p.next()
	return first.text, true
}

// once notes an error where a section of that name stands twice at one level.
func (p *parser) once(seen map[string]Pos, what, name string, at Pos) {
	if first, ok := seen[name]; ok {
		p.conflict(what, name, at, first)
		return
	}
	seen[name] = at
}

// conflict notes two uses of what may be used once, in DRBD's wording.
func (p *parser) conflict(what, name string, at, first Pos) {
	e := p.errorf(at, "conflicting use of %s '%s' ...", what, name)
	e.Related = []Note{{Pos: first, Text: fmt.Sprintf("%s '%s' first used here.", what, name)}}
}

// contains reports whether words holds w.
func contains(words []string, w string) bool { return slices.Contains(words, w) }
