// Package drbdmd reads the metadata that DRBD, 8.4 (v08) or 9 (v09), left on a disk, so that a disk can be taken over as it is. It
// never writes.
//
// The superblock is 4 KiB, big endian. With internal metadata it is the last whole 4 KiB of the device, with the activity log and the
// bitmap in front of it; on a device of its own it comes first, or at 128 MiB times its slot.
//
//	byte  v08                     v09
//	0     last agreed size        last agreed size         sectors of 512 bytes
//	8     Current                 Current
//	16    Bitmap, History ×2      reserved
//	56    flags, magic            flags, magic             32 bits each
//	64    size, al_offset, al_nr_extents, bm_offset, bytes a bit   offsets in sectors from the superblock, signed
//	88                            bitmap slots
//	112                           peers, by node id: Bitmap, dagtag, flags, slot, 8 bytes reserved
//	1136                          History ×32
package drbdmd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"drship/internal/block"
	"drship/internal/state"
)

const (
	superSize  = 4096
	sector     = 512
	slotSize   = 128 << 20 // of indexed metadata
	maxPeers   = 32        // DRBD 9's limit
	maxBitmaps = 32

	magic08      = 0x8374026b
	magicUnclean = 0x8374026c // v08 that a kernel had attached
	magic09      = 0x8374026d

	peersAt   = 112
	peerSize  = 32
	historyAt = peersAt + maxPeers*peerSize
)

// The flags that both versions have.
const (
	FlagConsistent     uint32 = 1 << 0
	FlagPrimary        uint32 = 1 << 1
	FlagConnected      uint32 = 1 << 2 // v08
	FlagFullSync       uint32 = 1 << 3 // v08
	FlagWasUpToDate    uint32 = 1 << 4
	FlagPeerOutdated   uint32 = 1 << 5 // v08
	FlagCrashedPrimary uint32 = 1 << 6
	FlagALClean        uint32 = 1 << 7

	peerFullSync uint32 = 1 << 3 // v09, of a peer
)

// ErrNone is returned where there is no metadata of DRBD's.
var ErrNone = errors.New("no DRBD metadata")

// ErrBroken says that there is a superblock which makes no sense.
var ErrBroken = errors.New("DRBD metadata is damaged")

// Place says where to look.
type Place struct {
	Internal bool
	Index    int // slot on a device of its own, -1 where the device has just one
}

func (p Place) superblock(size int64) int64 {
	switch {
	case p.Internal:
		return size&^(superSize-1) - superSize
	case p.Index > 0:
		return int64(p.Index) * slotSize
	}
	return 0
}

// Super is what a superblock says.
type Super struct {
	Version  string // "v08" or "v09"
	Offset   int64  // of the superblock on its device, bytes
	Size     int64  // last agreed size in bytes; 0 if the disk never saw a peer
	Flags    uint32
	Current  uint64
	History  [2]uint64 // younger first
	NodeID   int       // v09; -1 if none
	clean    bool
	internal bool
	al, bm   int64 // bytes on the device
	bitmaps  int   // slots of the bitmap
	peers    []peer
}

type peer struct {
	bitmap uint64
	flags  uint32
	slot   int // of the bitmap, -1 if none
}

// Find reads the superblock on a device of so many bytes. It returns ErrNone where there is none, ErrBroken where it contradicts itself.
func Find(r io.ReaderAt, size int64, p Place) (*Super, error) {
	at := p.superblock(size)
	if at < 0 || at+superSize > size {
		return nil, ErrNone
	}
	raw := make([]byte, superSize)
	if _, err := r.ReadAt(raw, at); err != nil {
		return nil, fmt.Errorf("read DRBD metadata: %w", err)
	}
	s := &Super{Offset: at, internal: p.Internal, NodeID: -1}
	if err := s.decode(raw); err != nil {
		return nil, err
	}
	return s, s.check(size)
}

func (s *Super) decode(raw []byte) error {
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(raw[at:]) }
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(raw[at:]) }
	if magic := u32(60); magic != magic08 && magic != magicUnclean && magic != magic09 {
		return ErrNone
	}
	if u64(0) > math.MaxInt64/sector {
		return fmt.Errorf("%w: a size of %d sectors", ErrBroken, u64(0))
	}
	s.Size, s.Current, s.Flags = int64(u64(0))*sector, u64(8), u32(56)
	s.al, s.bm = s.Offset+int64(int32(u32(68)))*sector, s.Offset+int64(int32(u32(76)))*sector
	switch magic := u32(60); magic {
	case magic08, magicUnclean:
		s.Version, s.bitmaps = "v08", 1
		s.History = [2]uint64{u64(24), u64(32)}
		s.peers = []peer{{bitmap: u64(16), flags: s.Flags}}
		s.clean = magic == magic08 || s.Flags&FlagALClean != 0
	case magic09:
		s.Version, s.bitmaps = "v09", int(u32(88))
		s.NodeID = int(int32(u32(92)))
		s.History = [2]uint64{u64(historyAt), u64(historyAt + 8)}
		for i := range maxPeers {
			at := peersAt + i*peerSize
			s.peers = append(s.peers, peer{bitmap: u64(at), flags: u32(at + 16), slot: int(int32(u32(at + 20)))})
		}
		s.clean = s.Flags&FlagALClean != 0
	}
	if perBit := u32(80); perBit != block.Size {
		return fmt.Errorf("%w: %d bytes a bit of the bitmap, want %d", ErrBroken, perBit, block.Size)
	}
	return nil
}

