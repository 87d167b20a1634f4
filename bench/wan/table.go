package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is one as Markdown has them, aligned for those who read it as text.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(row []string) {
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				fmt.Fprintf(w, "| %s%s |", c, pad)
			} else {
				fmt.Fprintf(w, " %s%s |", pad, c)
			}
		}
		fmt.Fprintln(w)
	}
	line(t.head)
	for i, n := range width {
		if i == 0 {
			fmt.Fprintf(w, "|%s|", strings.Repeat("-", n+2))
		} else {
			fmt.Fprintf(w, "%s:|", strings.Repeat("-", n+1))
		}
	}
	fmt.Fprintln(w)
	for _, row := range t.rows {
		line(row)
	}
	fmt.Fprintln(w)
}

// megabits is a rate in Mbit/s, with as many digits as mean something.
func megabits(bits float64) string {
	if bits < 9.95e6 {
		return fmt.Sprintf("%.1f", bits/1e6)
	}
	return fmt.Sprintf("%.0f", bits/1e6)
}

func share(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}
