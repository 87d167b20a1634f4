package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"drship/bench/pair"
)

const (
	volumeBytes = 4 << 30
	bootTime    = 30 * time.Second
	tick        = 20 * time.Millisecond
)

// record makes the traces that are not there yet and returns their paths.
func (b *bench) record(ctx context.Context, names string) (paths []string, err error) {
	for _, name := range strings.Split(names, ",") {
		load, ok := b.workloads()[name]
		if !ok {
			return nil, fmt.Errorf("there is no workload %q", name)
		}
		path := filepath.Join(b.dir, name+".trace")
		paths = append(paths, path)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		fmt.Printf("recording %s\n", name)
		if err := b.recordOne(ctx, path, load); err != nil {
			return nil, fmt.Errorf("record %s: %w", name, err)
		}
	}
	return paths, nil
}

// workload is what is done on a mounted file system: prepare comes before the recording.
type workload struct {
	prepare, run func(ctx context.Context, m *mounted) error
}

// mounted is a node with an ext4 on its export. What was done to get there is undone in the reverse order.
type mounted struct {
	node *pair.Node
	dir  string // scratch
	root string // where the file system is
	undo []func() error
}

func (b *bench) recordOne(ctx context.Context, path string, load workload) (err error) {
	if b.binary == "" {
		if b.binary, err = pair.Build(ctx, b.dir, false); err != nil {
			return err
		}
	}
	m := &mounted{dir: path + ".d"}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	m.later(func() error { return os.RemoveAll(m.dir) })
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.start(ctx, b.binary); err != nil {
		return err
	}
	if err := m.mount(ctx); err != nil {
		return err
	}
	if load.prepare != nil {
		if err := load.prepare(ctx, m); err != nil {
			return err
		}
	}
	if err := m.run(ctx, "sync"); err != nil {
		return err
	}
	return m.recording(ctx, path, load, b.best)
}

// recording runs the workload. Nobody applies what the journal holds, so that the trace can be taken when all is over; what
// came before is told apart by its time.
func (m *mounted) recording(ctx context.Context, path string, load workload, best bool) error {
	began := time.Now()
	if err := load.run(ctx, m); err != nil {
		return err
	}
	if err := m.run(ctx, "sync"); err != nil {
		return err
	}
	whole := path + ".whole"
	m.later(func() error { return os.Remove(whole) })
	if _, err := m.node.Verb(ctx, "journal", "export", "--file", whole, pair.Resource); err != nil {
		return err
	}
	return tail(whole, path, began, best)
}

func (m *mounted) later(undo func() error) { m.undo = append(m.undo, undo) }

func (m *mounted) close() (err error) {
	for i := len(m.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, m.undo[i]())
	}
	return err
}

// start brings up one node of a pair whose other node is never there.
func (m *mounted) start(ctx context.Context, binary string) error {
	p, err := pair.New(pair.Options{Binary: binary, Dir: filepath.Join(m.dir, "pair"), Sizes: []int64{volumeBytes}, Protocol: "A",
		Journal: []string{"max-size 40G"}})
	if err != nil {
		return err
	}
	m.later(p.Close)
	m.node = p.Nodes[0]
	if err := m.node.Start(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{{"create-md", pair.Resource}, {"up", pair.Resource}, {"primary", "--force", pair.Resource}} {
		if _, err := m.node.Verb(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// mount puts an ext4 on the export, by way of FUSE and a loop device.
func (m *mounted) mount(ctx context.Context) error {
	fuse := filepath.Join(m.dir, "fuse")
	m.root = filepath.Join(m.dir, "mnt")
	if err := errors.Join(os.Mkdir(fuse, 0o755), os.Mkdir(m.root, 0o755)); err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	cmd := exec.Command("nbdfuse", fuse, m.node.URI(0))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nbdfuse (Debian package libnbd-bin): %w", err)
	}
	m.later(func() error { return errors.Join(m.run(context.Background(), "fusermount3", "-u", fuse), cmd.Wait()) })
	file := filepath.Join(fuse, "nbd")
	if err := await(ctx, func() bool { st, err := os.Stat(file); return err == nil && st.Size() == volumeBytes }); err != nil {
		return fmt.Errorf("nbdfuse shows no file: %w", err)
	}
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", file).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	loop := strings.TrimSpace(string(out))
	m.later(func() error { return m.run(context.Background(), "losetup", "--detach", loop) })
	if err := m.run(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop); err != nil {
		return err
	}
	if err := m.run(ctx, "mount", loop, m.root); err != nil {
		return err
	}
	m.later(func() error { return m.run(context.Background(), "umount", m.root) })
	return nil
}

func await(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	t := time.NewTicker(tick)
	defer t.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// run runs a command and tells what it said where it fails.
func (m *mounted) run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastOf(out))
	}
	return nil
}

func lastOf(out []byte) string { return string(out[max(0, len(out)-1<<10):]) }
