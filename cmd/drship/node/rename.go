package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/cmd/drship/control"
	"drship/internal/state"
	"drship/journal"
)

// verbRename gives what is kept of a resource to the one that the configuration has in its place: metadata, journal and bitmaps, reports of verifies.
// Both are down.
func verbRename(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	from := q.Options["from"]
	if from == "" || from != filepath.Base(from) || from == "." || from == ".." {
		return nil, &refused{exit: control.ExitUsage, text: fmt.Sprintf("%q is no name of a resource", from), hint: "drship rename-resource --from OLD NEW"}
	}
	if from == r.name {
		return nil, nil
	}
	if old := find(r.node.all(), from); old != nil && old.isUp() {
		return nil, state.Refused(state.ErrResourceInUse, "take it down first: drship down %s", from)
	} else if old != nil {
		return nil, &refused{exit: control.ExitRefused, text: "the configuration has " + from + " as well as " + r.name, hint: "rename it there first"}
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if r.isUp() {
		return nil, state.Refused(state.ErrResourceInUse, "take it down first: drship down %s", r.name)
	}
	return nil, r.takeStoreOf(from)
}

// takeStoreOf moves the store of a resource that is gone here. Called with the token held.
func (r *Resource) takeStoreOf(from string) error {
	files := r.node.env.FS
	if files == nil {
		files = vfs.Default
	}
	old, now := r.node.storeDir(from), r.node.storeDir(r.name)
	if _, err := files.Stat(old); errors.Is(err, fs.ErrNotExist) {
		return &refused{exit: control.ExitUsage, text: "No valid meta data found\nnothing is kept of a resource " + from}
	}
	if err := r.emptyStore(); err != nil {
		return err
	}
	if err := files.RemoveAll(now); err != nil {
		return fmt.Errorf("make room for the store of %s: %w", from, err)
	}
	if err := files.Rename(old, now); err != nil {
		return fmt.Errorf("move the store of %s: %w", from, err)
	}
	if err := files.Rename(verifyPath(r.node, from), verifyPath(r.node, r.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move the verify reports of %s: %w", from, err)
	}
	if err := r.verifies.load(); err != nil {
		r.log.Warn("reports of earlier verifies are lost", "err", err)
	}
	store, err := r.openStore()
	if err != nil {
		return err
	}
	meta, err := store.Meta()
	if err == nil {
		meta.Resource = r.name
		err = store.SetMeta(meta)
	}
	if errors.Is(err, journal.ErrNoMeta) {
		err = nil
	}
	r.log.Info("renamed", "from", from)
	return errors.Join(err, store.Close())
}

// emptyStore refuses where the resource has metadata of its own.
func (r *Resource) emptyStore() error {
	store, err := r.openStore()
	if err != nil {
		return err
	}
	if _, err = store.Meta(); err == nil {
		err = r.metadataExists("")
	} else if errors.Is(err, journal.ErrNoMeta) {
		err = nil
	}
	return errors.Join(err, store.Close())
}
