package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/face"
)

// rotPatience is how long a node with a rotten store may take to get in sync, before it gets a new one.
const rotPatience = time.Minute

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

// rot turns a bit over in one of the files below a folder, and says where. Empty where there is none.
func rot(fs vfs.FS, dir string, rng *rand.Rand) (where string, err error) {
	files, err := filesBelow(fs, dir)
	if err != nil || len(files) == 0 {
		return "", err
	}
	name := files[rng.IntN(len(files))]
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	at := rng.Int64N(info.Size())
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return "", err
	}
	b[0] ^= 1 << rng.IntN(8)
	_, err = f.WriteAt(b[:], at)
	return fmt.Sprintf("%s at %d of %d", name, at, info.Size()), err
}

// filesBelow lists the files that are not empty, in order.
func filesBelow(fs vfs.FS, dir string) (files []string, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			below, err := filesBelow(fs, path)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		} else if info.Size() > 0 {
			files = append(files, path)
		}
	}
	return files, nil
}

// bootRotten starts the secondary on a store that has rotted. One that it refuses is replaced.
func (r *run) bootRotten(m moment) error {
	where, err := rot(r.secondary.fs, r.secondary.dir, r.secondary.rng)
	if err != nil {
		return fmt.Errorf("let a bit rot: %w", err)
	}
	err = r.boot(r.secondary, m)
	fmt.Fprintf(r.out, "=== a bit has rotted: %s: %v\n", where, err)
	if err != nil {
		return r.replaceStore()
	}
	return nil
}

// mendRotten gives the secondary a new store where it does not get in sync with the one that has rotted, as an administrator would.
func (r *run) mendRotten() error {
	r.world.mend()
	err := r.within(rotPatience, "in sync", func(a, b face.Resource) bool { return inSync(a) && inSync(b) })
	if err != nil {
		return r.replaceStore()
	}
	return nil
}

func (r *run) replaceStore() error {
	fmt.Fprintf(r.out, "=== a new store\n")
	r.secondary.stop()
	r.secondary.fs = vfs.NewCrashableMem()
	return errors.Join(r.secondary.start(), r.secondary.do("create-md"), r.secondary.do("up"))
}
