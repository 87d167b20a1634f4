package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"drship/bench/wan/tun"
)

// Marks around what keep replaces.
const (
	reportBegin = "<!-- make bench-wan: from here -->\n"
	reportEnd   = "<!-- make bench-wan: to here -->\n"
)

// describe prints what the figures depend on.
func (b *bench) describe() {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Fprintf(b.out, "## The line\n\n%s, commit %s; %d processors, %s, Linux %s, load %s before the run. One run of `make bench-wan`; %v of sending before each measurement of %v.\n"+
		"A queue of one round trip before the rate, at least 150 kB; losses are random, where no bursts are named, and the same share both ways.\n",
		time.Now().Format("2 January 2006"), commit(), runtime.NumCPU(), runtime.Version(), strings.TrimSpace(string(kernel)), loadAverage(), b.warm, b.span)
	if b.first {
		fmt.Fprintf(b.out, "The machine was not quiet: what is measured had real-time priority over the rest (-first).\n")
	}
	own := "drship: random data written to a real pair by protocol A, compression off"
	if len(b.wan) > 0 {
		own += ", wan { " + strings.Join(b.wan, "; ") + "; }"
	}
	fmt.Fprintf(b.out, "%s; what counts is what the peer has staged. TCP is iperf3's, QUIC × n quic-go with n connections of one stream and nothing of ours.\n"+
		"A pair stages a batch at a time, and what was held up before the span may come out in it: its rate is good to about 4 %%, and may show a little more than the line has.\n\n", own)
}

// honesty prints what the line itself did wrong.
func (b *bench) honesty() error {
	for _, d := range []tun.Direction{tun.AtoB, tun.BtoA} {
		c, _, err := b.line.Look(d)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "The emulator, %v: %d packets, late by %.0f µs on average and %.1f ms at most; missed %d, refused %d.\n",
			d, c.In, float64(c.Late().Microseconds()), c.LateMost.Seconds()*1e3, c.Missed, c.Refused)
	}
	fmt.Fprintf(b.out, "Load at the end: %s. The run took %.0f s.\n", loadAverage(), time.Since(b.begin).Seconds())
	return nil
}

// commit is the one that is checked out, with a + where files differ from it.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty=+", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// keep puts text into a file between the marks, in place of what was there, or at its end.
func keep(path string, text []byte) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the report: %w", err)
	}
	part := append(append([]byte(reportBegin), text...), reportEnd...)
	begin, end := bytes.Index(old, []byte(reportBegin)), bytes.Index(old, []byte(reportEnd))
	var next []byte
	if begin >= 0 && end > begin {
		next = append(append(append(next, old[:begin]...), part...), old[end+len(reportEnd):]...)
	} else {
		next = append(append(append(next, old...), '\n'), part...)
	}
	if err := os.WriteFile(path, next, 0o644); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	return nil
}
