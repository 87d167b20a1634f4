package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names in the directory of a store.
const (
	dirDB       = "db"      // Pebble's files
	fileReserve = "reserve" // space kept for when the file system is full
	fileArmed   = "armed"   // becomes fileLost when the store fails
	fileLost    = "lost"    // the store failed: what happened afterwards was not recorded
)

// makeReserve allocates size bytes for real, so that removing the file gives them back. A file of that size that is
// there already is kept.
func makeReserve(fsys vfs.FS, name string, size int64) (err error) {
	if size <= 0 {
		return removeIfThere(fsys, name)
	}
	if fi, err := fsys.Stat(name); err == nil && fi.Size() == size {
		return nil
	}
	f, err := fsys.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create reserve: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("allocate reserve of %d bytes: %w", size, err), removeIfThere(fsys, name))
		}
	}()
	// Noise, so that a file system that compresses or deduplicates cannot make it vanish.
	noise := rand.New(rand.NewPCG(uint64(size), 1))
	chunk := make([]byte, 256<<10)
	for left := size; left > 0; {
		for i := 0; i < len(chunk); i += 8 {
			le.PutUint64(chunk[i:], noise.Uint64())
		}
		n := min(left, int64(len(chunk)))
		if _, err := f.Write(chunk[:n]); err != nil {
			return err
		}
		left -= n
	}
	return f.Sync()
}

func removeIfThere(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// exists reports whether the file is there.
func exists(fsys vfs.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// syncDir makes the names in dir durable.
func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes dir and what it stands in, durably.
func makeDir(fsys vfs.FS, dir string) error {
	var parents []string // of what is not there yet
	for at := dir; ; {
		there, err := exists(fsys, at)
		if err != nil {
			return err
		}
		parent := fsys.PathDir(at)
		if there || parent == at {
			break
		}
		parents = append(parents, parent)
		at = parent
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if err := syncDir(fsys, p); err != nil {
			return err
		}
	}
	return nil
}

// arm prepares the mark of failure, so that making it needs a rename only. It reports whether the mark is there
// from a failure before.
func arm(fsys vfs.FS, dir string) (lost bool, err error) {
	if lost, err = exists(fsys, fsys.PathJoin(dir, fileLost)); err != nil || lost {
		return lost, err
	}
	name := fsys.PathJoin(dir, fileArmed)
	if there, err := exists(fsys, name); err != nil || there {
		return false, err
	}
	f, err := fsys.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, fmt.Errorf("create mark: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(fsys, dir)); err != nil {
		return false, fmt.Errorf("create mark: %w", err)
	}
	return false, nil
}

// moveMark renames one mark to the other, durably.
func moveMark(fsys vfs.FS, dir, from, to string) error {
	if err := fsys.Rename(fsys.PathJoin(dir, from), fsys.PathJoin(dir, to)); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}
