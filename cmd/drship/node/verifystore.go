package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/face"
)

const (
	maxVerifyRuns = 32      // reports kept of a resource
	maxVerifyDoc  = 8 << 20 // bytes read of a stored document
)

// verifyDoc is what a resource remembers of its verifies. It is a file of its own beside the store: it is no part of what
// the data depends on, and can be read and thrown away by hand.
type verifyDoc struct {
	fs   vfs.FS
	path string

	mu   sync.Mutex // guards what follows and the file
	data verifyData
}

type verifyData struct {
	Runs []face.VerifyRun `json:"runs"` // newest first
	// Resume is where the scheduled run that was interrupted goes on; nil without one.
	Resume *verifyResume `json:"resume,omitempty"`
}

// verifyResume is a scheduled run that was interrupted: its report is the run that started then.
type verifyResume struct {
	Peer  string `json:"peer"`
	Index int    `json:"range"`
	Off   int64  `json:"offset"`
}

func verifyPath(n *Node, resource string) string {
	return filepath.Join(n.env.StateDir, resource+".verify.json")
}

func openVerifyDoc(n *Node, resource string) *verifyDoc {
	d := &verifyDoc{fs: n.env.FS, path: verifyPath(n, resource)}
	if d.fs == nil {
		d.fs = vfs.Default
	}
	if err := d.load(); err != nil {
		n.log.Warn("reports of earlier verifies are lost", "resource", resource, "err", err)
	}
	return d
}

func (d *verifyDoc) load() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.fs.Open(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open reports: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxVerifyDoc))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read reports: %w", err)
	}
	if err := json.Unmarshal(text, &d.data); err != nil {
		d.data = verifyData{}
		return fmt.Errorf("read reports: %w", err)
	}
	return nil
}

// change edits the document and stores it: written beside, synced, renamed.
func (d *verifyDoc) change(edit func(*verifyData)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit(&d.data)
	if len(d.data.Runs) > maxVerifyRuns {
		d.data.Runs = d.data.Runs[:maxVerifyRuns]
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(&d.data); err != nil {
		return fmt.Errorf("encode reports: %w", err)
	}
	if err := d.write(b.Bytes()); err != nil {
		return fmt.Errorf("store reports: %w", err)
	}
	return nil
}

func (d *verifyDoc) write(text []byte) error {
	next := d.path + ".new"
	f, err := d.fs.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.fs.Rename(next, d.path)
}

// read calls look with the document; look keeps nothing of it.
func (d *verifyDoc) read(look func(*verifyData)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	look(&d.data)
}
