package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokWord
	tokString // a quoted word; never a keyword
	tokOpen   // {
	tokClose  // }
	tokSemi   // ;
)

// token is one lexical element. Text is unescaped for a tokString.
type token struct {
	kind tokenKind
	text string
	pos  Pos
	end  int // line on which it ends
}

// describe names the token for an error message.
func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "the end of the file"
	case tokString:
		return fmt.Sprintf("%q", t.text)
	case tokOpen, tokClose, tokSemi, tokWord:
		return "'" + t.text + "'"
	}
	return "?"
}

func (t token) isWord(s string) bool { return t.kind == tokWord && t.text == s }

// lexer cuts one file into tokens. Comments run from # to the end of the line.
type lexer struct {
	src  []byte
	off  int
	file string
	line int
	col  int
}

func newLexer(file string, src []byte) *lexer {
	if len(src) >= 3 && src[0] == 0xef && src[1] == 0xbb && src[2] == 0xbf {
		src = src[3:] // a byte order mark carries nothing
	}
	return &lexer{src: src, file: file, line: 1, col: 1}
}

func (l *lexer) pos() Pos { return Pos{File: l.file, Line: l.line, Col: l.col} }

// advance moves over one character.
func (l *lexer) advance() {
	if l.off >= len(l.src) {
		return
	}
	if l.src[l.off] == '\n' {
		l.off++
		l.line++
		l.col = 1
		return
	}
	_, n := utf8.DecodeRune(l.src[l.off:])
	l.off += n
	l.col++
}

func (l *lexer) skipBlanks() {
	for l.off < len(l.src) {
		switch l.src[l.off] {
		case ' ', '\t', '\r', '\n', '\v', '\f':
			l.advance()
		case '#':
			for l.off < len(l.src) && l.src[l.off] != '\n' {
				l.advance()
			}
		default:
			return
		}
	}
}

// next returns the next token; err is not nil where the text is no token, and the lexer stands behind it then.
func (l *lexer) next() (token, *Error) {
	l.skipBlanks()
	t := token{kind: tokEOF, pos: l.pos(), end: l.line}
	if l.off >= len(l.src) {
		return t, nil
	}
	switch c := l.src[l.off]; c {
	case '{', '}', ';':
		t.kind = map[byte]tokenKind{'{': tokOpen, '}': tokClose, ';': tokSemi}[c]
		t.text = string(c)
		l.advance()
		return t, nil
	case '"':
		return l.quoted(t)
	}
	start := l.off
	for l.off < len(l.src) && !endsWord(l.src[l.off]) {
		if why := badCharacter(l.src[l.off:]); why != "" {
			bad := l.pos()
			l.advance()
			return t, &Error{Pos: bad, Text: why, Syntax: true}
		}
		l.advance()
	}
	t.kind, t.text = tokWord, string(l.src[start:l.off])
	return t, nil
}

func endsWord(c byte) bool { return strings.IndexByte(" \t\r\n\v\f#{};\"", c) >= 0 }

// badCharacter says what is wrong with the character at the head of s, "" if nothing: what word processors and web
// pages put in the place of plain characters is named, because it cannot be seen.
func badCharacter(s []byte) string {
	r, n := utf8.DecodeRune(s)
	switch {
	case r == utf8.RuneError && n <= 1:
		return fmt.Sprintf("byte 0x%02x is not UTF-8", s[0])
	case r < ' ' || r == 0x7f:
		return fmt.Sprintf("control character 0x%02x", r)
	case r == 0xa0 || r == 0x3000 || r == 0x200b || r == 0xfeff:
		return fmt.Sprintf("invisible character U+%04X where a plain space should be (copied from a web page?)", r)
	case r == '“' || r == '”' || r == '„' || r == '″' || r == '；' || r == '｛' || r == '｝':
		return fmt.Sprintf("character '%c' (U+%04X) where a plain quote, brace or semicolon should be", r, r)
	}
	return ""
}

// quoted reads a string: \" and \\ stand for the character behind the backslash, a backslash at the end of a line
// joins the lines; another line break ends the search for the closing quote, so that the error names the opening one.
func (l *lexer) quoted(t token) (token, *Error) {
	t.kind = tokString
	l.advance()
	var b strings.Builder
	for l.off < len(l.src) {
		switch c := l.src[l.off]; c {
		case '"':
			l.advance()
			t.text, t.end = b.String(), l.line
			return t, nil
		case '\n':
			return t, &Error{Pos: t.pos, Text: "string is not closed on its line", Syntax: true}
		case 0:
			return t, &Error{Pos: l.pos(), Text: "control character 0x00", Syntax: true}
		case '\\':
			l.advance()
			if l.off < len(l.src) && l.src[l.off] == '\r' {
				l.advance()
			}
			if l.off < len(l.src) && l.src[l.off] == '\n' {
				l.advance()
				continue
			}
			fallthrough
		default:
			start := l.off
			l.advance()
			b.Write(l.src[start:l.off])
		}
	}
	return t, &Error{Pos: t.pos, Text: "string is not closed", Syntax: true}
}

// quote writes s so that the lexer reads it back as one word: bare where it can be, else in quotes. Words of
// letters, digits and "._-/:@%+,=[]*" need none, as drbdadm has it for the first of them.
func quote(s string) string {
	bare := s != ""
	for i := 0; i < len(s) && bare; i++ {
		c := s[i]
		bare = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-/", c) >= 0
	}
	if bare {
		return s
	}
	return quoted(s)
}

// quoted writes s in quotes.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
