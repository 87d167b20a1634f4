package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"drship/internal/face"
)

const (
	procFileName = "proc-drbd"
	// procInterval is the least time between two writes of the file.
	procInterval = 200 * time.Millisecond
)

// RenderProc prints snapshots as /proc/drbd of DRBD 8.4 does.
type RenderProc func(w io.Writer, resources []face.Resource) error

// keepProcFile keeps <run-dir>/proc-drbd as /proc/drbd would be, for scripts that read that, until ctx ends. A reader sees
// a whole file always: each new one takes the place of the old.
func (n *Node) keepProcFile(ctx context.Context) error {
	path := filepath.Join(n.env.RunDir, procFileName)
	notices, stop := n.watchers.subscribe()
	defer stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var last, next bytes.Buffer
	for {
		select {
		case <-ctx.Done():
			return n.removeProcFile(path)
		case <-pause.C:
		}
		snapshot, err := n.Status(ctx, nil)
		if err == nil {
			next.Reset()
			err = n.env.RenderProc(&next, snapshot)
		}
		if err == nil && !bytes.Equal(last.Bytes(), next.Bytes()) {
			err = replaceFile(path, next.Bytes())
			last, next = next, last
		}
		if err != nil { // a full run directory must not stop a node
			n.log.Warn("state file for scripts was not written", "path", path, "err", err)
		}
		select {
		case <-ctx.Done():
			return n.removeProcFile(path)
		case <-notices:
		}
		pause.Reset(procInterval)
	}
}

func (n *Node) removeProcFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Warn("state file for scripts was not removed", "path", path, "err", err)
	}
	return nil
}

// replaceFile puts a file in the place of another at once. It does not survive a power loss, and needs not.
func replaceFile(path string, text []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", next, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}
