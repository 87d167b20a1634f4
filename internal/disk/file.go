package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options of Open.
type Options struct {
	// ReadOnly opens the disk for reading only; it is still held exclusively.
	ReadOnly bool
}

// maxSegments bounds one answer of Segments; what lies behind the last one is reported as data.
const maxSegments = 1 << 16

// zeroChunk is the size of a plain write of zeroes, in bytes, where the disk has no better way.
const zeroChunk = 1 << 20

// File is a regular file or a block device, held exclusively from Open to Close.
type File struct {
	f       *os.File
	path    string
	size    atomic.Int64
	device  bool
	sector  int64 // Zero's fast ways want multiples of it
	closed  atomic.Bool
	noPunch atomic.Bool
	noRange atomic.Bool

	// syncErr keeps the first failure of Sync: the kernel reports a lost write once and then marks its pages
	// clean, so that a later success would be a lie.
	syncErr atomic.Pointer[error]
}

var _ Disk = (*File)(nil)

// Open opens a regular file or a block device as the disk of a volume. It neither creates nor truncates nor formats.
// ErrInUse (wrapped, with the holder's name where it can be found) says that a mount, a loop device, a swap area, a
// device-mapper target or another process holds it.
func Open(path string, o Options) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	device := false
	switch mode := info.Mode(); {
	case mode.IsRegular():
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		// Without O_CREAT, O_EXCL on a block device means: fail if it is claimed, and claim it.
		device, flags = true, flags|unix.O_EXCL
	default:
		return nil, fmt.Errorf("open disk %s: neither a regular file nor a block device", path)
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, inUse(path, info)
	}
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	d := &File{f: f, path: path, device: device, sector: 1}
	if err := d.claim(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// claim makes the disk ours and finds its size. It looks at the opened file, not at the path, which may have changed.
func (d *File) claim() error {
	info, err := d.f.Stat()
	if err != nil {
		return fmt.Errorf("open disk: %w", err)
	}
	if d.device != (info.Mode()&fs.ModeDevice != 0) {
		return fmt.Errorf("open disk %s: it changed while it was being opened", d.path)
	}
	if d.device {
		err = d.measureDevice()
	} else {
		d.size.Store(info.Size())
		err = d.lock(info)
	}
	if err != nil {
		return err
	}
	if d.size.Load() <= 0 {
		return fmt.Errorf("open disk %s: it has no size", d.path)
	}
	return nil
}

// lock takes the lock of a regular file. A device needs none: O_EXCL has claimed it, and udev would stand aside
// for a locked one.
func (d *File) lock(info fs.FileInfo) error {
	err := d.control(func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return inUse(d.path, info)
	}
	if err != nil {
		return fmt.Errorf("lock disk %s: %w", d.path, err)
	}
	if who := fileHolder(info); who != "" {
		return fmt.Errorf("open disk %s: %w by %s", d.path, ErrInUse, who)
	}
	return nil
}

func (d *File) measureDevice() error {
	err := d.control(func(fd int) error {
		size, err := ioctlUint64(fd, unix.BLKGETSIZE64)
		if err != nil {
			return err
		}
		sector, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
		if err != nil {
			return err
		}
		if size > 1<<62 || sector <= 0 {
			return fmt.Errorf("unbelievable size %d or sector size %d", size, sector)
		}
		d.size.Store(int64(size))
		d.sector = int64(sector)
		return nil
	})
	if err != nil {
		return fmt.Errorf("measure disk %s: %w", d.path, err)
	}
	return nil
}

// control runs fn with the file descriptor, which stays open meanwhile.
func (d *File) control(fn func(fd int) error) error {
	conn, err := d.f.SyscallConn()
	if err != nil {
		return d.closedError(err)
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return d.closedError(err)
	}
	return inner
}

// closedError turns what the os package says about a closed file, in one way or another, into ErrClosed.
func (d *File) closedError(err error) error {
	if err != nil && d.closed.Load() {
		return ErrClosed
	}
	return err
}

// Size implements Disk.
func (d *File) Size() int64 { return d.size.Load() }

// Remeasure looks for the size again, of a file or a device that has grown, and returns it. One that has shrunk keeps its old size.
func (d *File) Remeasure() (int64, error) {
	size := int64(0)
	if d.device {
		err := d.control(func(fd int) error {
			n, err := ioctlUint64(fd, unix.BLKGETSIZE64)
			size = int64(min(n, 1<<62))
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("measure disk %s: %w", d.path, err)
		}
	} else {
		info, err := d.f.Stat()
		if err != nil {
			return 0, fmt.Errorf("measure disk %s: %w", d.path, d.closedError(err))
		}
		size = info.Size()
	}
	if size > d.size.Load() {
		d.size.Store(size)
	}
	return d.size.Load(), nil
}

// Path is the name that the disk was opened by.
func (d *File) Path() string { return d.path }

// ReadAt implements Disk.
func (d *File) ReadAt(p []byte, off int64) error {
	if err := checkRange(off, int64(len(p)), d.size.Load()); err != nil {
		return err
	}
	n, err := d.f.ReadAt(p, off)
	if err == nil || (errors.Is(err, io.EOF) && n == len(p)) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at %d: the disk shrank: %w", d.path, off, io.ErrUnexpectedEOF)
	}
	return d.closedError(err)
}

// WriteAt implements Disk.
func (d *File) WriteAt(p []byte, off int64) error {
	if err := checkRange(off, int64(len(p)), d.size.Load()); err != nil {
		return err
	}
	_, err := d.f.WriteAt(p, off)
	return d.closedError(err)
}

// Sync implements Disk with fdatasync. Once it has failed it fails for good: what the kernel dropped is unknown.
func (d *File) Sync() error {
	if failed := d.syncErr.Load(); failed != nil {
		return *failed
	}
	err := d.control(func(fd int) error {
		return ignoringEINTR(func() error { return unix.Fdatasync(fd) })
	})
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	err = fmt.Errorf("sync %s: %w", d.path, err)
	d.syncErr.CompareAndSwap(nil, &err)
	return err
}

// Close implements Disk. It does not sync.
func (d *File) Close() error {
	if d.closed.Swap(true) {
		return ErrClosed
	}
	if err := d.f.Close(); err != nil {
		return fmt.Errorf("close disk: %w", err)
	}
	return nil
}

// checkRange refuses what lies outside a disk of the given size.
func checkRange(off, n, size int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("range [%d,+%d) is outside a disk of %d bytes", off, n, size)
	}
	return nil
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
