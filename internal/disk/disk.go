// Package disk is the boundary to the backing disk: a file or a block device, left in place, nothing reformatted.
package disk

import (
	"errors"
)

var (
	// ErrInUse is returned by Open when somebody else holds the disk: mounted, opened exclusively, or another daemon's.
	ErrInUse = errors.New("disk is in use")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("disk is closed")
)

// Disk is the backing disk of one volume. Its methods may be called concurrently; callers order overlapping writes.
// Offsets and lengths are in bytes and lie inside [0, Size()); p is not kept after the call returns.
type Disk interface {
	// ReadAt fills p from off, or fails.
	ReadAt(p []byte, off int64) error
	// WriteAt writes p at off. It is durable only after a Sync that began later.
	WriteAt(p []byte, off int64) error
	// Zero makes the range read as zeroes; with punch its space may be given back.
	Zero(off, n int64, punch bool) error
	// Sync returns when everything written before it began is on stable storage.
	Sync() error
	// Segments describes allocation from off for at most n bytes: consecutive runs, holes marked. A disk that
	// cannot tell returns one data segment.
	Segments(off, n int64) ([]Segment, error)
	// Size is the usable size in bytes.
	Size() int64
	// Close releases the disk.
	Close() error
}

// Segment is a run of bytes that is either data or a hole (which reads as zeroes).
type Segment struct {
	Off, Len int64
	Hole     bool
}
