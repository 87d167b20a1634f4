package node

import (
	"sync/atomic"

	"drship/internal/disk"
)

// sizedDisk is a disk of which only the first bytes are used: what both sides have room for. It may grow.
type sizedDisk struct {
	disk.Disk
	size atomic.Int64
}

func sized(d disk.Disk, size int64) *sizedDisk {
	s := &sizedDisk{Disk: d}
	s.size.Store(size)
	return s
}

// Size implements disk.Disk.
func (d *sizedDisk) Size() int64 { return d.size.Load() }

// room is how large the disk below is now; it may have grown since it was opened.
func (d *sizedDisk) room() (int64, error) {
	if m, ok := d.Disk.(interface{ Remeasure() (int64, error) }); ok {
		return m.Remeasure()
	}
	return d.Disk.Size(), nil
}
