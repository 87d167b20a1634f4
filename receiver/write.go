package receiver

import (
	"drship/internal/block"
)

const (
	// mergeBytes bounds a write put together from adjacent ones, in bytes: beyond it a system call is cheap beside
	// the copy.
	mergeBytes = 128 << 10
	// saveBlocks bounds the pre-images that one synced commit makes durable.
	saveBlocks = 1024
)

// writer puts adjacent writes together. Its owner calls flush before anything depends on the last of them.
type writer struct {
	before func(v *volume, r block.Range) error // waits until the range may change; nil where nobody reads beside

	v       *volume
	off     int64
	buf     []byte // what is to be written at off; aliases the caller's data, or scratch
	scratch []byte
	copied  bool // buf is scratch
}

// write adds a write. data stays unchanged until the next flush.
func (w *writer) write(v *volume, off int64, data []byte) error {
	if w.v != v || w.off+int64(len(w.buf)) != off || len(w.buf)+len(data) > mergeBytes {
		if err := w.flush(); err != nil {
			return err
		}
		w.v, w.off, w.buf, w.copied = v, off, data, false
		return nil
	}
	if !w.copied {
		w.scratch = append(w.scratch[:0], w.buf...)
		w.copied = true
	}
	w.scratch = append(w.scratch, data...)
	w.buf = w.scratch
	return nil
}

// zero makes a range read as zeroes, behind the writes added before.
func (w *writer) zero(v *volume, off, n int64, punch bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.wait(v, off, n); err != nil {
		return err
	}
	if err := v.disk.Zero(off, n, punch); err != nil {
		return &DiskError{Volume: v.number, Err: err}
	}
	return nil
}

// flush writes what was added.
func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.wait(w.v, w.off, int64(len(w.buf))); err != nil {
		return err
	}
	err := w.v.disk.WriteAt(w.buf, w.off)
	v := w.v
	w.v, w.buf, w.copied = nil, nil, false
	if err != nil {
		return &DiskError{Volume: v.number, Err: err}
	}
	return nil
}

func (w *writer) wait(v *volume, off, n int64) error {
	if w.before == nil {
		return nil
	}
	return w.before(v, block.Range{Off: off, Len: n})
}
