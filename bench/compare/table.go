package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// results are all measurements, by subject and workload.
type results map[[2]string][]measurement

func (r results) add(subject, load string, m measurement) {
	k := [2]string{subject, load}
	r[k] = append(r[k], m)
}

// median is the run in the middle, by requests a second.
func (r results) median(subject, load string) (measurement, bool) {
	all := r[[2]string{subject, load}]
	if len(all) == 0 {
		return measurement{}, false
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b measurement) int { return cmp.Compare(a.iops, b.iops) })
	return all[len(all)/2], true
}

func middle[T cmp.Ordered](all []T) T {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// print writes a table for each workload: the rate, its ratio to our own unreplicated rate and to what stands first among the others, latency,
// the processor time of each of the subject's processes for one request, and what the peer lacked at the end.
func (r results) print(w io.Writer, title string, subjects []subject, loads []workload) {
	fmt.Fprintf(w, "\n## %s\n", title)
	for _, l := range loads {
		own, _ := r.median(alone, l.name)
		other, beside := r.median(nbdkitFile, l.name)
		fmt.Fprintf(w, "\n%-28s %14s %9s", l.name, "rate", "to alone")
		if beside {
			fmt.Fprintf(w, " %10s", "to nbdkit")
		}
		fmt.Fprintf(w, " %9s %9s %18s %10s\n", "p50", "p99", "processor/request", "behind")
		for _, s := range subjects {
			m, ok := r.median(s.name, l.name)
			if !ok {
				continue
			}
			rate := fmt.Sprintf("%.0f /s", m.iops)
			if l.mega {
				rate = fmt.Sprintf("%.0f MB/s", m.bytes/1e6)
			}
			fmt.Fprintf(w, "%-28s %14s %9s", s.name, rate, ratio(m.iops, own.iops))
			if beside {
				fmt.Fprintf(w, " %10s", ratio(m.iops, other.iops))
			}
			fmt.Fprintf(w, " %9s %9s %18s %10s\n", latency(m.p50), latency(m.p99), processor(m.processor), behind(m.behind))
		}
	}
}

func processor(used []time.Duration) string {
	var all []string
	for _, d := range used {
		all = append(all, fmt.Sprintf("%.0f", float64(d.Nanoseconds())/1e3))
	}
	return strings.Join(all, " + ") + " µs"
}

func behind(bytes int64) string {
	if bytes == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func latency(d time.Duration) string {
	switch {
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

// slug is a title as a folder's name.
func slug(title string) string {
	word, _, _ := strings.Cut(title, " ")
	return word
}
