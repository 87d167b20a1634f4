package journal

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS stands between Pebble and the file system, because Pebble ends the process (Logger.Fatalf) or panics with
// its locks held when its log or manifest cannot be written. Once something cannot be written, the guard
//
//  1. freezes: the files underneath are never touched again, so that they stay as a crash would have left them,
//  2. reports it, before the call that failed returns to Pebble,
//  3. lets Pebble believe that it went well. New files live in memory, until the database is closed a moment later.
//
// Whoever calls Pebble looks at the failure after each call and so never takes such a success for real.
type guardFS struct {
	vfs.FS                 // the real one; methods below override what changes it
	memory  *vfs.MemFS     // files made after the freeze
	active  atomic.Bool    // false while the database opens: errors are returned as they are
	frozen  atomic.Bool    // nothing reaches the real file system any more
	tight   atomic.Bool    // ENOSPC was seen: no preallocation
	noSpace func() bool    // ENOSPC was met: makes room; false if there is none to make
	fail    func(op error) // the write that cannot be done; freezes
}

// compactionFiles is the category that Pebble gives the files of its compactions: they may fail without harm.
const compactionFiles vfs.DiskWriteCategory = "pebble-compaction"

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// do runs op, once more if it met ENOSPC and room could be made. A nil return means done, or frozen now: look at
// frozen to tell them apart. Compactions neither use the reserve up nor bring the store down for want of space.
func (g *guardFS) do(category vfs.DiskWriteCategory, op func() error) error {
	err := op()
	if err == nil {
		return nil
	}
	if isNoSpace(err) {
		room := g.noSpace()
		if category == compactionFiles {
			return err
		}
		if room {
			if err = op(); err == nil {
				return nil
			}
		}
	}
	if !g.active.Load() {
		return err
	}
	g.fail(err)
	return nil
}

// Unwrap implements vfs.FS.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// Create implements vfs.FS.
func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if g.frozen.Load() {
		return g.inMemory(name)
	}
	var f vfs.File
	err := g.do(category, func() (err error) { f, err = g.FS.Create(name, category); return err })
	return g.made(f, err, name, category)
}

// ReuseForWrite implements vfs.FS.
func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if g.frozen.Load() {
		return g.inMemory(newname)
	}
	var f vfs.File
	err := g.do(category, func() (err error) { f, err = g.FS.ReuseForWrite(oldname, newname, category); return err })
	return g.made(f, err, newname, category)
}

// OpenReadWrite implements vfs.FS.
func (g *guardFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if g.frozen.Load() {
		return g.inMemory(name)
	}
	var f vfs.File
	err := g.do(category, func() (err error) { f, err = g.FS.OpenReadWrite(name, category, opts...); return err })
	return g.made(f, err, name, category)
}

func (g *guardFS) made(f vfs.File, err error, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	switch {
	case err != nil:
		return nil, err
	case f == nil: // do let it pass: frozen
		return g.inMemory(name)
	}
	return &guardFile{File: f, fs: g, category: category}, nil
}

func (g *guardFS) inMemory(name string) (vfs.File, error) {
	if err := g.memory.MkdirAll(g.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	return g.memory.Create(name, vfs.WriteCategoryUnspecified)
}

// Open implements vfs.FS.
func (g *guardFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if g.frozen.Load() {
		if f, err := g.memory.Open(name, opts...); err == nil {
			return f, nil
		}
	}
	return g.FS.Open(name, opts...)
}

// OpenDir implements vfs.FS.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardFile{File: f, fs: g}, nil
}

// Stat implements vfs.FS.
func (g *guardFS) Stat(name string) (vfs.FileInfo, error) {
	if g.frozen.Load() {
		if fi, err := g.memory.Stat(name); err == nil {
			return fi, nil
		}
	}
	return g.FS.Stat(name)
}

// change runs an operation on names; it does nothing once frozen.
func (g *guardFS) change(op func() error) error {
	if g.frozen.Load() {
		return nil
	}
	return g.do("", op)
}

// Link implements vfs.FS.
func (g *guardFS) Link(oldname, newname string) error {
	return g.change(func() error { return g.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (g *guardFS) Rename(oldname, newname string) error {
	return g.change(func() error { return g.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (g *guardFS) MkdirAll(dir string, perm os.FileMode) error {
	return g.change(func() error { return g.FS.MkdirAll(dir, perm) })
}

// Remove implements vfs.FS. A file that cannot be removed only takes room.
func (g *guardFS) Remove(name string) error {
	if g.frozen.Load() {
		return nil
	}
	return g.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (g *guardFS) RemoveAll(name string) error {
	if g.frozen.Load() {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// Lock implements vfs.FS.
func (g *guardFS) Lock(name string) (io.Closer, error) { return g.FS.Lock(name) }

// GetDiskUsage implements vfs.FS. Pebble takes any other error for a fault of the database.
func (g *guardFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	u, err := g.FS.GetDiskUsage(path)
	if err != nil {
		return u, vfs.ErrUnsupported
	}
	return u, nil
}

// guardFile is a file of a guardFS.
type guardFile struct {
	vfs.File
	fs       *guardFS
	category vfs.DiskWriteCategory
}

// errFrozen ends the writing of a table that was begun before the freeze: unlike the log, it will be read again.
var errFrozen = errors.New("store has failed: file is frozen")

// frozen reports whether the file may not be touched, and what to answer then.
func (f *guardFile) frozen() (bool, error) {
	if !f.fs.frozen.Load() {
		return false, nil
	}
	if f.category == compactionFiles || f.category == "pebble-memtable-flush" {
		return true, errFrozen
	}
	return true, nil
}

// Write implements vfs.File.
func (f *guardFile) Write(p []byte) (int, error) {
	if frozen, err := f.frozen(); frozen {
		return len(p), err
	}
	done := 0
	err := f.fs.do(f.category, func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	if err != nil {
		return done, err
	}
	return len(p), nil
}

// WriteAt implements vfs.File.
func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	if frozen, err := f.frozen(); frozen {
		return len(p), err
	}
	err := f.fs.do(f.category, func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Preallocate implements vfs.File. It is a hint: its failure is no fault, and a file system that was full gets none.
func (f *guardFile) Preallocate(offset, length int64) error {
	if f.fs.frozen.Load() || f.fs.tight.Load() {
		return nil
	}
	return f.File.Preallocate(offset, length)
}

// sync runs one of the syncs. It is never tried again: the first failure may have dropped what was to be written.
func (f *guardFile) sync(op func() error) error {
	if frozen, err := f.frozen(); frozen {
		return err
	}
	err := op()
	if err == nil {
		return nil
	}
	if isNoSpace(err) {
		f.fs.noSpace()
		if f.category == compactionFiles {
			return err
		}
	}
	if !f.fs.active.Load() {
		return err
	}
	f.fs.fail(err)
	return nil
}

// Sync implements vfs.File.
func (f *guardFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *guardFile) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *guardFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Close implements vfs.File. All that matters was synced before.
func (f *guardFile) Close() error {
	if err := f.File.Close(); err != nil && !f.fs.frozen.Load() {
		return err
	}
	return nil
}
