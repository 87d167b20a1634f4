package sim

import (
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// trouble is what is wrong with a file system at the moment: nothing, or an errno that every write and sync of a file gets.
type trouble struct{ errno atomic.Int32 }

func (t *trouble) set(e syscall.Errno) { t.errno.Store(int32(e)) }

func (t *trouble) err() error {
	if e := t.errno.Load(); e != 0 {
		return syscall.Errno(e)
	}
	return nil
}

// shaky is a file system that can be in trouble.
type shaky struct {
	vfs.FS
	trouble *trouble
}

func (s shaky) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &shakyFile{f, s.trouble}, nil
}

// Create implements vfs.FS.
func (s shaky) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.file(s.FS.Create(name, c))
}

// ReuseForWrite implements vfs.FS.
func (s shaky) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.file(s.FS.ReuseForWrite(from, to, c))
}

// OpenReadWrite implements vfs.FS.
func (s shaky) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return s.file(s.FS.OpenReadWrite(name, c, o...))
}

type shakyFile struct {
	vfs.File
	trouble *trouble
}

// Write implements vfs.File.
func (f *shakyFile) Write(p []byte) (int, error) {
	if err := f.trouble.err(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// WriteAt implements vfs.File.
func (f *shakyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.trouble.err(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// Sync implements vfs.File. A full file system can still sync.
func (f *shakyFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *shakyFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *shakyFile) sync(do func() error) error {
	if err := f.trouble.err(); err != nil && err != syscall.ENOSPC {
		return err
	}
	return do()
}
