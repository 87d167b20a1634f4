package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is the unit of the kernel's process times: USER_HZ, 100 a second wherever Go runs.
const ticks = time.Second / 100

// processorTime is what each process has used so far, in user and kernel mode.
func processorTime(pids []int) ([]time.Duration, error) {
	var used []time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, fmt.Errorf("read processor time: %w", err)
		}
		// The name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			return nil, fmt.Errorf("read processor time: %q", text)
		}
		user, uerr := strconv.ParseInt(fields[11], 10, 64)
		system, serr := strconv.ParseInt(fields[12], 10, 64)
		if err := errors.Join(uerr, serr); err != nil {
			return nil, fmt.Errorf("read processor time: %w", err)
		}
		used = append(used, time.Duration(user+system)*ticks)
	}
	return used, nil
}

// uncache writes the images in dir back and drops them from the page cache, so that every measurement begins with the same. How an
// image came into the cache decides otherwise: after large writes it lies there in large pieces (folios), and a small write to
// one of those costs the kernel several times what the server does with it.
func uncache(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".img" {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("drop image from cache: %w", err)
		}
		defer f.Close()
		if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
			return fmt.Errorf("drop %s from cache: %w", path, err)
		}
		return nil
	})
}

// printMemory tells how much each of our daemons held at its peak.
func printMemory(w io.Writer, subjects []subject) error {
	fmt.Fprintf(w, "\npeak memory, MiB:")
	for _, s := range subjects {
		var peaks []string
		for _, pid := range s.pids {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				return fmt.Errorf("read memory: %w", err)
			}
			_, rest, _ := strings.Cut(string(text), "VmHWM:")
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return fmt.Errorf("read memory: %w", err)
			}
			peaks = append(peaks, strconv.FormatInt(kib>>10, 10))
		}
		fmt.Fprintf(w, " %s %s;", s.name, strings.Join(peaks, " + "))
	}
	fmt.Fprintln(w)
	return nil
}

// describe prints what the figures depend on: processors, and how long the scratch folder's disk takes to sync 4 KiB.
func (b *bench) describe(w io.Writer) (err error) {
	f, err := os.Create(filepath.Join(b.dir, "sync.probe"))
	if err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	const probes = 101
	block := make([]byte, 4096)
	took := make([]time.Duration, probes)
	for i := range took {
		begin := time.Now()
		if _, err := f.WriteAt(block, int64(i)*int64(len(block))); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	fmt.Fprintf(w, "%d processors, load %s before the run; syncing 4 KiB takes %s (median), %s (99 %%); %d rounds of %v, medians\n",
		runtime.NumCPU(), strings.Fields(string(load))[0], latency(took[probes/2]), latency(took[probes*99/100]), b.rounds, b.runtime)
	return nil
}
