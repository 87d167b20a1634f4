package node

import "drship/internal/disk"

// sizedDisk is a disk of which only the first size bytes are used: what both sides have room for.
type sizedDisk struct {
	disk.Disk
	size int64
}

func sized(d disk.Disk, size int64) disk.Disk {
	if d.Size() == size {
		return d
	}
	return sizedDisk{d, size}
}

// Size implements disk.Disk.
func (d sizedDisk) Size() int64 { return d.size }