func (s *Super) check(size int64) error {
	inside := func(off int64) bool { return off >= 0 && off < size }
	switch {
	case !inside(s.al) || !inside(s.bm):
		return fmt.Errorf("%w: its parts lie outside the device", ErrBroken)
	case s.bitmaps < 1 || s.bitmaps > maxBitmaps:
		return fmt.Errorf("%w: %d bitmaps", ErrBroken, s.bitmaps)
	case s.internal && (s.al >= s.Offset || s.bm >= s.Offset):
		return fmt.Errorf("%w: internal, and behind its superblock", ErrBroken)
	case s.Size < 0 || s.internal && s.Size > min(s.al, s.bm):
		return fmt.Errorf("%w: data of %d bytes overlaps it", ErrBroken, s.Size)
	}
	return nil
}

// Usable is the number of bytes that hold data on a disk of so many: what the pair agreed on, else all that the metadata leaves.
func (s *Super) Usable(disk int64) int64 {
	switch {
	case s.Size > 0:
		return s.Size
	case s.internal:
		return min(s.al, s.bm)
	}
	return disk
}

// Clean reports whether the metadata tells all: DRBD was taken down in order, and was not a Primary that crashed.
func (s *Super) Clean() bool {
	return s.clean && s.Flags&(FlagPrimary|FlagCrashedPrimary) == 0
}

// Disk is the state of the data.
func (s *Super) Disk() state.Disk {
	switch {
	case s.Flags&FlagConsistent == 0:
		return state.Inconsistent
	case s.Flags&FlagWasUpToDate == 0:
		return state.Outdated
	}
	return state.UpToDate
}

// peer returns what is kept for a peer; v08 knows just one.
func (s *Super) peer(nodeID int) (peer, bool) {
	if s.Version == "v08" {
		return s.peers[0], true
	}
	if nodeID < 0 || nodeID >= len(s.peers) {
		return peer{}, false
	}
	p := s.peers[nodeID]
	return p, p.slot >= 0 && p.slot < s.bitmaps
}

// IDs returns the generation identifiers against the peer with that node id.
func (s *Super) IDs(nodeID int) state.IDs {
	p, _ := s.peer(nodeID)
	return state.IDs{Current: s.Current, Bitmap: p.bitmap, History: s.History}
}

// OutOfSync calls fn for each run of blocks that the bitmap against the peer has as different, within the usable size. A full sync that was
// asked for and not begun counts as everything.
func (s *Super) OutOfSync(r io.ReaderAt, disk int64, nodeID int, fn func(block.Range)) error {
	size := s.Usable(disk)
	emit := func(r block.Range) {
		if r.Len = min(r.Len, size-r.Off); r.Len > 0 {
			fn(r)
		}
	}
	p, ok := s.peer(nodeID)
	if p.flags&peerFullSync != 0 {
		fn(block.Range{Len: size})
		return nil
	}
	if !ok || s.Size == 0 {
		return nil // it never saw that peer: no bitmap was begun
	}
	words := (size + 32*block.Size - 1) / (32 * block.Size)
	slots := int64(s.bitmaps)
	buf := make([]byte, 64<<10/(4*slots)*(4*slots))
	var open block.Range // the run that is not over yet
	for w := int64(0); w < words; {
		n := min(words-w, int64(len(buf))/(4*slots))
		part := buf[:n*4*slots]
		if _, err := r.ReadAt(part, s.bm+w*4*slots); err != nil {
			return fmt.Errorf("read DRBD bitmap: %w", err)
		}
		for i := range n {
			word := binary.LittleEndian.Uint32(part[(i*slots+int64(p.slot))*4:])
			open = scanWord(open, word, (w+i)*32*block.Size, emit)
		}
		w += n
	}
	emit(open)
	return nil
}

// scanWord goes on with the open run over the 32 blocks from off.
func scanWord(open block.Range, word uint32, off int64, fn func(block.Range)) block.Range {
	if word == 0 {
		if open.Len > 0 {
			fn(open)
		}
		return block.Range{}
	}
	for bit := range int64(32) {
		at := off + bit*block.Size
		switch set := word&(1<<bit) != 0; {
		case set && open.Len > 0:
			open.Len += block.Size
		case set:
			open = block.Range{Off: at, Len: block.Size}
		case open.Len > 0:
			fn(open)
			open = block.Range{}
		}
	}
	return open
}

// String describes the metadata as drbdmeta does.
func (s *Super) String() string {
	kind := "external"
	if s.internal {
		kind = "internal"
	}
	return fmt.Sprintf("a %s flexible-size %s meta data block", s.Version, kind)
}
