package nbd

import (
	"fmt"
	"math"
	"math/bits"
)

// shape is what a connection was told about its export; requests are held against it.
type shape struct {
	size       uint64 // bytes
	flags      uint16 // transmission flags
	minBlock   uint32 // bytes; offsets and lengths are multiples of it
	preferred  uint32 // bytes
	maxPayload uint32 // bytes, of one read or write
	structured bool
	meta       bool // base:allocation was selected
}

// shapeOf asks e for its constraints and checks them, so that a client never hears of impossible ones.
func shapeOf(e Export, structured, meta bool) (shape, error) {
	size := e.Size()
	if size < 0 {
		return shape{}, fmt.Errorf("export has size %d", size)
	}
	lo, pref, hi := e.BlockSizes()
	if lo == 0 {
		lo = 1
	}
	if bits.OnesCount32(lo) != 1 || lo > 1<<16 {
		return shape{}, fmt.Errorf("minimum block size %d is not a power of two up to 65536", lo)
	}
	if bits.OnesCount32(pref) != 1 || pref > MaxPayload {
		pref = 4096
	}
	pref = max(pref, lo, 512)
	if hi == 0 || hi > MaxPayload {
		hi = MaxPayload
	}
	sh := shape{
		// An end that is no multiple of the minimum block size could not be reached.
		size:     uint64(size) &^ uint64(lo-1),
		minBlock: lo, preferred: pref, maxPayload: max(hi, pref) &^ (lo - 1),
		structured: structured, meta: meta && structured,
		flags: FlagHasFlags | FlagSendFlush | FlagSendFUA | FlagCanMultiConn,
	}
	if e.ReadOnly() {
		sh.flags |= FlagReadOnly
	} else {
		sh.flags |= FlagSendTrim | FlagSendWriteZeroes | FlagSendFastZero
	}
	if structured {
		sh.flags |= FlagSendDF
	}
	return sh, nil
}

func (s *shape) readOnly() bool { return s.flags&FlagReadOnly != 0 }

// check holds a request against the shape. It allocates only for requests that it refuses.
func (s *shape) check(q *request) error {
	allowed, known := s.allowedFlags(q.cmd)
	switch {
	case !known:
		return fmt.Errorf("%w: command %d is not supported", ErrInvalid, q.cmd)
	case q.flags&^allowed != 0:
		return fmt.Errorf("%w: flags %#x do not go with command %d", ErrInvalid, q.flags&^allowed, q.cmd)
	case q.cmd == CmdFlush:
		if q.off != 0 || q.length != 0 {
			return fmt.Errorf("%w: flush takes no offset and no length", ErrInvalid)
		}
		return nil
	case q.writes() && s.readOnly():
		return fmt.Errorf("%w: export is read-only", ErrPerm)
	case q.off > s.size || uint64(q.length) > s.size-q.off:
		sentinel := ErrInvalid
		if q.cmd == CmdWrite || q.cmd == CmdWriteZeroes {
			sentinel = ErrNoSpace
		}
		return fmt.Errorf("%w: %d bytes at %d reach behind the end of the export at %d", sentinel, q.length, q.off, s.size)
	case (q.off|uint64(q.length))&uint64(s.minBlock-1) != 0:
		return fmt.Errorf("%w: %d bytes at %d are not aligned to %d", ErrInvalid, q.length, q.off, s.minBlock)
	case q.length > s.maxPayload && q.cmd == CmdRead && s.structured:
		return fmt.Errorf("%w: reads have at most %d bytes", ErrOverflow, s.maxPayload)
	case q.length > s.maxPayload && (q.cmd == CmdRead || q.cmd == CmdWrite):
		return fmt.Errorf("%w: reads and writes have at most %d bytes", ErrInvalid, s.maxPayload)
	case q.cmd == CmdBlockStatus && !s.meta:
		return fmt.Errorf("%w: no metadata context was selected", ErrInvalid)
	case q.cmd == CmdBlockStatus && q.length == 0:
		return fmt.Errorf("%w: block status of no bytes", ErrInvalid)
	}
	return nil
}

// allowedFlags tells the flags that a command may carry. FUA is valid with every command.
func (s *shape) allowedFlags(cmd uint16) (flags uint16, known bool) {
	switch cmd {
	case CmdRead:
		if s.structured {
			return CmdFlagFUA | CmdFlagDF, true
		}
		return CmdFlagFUA, true
	case CmdWrite, CmdFlush, CmdTrim:
		return CmdFlagFUA, true
	case CmdWriteZeroes:
		return CmdFlagFUA | CmdFlagNoHole | CmdFlagFastZero, true
	case CmdBlockStatus:
		return CmdFlagFUA | CmdFlagReqOne, true
	}
	return 0, false
}

// descriptor turns an extent of at most limit bytes into the wire's form.
func descriptor(e Extent, limit int64) (length, status uint32) {
	length = uint32(min(e.Len, limit, math.MaxUint32))
	if e.Hole {
		status |= StateHole
	}
	if e.Zero {
		status |= StateZero
	}
	return length, status
}
