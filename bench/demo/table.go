package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// table is what the demo tells at its end.
type table struct {
	rows [][2]string
}

func (t *table) row(name, format string, args ...any) {
	t.rows = append(t.rows, [2]string{name, fmt.Sprintf(format, args...)})
}

func (t *table) print(w io.Writer) {
	width := 0
	for _, r := range t.rows {
		width = max(width, len(r[0]))
	}
	line := strings.Repeat("─", width+48)
	fmt.Fprintf(w, "\n%s\n", line)
	for _, r := range t.rows {
		fmt.Fprintf(w, " %-*s   %s\n", width, r[0], r[1])
	}
	fmt.Fprintln(w, line)
}

// bytesText is a size as people read it.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

func millis(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// bar is a progress bar: redrawn in place on a terminal, a line for every quarter elsewhere.
type bar struct {
	out      io.Writer
	name     string
	total    int64 // bytes
	start    time.Time
	terminal bool
	quarter  int64 // the last one printed
}

func newBar(out io.Writer, name string, total int64) *bar {
	b := &bar{out: out, name: name, total: total, start: time.Now(), quarter: -1}
	if f, ok := out.(*os.File); ok {
		st, err := f.Stat()
		b.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return b
}

// at draws the bar with done of total bytes behind it.
func (b *bar) at(done int64) {
	share := float64(done) / float64(b.total)
	rate := int64(float64(done) / max(time.Since(b.start).Seconds(), 0.001))
	full := int(share * 40)
	line := fmt.Sprintf("%s [%s%s] %3.0f %%  %s/s", b.name, strings.Repeat("=", full), strings.Repeat(".", 40-full), share*100, bytesText(rate))
	switch quarter := int64(share * 4); {
	case b.terminal:
		fmt.Fprintf(b.out, "\r%s   ", line)
		if done == b.total {
			fmt.Fprintln(b.out)
		}
	case quarter > b.quarter:
		b.quarter = quarter
		fmt.Fprintln(b.out, line)
	}
}
