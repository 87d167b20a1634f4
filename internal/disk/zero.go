package disk

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroes is only ever read.
var zeroes [zeroChunk]byte

// Zero implements Disk. Both of the kernel's ways leave a range that reads as zeroes, on files and on devices (where
// PUNCH_HOLE is refused unless the device promises zeroes); a plain discard promises nothing and is not used. What is
// not aligned to the device's sectors, or refused, is written.
func (d *File) Zero(off, n int64, punch bool) error {
	if err := checkRange(off, n, d.size.Load()); err != nil {
		return err
	}
	first := min((off+d.sector-1)/d.sector*d.sector, off+n)
	end := max((off+n)/d.sector*d.sector, first)
	if end > first {
		done, err := d.zeroFast(first, end-first, punch)
		if err != nil {
			return d.closedError(fmt.Errorf("zero %s [%d,+%d): %w", d.path, off, n, err))
		}
		if done {
			if err := d.zeroPlain(off, first-off); err != nil {
				return err
			}
			return d.zeroPlain(end, off+n-end)
		}
	}
	return d.zeroPlain(off, n)
}

// zeroFast tries what the kernel offers and reports whether it did the work.
func (d *File) zeroFast(off, n int64, punch bool) (bool, error) {
	if punch && !d.noPunch.Load() {
		err := d.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if err == nil || !unsupported(err) {
			return err == nil, err
		}
		d.noPunch.Store(true)
	}
	if !d.noRange.Load() {
		err := d.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if d.device && err != nil && unsupported(err) {
			err = d.zeroOut(off, n)
		}
		if err == nil || !unsupported(err) {
			return err == nil, err
		}
		d.noRange.Store(true)
	}
	return false, nil
}

func (d *File) fallocate(mode uint32, off, n int64) error {
	return d.control(func(fd int) error {
		return ignoringEINTR(func() error { return unix.Fallocate(fd, mode, off, n) })
	})
}

// zeroOut asks a block device for BLKZEROOUT, for kernels whose devices know no fallocate.
func (d *File) zeroOut(off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	return d.control(func(fd int) error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

func (d *File) zeroPlain(off, n int64) error {
	for n > 0 {
		m := min(n, zeroChunk)
		if _, err := d.f.WriteAt(zeroes[:m], off); err != nil {
			return d.closedError(err)
		}
		off, n = off+m, n-m
	}
	return nil
}

// unsupported reports whether the kernel or the file system just does not know the operation.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL)
}

// Segments implements Disk with SEEK_DATA and SEEK_HOLE; a device, and a file system that cannot tell, is all data.
func (d *File) Segments(off, n int64) ([]Segment, error) {
	if err := checkRange(off, n, d.size.Load()); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, nil
	}
	if d.closed.Load() {
		return nil, ErrClosed
	}
	if d.device {
		return []Segment{{Off: off, Len: n}}, nil
	}
	var segments []Segment
	err := d.control(func(fd int) error {
		var err error
		segments, err = seekSegments(fd, off, off+n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("map %s [%d,+%d): %w", d.path, off, n, err)
	}
	return segments, nil
}

// seekSegments walks data and holes in [off, end). The file position that it moves is used by nobody else.
func seekSegments(fd int, off, end int64) ([]Segment, error) {
	var segments []Segment
	for off < end {
		if len(segments) >= maxSegments {
			return append(segments, Segment{Off: off, Len: end - off}), nil
		}
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			data = end
		case err != nil && unsupported(err):
			return append(segments, Segment{Off: off, Len: end - off}), nil
		case err != nil:
			return nil, err
		}
		data = min(data, end)
		if data > off {
			segments = append(segments, Segment{Off: off, Len: data - off, Hole: true})
		}
		if data == end {
			break
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if errors.Is(err, unix.ENXIO) {
			// The data was punched away between the two calls.
			hole = end
		} else if err != nil {
			return nil, err
		}
		off = max(min(hole, end), data)
		if off > data {
			segments = append(segments, Segment{Off: data, Len: off - data})
		}
	}
	return segments, nil
}

func ioctlUint64(fd int, request uint) (uint64, error) {
	var value uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(&value)))
	if errno != 0 {
		return 0, errno
	}
	return value, nil
}
