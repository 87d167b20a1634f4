package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drship/bench/device"
	"drship/bench/pair"
	"drship/bench/power"
)

const (
	volumeSize = 160 << 20
	// roomSize is where the backing disk is: a bare device, or an ext4 with a file.
	roomSize = volumeSize + 64<<20
	// stateSize is the file system of the state directory: the journal with its limit, and the staged.
	stateSize  = 288 << 20
	journalMax = 64 << 20
)

// machine is what stands under one node: a disk that can lose power, with the backing disk and the state directory on it.
type machine struct {
	dir   string
	bare  bool // the backing disk is a block device; else it is a file
	power *power.Disk
	stack *device.Stack // nil while the machine is off
}

// newMachine makes its disk, formats it and mounts it.
func newMachine(ctx context.Context, dir string, bare bool, seed uint64) (*machine, error) {
	m := &machine{dir: dir, bare: bare}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	var err error
	if m.power, err = power.Start(filepath.Join(dir, "disk.sock"), roomSize+stateSize, seed); err != nil {
		return nil, err
	}
	return m, m.on(ctx, true)
}

// on powers the machine on. New disks are formatted.
func (m *machine) on(ctx context.Context, fresh bool) error {
	m.power.On()
	var err error
	if m.stack, err = device.Open(ctx, filepath.Join(m.dir, "fuse"), m.power.URI(), roomSize+stateSize); err != nil {
		return err
	}
	if err := m.part(ctx, roomSize, stateSize, m.state(), fresh); err != nil {
		return err
	}
	if !m.bare {
		return m.part(ctx, 0, roomSize, m.room(), fresh)
	}
	loop, err := m.stack.Loop(ctx, 0, volumeSize)
	if err != nil {
		return err
	}
	// The device has another number each time; the node knows it by one name.
	if err := os.Remove(m.backing()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the old device: %w", err)
	}
	return os.Symlink(loop, m.backing())
}

// part mounts a part of the disk.
func (m *machine) part(ctx context.Context, off, n int64, dir string, fresh bool) error {
	loop, err := m.stack.Loop(ctx, off, n)
	if err != nil {
		return err
	}
	if fresh {
		if err := device.Format(ctx, loop); err != nil {
			return err
		}
	}
	return m.stack.Mount(ctx, loop, dir)
}

func (m *machine) room() string  { return filepath.Join(m.dir, "room") }
func (m *machine) state() string { return filepath.Join(m.dir, "var") }

// backing is the path of the backing disk.
func (m *machine) backing() string {
	if m.bare {
		return filepath.Join(m.dir, "disk")
	}
	return filepath.Join(m.room(), "vol0.img")
}

// off takes the machine away from below whoever is on it. What was written since the last Cut is lost where there was one.
func (m *machine) off() error {
	if m.stack == nil {
		return nil
	}
	err := m.stack.Close()
	m.stack = nil
	return err
}

func (m *machine) close() error { return errors.Join(m.off(), m.power.Close()) }

// fill takes all room of the state directory's file system; the function gives it back.
func (m *machine) fill() (release func() error, err error) {
	path := filepath.Join(m.state(), "filler")
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("fill %s: %w", m.state(), err)
	}
	for piece := make([]byte, 1<<20); len(piece) >= 4096; {
		if _, err := f.Write(piece); err != nil {
			piece = piece[:len(piece)/2]
		}
	}
	return func() error { return os.Remove(path) }, f.Close()
}

// standStill freezes a daemon and waits until none of its threads runs: what it has not said by then it will never say.
func standStill(ctx context.Context, n *pair.Node) error {
	if err := n.Stop(); err != nil {
		return err
	}
	pid := n.PID()
	return device.Await(ctx, func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return false
		}
		for _, path := range stats {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			_, behind, _ := strings.Cut(string(text), ") ")
			if !strings.HasPrefix(behind, "T") && !strings.HasPrefix(behind, "D") {
				return false // D is inside the kernel, and stops before it comes back from there
			}
		}
		return true
	})
}

// powerOff is the loss of power of a node: it says nothing any more, then what is on its disk is decided, then it is gone.
func (r *run) powerOff(ctx context.Context, n *pair.Node) error {
	m := r.machines[n.Name]
	if err := standStill(ctx, n); err != nil {
		return err
	}
	m.power.Cut()
	if n == r.primary {
		if err := r.clientDies(); err != nil {
			return err
		}
	}
	return errors.Join(n.Kill(), m.off())
}

// powerOn brings a node back with what its disk still has; where the plan says so, it loses power once more on its way.
func (r *run) powerOn(ctx context.Context, n *pair.Node, p plan) error {
	if p.again {
		p.again = false
		if err := errors.Join(r.powerOn(ctx, n, p), pair.Pause(ctx, p.gap/4), r.powerOff(ctx, n)); err != nil {
			return fmt.Errorf("power %s on, for a while: %w", n.Name, err)
		}
	}
	if err := r.machines[n.Name].on(ctx, false); err != nil {
		return fmt.Errorf("power %s on: %w", n.Name, err)
	}
	return start(ctx, n)
}

func start(ctx context.Context, n *pair.Node) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	return n.Up(ctx)
}
