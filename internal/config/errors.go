package config

import (
	"fmt"
	"sort"
	"strings"
)

// Pos is a place in a configuration file. Line and Col count from 1; Col counts characters, a tab is one.
type Pos struct {
	File string
	Line int
	Col  int
}

// IsValid reports whether p names a place.
func (p Pos) IsValid() bool { return p.Line > 0 }

// String gives file:line:column.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// fileLine gives file:line, as DRBD prints positions.
func (p Pos) fileLine() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Error is one thing wrong with the configuration.
type Error struct {
	Pos     Pos
	Text    string // what is wrong
	Nearest string // the known name nearest to an unknown one, "" if none is near
	Related []Note // other places that take part
	Syntax  bool   // the text cannot be parsed; else it can, and says something impossible

	parse    *parseError // how drbdadm tells it, nil where it is no matter of tokens
	noNumber string      // a value that is no number, which drbdadm fails hard at; else ""
}

// Note is a remark about another place.
type Note struct {
	Pos  Pos
	Text string
}

// Error gives file:line:column: text, the nearest known name, and a line for every related place.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Pos, e.Text)
	if e.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean '%s'?", e.Nearest)
	}
	for _, n := range e.Related {
		fmt.Fprintf(&b, "\n%s: %s", n.Pos, n.Text)
	}
	return b.String()
}

// ErrorList is every error found in one reading, in order of discovery, at most maxErrors.
type ErrorList []*Error

// Error gives one error a line.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first *Error.
func (l ErrorList) Unwrap() []error {
	out := make([]error, len(l))
	for i, e := range l {
		out[i] = e
	}
	return out
}

// Warning is something accepted that does not do what the administrator may expect; Text says why.
type Warning struct {
	Pos  Pos
	Text string
}

// String gives file:line:column: text.
func (w Warning) String() string { return fmt.Sprintf("%s: %s", w.Pos, w.Text) }

// nearest returns the name among known that is closest to name by edit distance, or "" if none is close.
func nearest(name string, known []string) string {
	best, bestDist := "", 1+len(name)/3
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	for _, k := range sorted {
		if d := editDistance(name, k, bestDist); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// editDistance is the optimal string alignment distance (insert, delete, replace, swap of neighbours) of a and b;
// it returns limit as soon as the distance cannot be smaller.
func editDistance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
