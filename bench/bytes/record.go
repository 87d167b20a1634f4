package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drship/bench/device"
	"drship/bench/pair"
)

const volumeBytes = 4 << 30

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
	if err := device.Run(ctx, "sync"); err != nil {
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
	if err := device.Run(ctx, "sync"); err != nil {
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

// mount puts an ext4 on the export.
func (m *mounted) mount(ctx context.Context) error {
	m.root = filepath.Join(m.dir, "mnt")
	s, err := device.Open(ctx, filepath.Join(m.dir, "fuse"), m.node.URI(0), volumeBytes)
	if err != nil {
		return err
	}
	m.later(s.Close)
	loop, err := s.Loop(ctx, 0, volumeBytes)
	if err != nil {
		return err
	}
	if err := device.Format(ctx, loop); err != nil {
		return err
	}
	return s.Mount(ctx, loop, m.root)
}
