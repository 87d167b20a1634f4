package config

import (
	"fmt"
	"strings"
)

// The tokens that drbdadm's parser numbers: a word, and single characters by their code.
const tokenWord = 282

// parseError is what drbdadm says of a token that it did not expect.
type parseError struct {
	expected string
	got      string
	number   int // of the token; 0 where drbdadm does not tell
}

// afterToken is the parse error of a token that stands where something else should.
func afterToken(expected string, t token, numbered bool) *parseError {
	e := &parseError{expected: expected, got: t.text}
	switch t.kind {
	case tokOpen, tokClose, tokSemi:
		e.number = int(t.text[0])
	case tokWord:
		if numbered {
			e.number = tokenWord
		}
	case tokEOF:
		e.got = "end of file"
	case tokString:
	}
	return e
}

// DRBD gives the error in drbdadm's words and shape: file and line without a column, and of a value that is no value no place at all.
func (e *Error) DRBD() string {
	var b strings.Builder
	at := e.Pos.fileLine() + ": "
	switch {
	case e.parse != nil:
		fmt.Fprintf(&b, "%sParse error: '%s' expected,\n\tbut got '%s'", at, e.parse.expected, e.parse.got)
		if e.parse.number > 0 {
			fmt.Fprintf(&b, " (TK %d)", e.parse.number)
		}
	case e.noNumber != "":
		b.WriteString(e.noNumber + " is not a valid number")
	case strings.HasPrefix(e.Text, "string is not closed"):
		b.WriteString(at + "Unterminated double quoted string\n  we don't allow embedded newlines")
	case strings.HasPrefix(e.Text, "include "):
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Text, "include "), ": ")
		fmt.Fprintf(&b, "%sFailed to open include file '%s'.", at, name)
	case strings.HasPrefix(e.Text, "unknown protocol "):
		b.WriteString(e.Text)
	case strings.HasSuffix(e.Text, "]") && strings.Contains(e.Text, "out of range ["):
		b.WriteString(at + e.Text + ".")
	default:
		b.WriteString(at + e.Text)
	}
	for _, n := range e.Related {
		fmt.Fprintf(&b, "\n%s: %s", n.Pos.fileLine(), n.Text)
	}
	return b.String()
}

// integerError is a word where a number has to stand.
type integerError struct{ word, what string }

func (e *integerError) Error() string { return fmt.Sprintf("%s '%s' is not a number", e.what, e.word) }

// notInteger is what drbdadm says of a word where a number has to stand.
func notInteger(word string) *parseError {
	return &parseError{expected: "TK_INTEGER", got: word, number: tokenWord}
}

// DRBDExit is what drbdadm exits with: it stops at the first thing that is wrong.
func (l ErrorList) DRBDExit() int {
	if len(l) > 0 && l[0].noNumber != "" {
		return 20
	}
	return 10
}

// DRBD gives what drbdadm says of the first thing that is wrong, where it stops; ours finds more, each in that shape.
func (l ErrorList) DRBD() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.DRBD()
	}
	return strings.Join(lines, "\n")
}

// drbdKeywords are what drbdadm 8.4 says may stand in a section; elsewhere it is what we know.
var drbdKeywords = map[string]string{
	"resource": "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of",
	"common":   "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of",
	"on":       "disk | device | address | meta-disk | flexible-meta-disk",
	"global":   "dialog-refresh | minor-count | disable-ip-verification",
	"syncer":   "a syncer option keyword",
}

// expectedIn is what drbdadm says may stand in a section that is described as for a reader.
func expectedIn(where string, known []string) (expected string, numbered bool) {
	section := strings.Trim(strings.TrimPrefix(where, "in section "), "'")
	section, _, _ = strings.Cut(section, " ")
	if words, ok := drbdKeywords[section]; ok {
		return words, section == "resource" || section == "common"
	}
	return strings.Join(known, " | "), false
}
