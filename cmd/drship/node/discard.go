package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/discard"
	"drship/internal/state"
	"drship/journal"
)

// What a side wrote on its own and gives up, because the other side's data wins, is kept in a file of its own: the pre-images of the resync that replaces
// it. drship history lists and exports the files; they are removed by hand only, so that nothing is thrown away silently.

var errHistoryRoom = errors.New("no room left within max-history")

// givesUpLocked notes durably that this side's own writes are about to be replaced. Called with mu held, before the resync starts.
func (r *Resource) givesUpLocked(a *attachment, differs bool) error {
	if !differs || a.worstDisk() < state.Outdated || a.meta.Flags&metaGivesUp != 0 {
		return nil
	}
	a.meta.Flags |= metaGivesUp
	return a.save()
}

// keepDiscarded writes what this side gave up into a file, where there is room. It is called while the pre-images still are, at the end of the resync.
func (r *Resource) keepDiscarded(a *attachment, peer string) {
	r.mu.Lock()
	on := a.meta.Flags&metaGivesUp != 0
	a.meta.Flags &^= metaGivesUp // durable with what the caller stores next
	r.mu.Unlock()
	if !on {
		return
	}
	h := a.store.History()
	if _, open := h.Open(); !open {
		r.log.Error("what this side had written on its own was replaced and could not be kept: max-history had no room for it", "peer", peer)
		return
	}
	if h.Bytes() == 0 {
		return
	}
	path, blocks, err := r.writeDiscarded(a, peer, h)
	if err != nil {
		r.log.Error("what this side had written on its own was replaced and could not be kept", "peer", peer, "err", err)
		return
	}
	r.log.Warn("what this side had written on its own was replaced and is kept: drship history list "+r.name, "peer", peer, "blocks", blocks, "file", path)
}

func (r *Resource) fileSystem() vfs.FS {
	if fs := r.node.env.FS; fs != nil {
		return fs
	}
	return vfs.Default
}

func (r *Resource) writeDiscarded(a *attachment, peer string, h *journal.History) (path string, blocks int, err error) {
	files, dir := r.fileSystem(), discard.Folder(r.node.env.StateDir, r.name)
	kept, err := keptBytes(files, dir)
	if err != nil {
		return "", 0, err
	}
	if kept+h.Bytes() > r.cfg.Journal.MaxHistory {
		return "", 0, fmt.Errorf("%w: %d bytes are kept already; drship history drop makes room", errHistoryRoom, kept)
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return "", 0, err
	}
	now := r.node.env.Now().UTC()
	if path, err = freeName(files, dir, now); err != nil {
		return "", 0, err
	}
	f, err := files.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", 0, err
	}
	head := discard.Header{Resource: r.name, Node: r.node.env.Node, Peer: peer, At: now, Reason: "the data of " + peer + " replaced what was written here without it"}
	for _, v := range a.meta.Volumes {
		head.Volumes = append(head.Volumes, discard.Volume{Number: v.Volume, Size: v.Size})
	}
	blocks, err = copyImages(f, head, h)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = files.Rename(path+".new", path)
	}
	if err != nil {
		return "", 0, errors.Join(fmt.Errorf("write %s: %w", path, err), files.Remove(path+".new"))
	}
	return path, blocks, nil
}

// freeName is a name for what is kept at a time. The clock may have been set back: then a moment later, so that nothing kept before is replaced.
func freeName(files vfs.FS, dir string, at time.Time) (string, error) {
	for {
		path := filepath.Join(dir, at.Format("20060102T150405.000Z")+discard.Suffix)
		if _, err := files.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
		at = at.Add(time.Millisecond)
	}
}

func copyImages(to io.Writer, head discard.Header, h *journal.History) (blocks int, err error) {
	w, err := discard.NewWriter(to, head)
	if err != nil {
		return 0, err
	}
	err = h.Restore(func(m journal.Image) error {
		blocks++
		return w.Add(discard.Image{Volume: m.Volume, Block: m.Block, Data: m.Data})
	})
	return blocks, errors.Join(err, w.Close())
}

// keptBytes is how much is kept already.
func keptBytes(files vfs.FS, dir string) (int64, error) {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, name := range names {
		if !strings.HasSuffix(name, discard.Suffix) {
			continue
		}
		info, err := files.Stat(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}
