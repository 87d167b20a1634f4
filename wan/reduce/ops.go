package reduce

import (
	"encoding/binary"
	"errors"
	"fmt"

	"drship/internal/block"
)

// The operations that make the data of a batch from the cache, from the receiver's disks and from literal bytes. For each cell
// in turn (a cell is what of a write lies in one block) there is a head, a varint: its two lowest bits say what it is.
//
//	opLiteral  the rest of the head + 1 cells are literal bytes
//	opPatch    tokens follow, until the cell is full; the base is the block itself as the cache has it
//	opFree     the same without a base; or, where the rest of the head is 1, the cell is a whole block and its base that block as the
//	           receiver's disk has it
//	opDisk     the rest of the head + 1 whole cells are blocks as the receiver's disk has them; a varint follows: bit 0
//	           says that a byte with the volume comes behind it (else it is the cell's own), the rest is the distance in
//	           blocks from the first cell, signed
//
// A token is a varint, its two lowest bits what it does, the rest for how many bytes, at least one:
//
//	tokBase    from the base, at the place that is being written
//	tokLiteral literal bytes
//	tokShift   from the base; a signed varint follows: the distance from the place that is being written
//	tokSlot    from a slot of the cache; two signed varints follow: the slot, from the one used last (at first 0), and
//	           the distance as above
const (
	opLiteral = 0
	opPatch   = 1
	opFree    = 2
	opDisk    = 3

	opPatchDisk = opFree | 1<<opBits

	tokBase    = 0
	tokLiteral = 1
	tokShift   = 2
	tokSlot    = 3

	maxBlock = 1 << 50 // number of a block that is referred to

	opBits = 2
	opMask = 1<<opBits - 1
)

// Blocks reads blocks of the receiver's disks, for references.
type Blocks interface {
	// ReadBlocks fills p, whole blocks, with what a volume holds from block blk on. An error says that it is not there.
	ReadBlocks(volume uint16, blk uint64, p []byte) error
}

var (
	errOps       = errors.New("operations end early")
	errNotCached = errors.New("a difference to a block that is not in the cache")
)

// expander carries out operations.
type expander struct {
	cache *cache
	disks Blocks // nil: there are none to refer to

	ops, lits []byte
	dense     *denseDecoder // where not nil, what gives the literal bytes
	slot      int32         // used last
	base      [block.Size]byte
	literals  uint64 // cells still to come of a run of literal ones
}

// write fills data, what a write of volume at off holds.
func (x *expander) write(volume uint16, off int64, data []byte) error {
	s := cells{volume: volume, off: off, rest: data}
	fetched := 0 // cells still to come of a run from the disks
	for {
		rest := s.rest
		c, ok := s.next()
		var err error
		switch {
		case !ok:
			return nil
		case fetched > 0:
			fetched--
		case x.literals > 0:
			x.literals--
			err = x.literal(c.data)
		default:
			fetched, err = x.cell(&c, rest)
		}
		if err != nil {
			return err
		}
		x.cache.put(c.key, c.at, c.data)
	}
}

// cell fills the first cell of rest, and says how many behind it are filled as well.
func (x *expander) cell(c *cell, rest []byte) (more int, err error) {
	head, err := x.varint()
	if err != nil {
		return 0, err
	}
	count := head >> opBits
	switch head & opMask {
	case opLiteral:
		x.literals = count
		return 0, x.literal(c.data)
	case opDisk:
		return x.disk(c, count, rest)
	}
	if x.dense != nil && head&opMask == opPatch {
		return 0, x.shown(c, count)
	}
	switch head {
	case opFree:
		return 0, x.tokens(c, nil)
	case opPatchDisk:
		if !c.whole() { // reads are bounded by what they make
			return 0, errors.New("a part of a block made from the disk")
		}
		if err := x.read(uint16(uint8(c.key)), c.key>>8, x.base[:]); err != nil {
			return 0, err
		}
		return 0, x.tokens(c, x.base[:])
	case opPatch:
	default:
		return 0, fmt.Errorf("operation %#x", head)
	}
	own := x.cache.find(c.key)
	if own < 0 {
		return 0, errNotCached
	}
	return 0, x.tokens(c, x.cache.content(own))
}

// shown fills a cell that is packed densely, behind the blocks that the head names.
func (x *expander) shown(c *cell, count uint64) error {
	if count>>1 > maxShown {
		return fmt.Errorf("%d blocks shown", count>>1)
	}
	for range count >> 1 {
		if err := x.nextSlot(); err != nil {
			return err
		}
		x.dense.show(x.cache.content(x.slot), false)
		x.cache.touch(x.slot)
	}
	if count&1 != 0 {
		own := x.cache.find(c.key)
		if own < 0 {
			return errNotCached
		}
		x.dense.show(x.cache.content(own)[c.at:c.at+len(c.data)], true)
	}
	return x.dense.read(c.data)
}

// nextSlot reads which slot is used.
func (x *expander) nextSlot() error {
	step, err := x.signed()
	if err != nil {
		return err
	}
	slot := int64(x.slot) + step
	if slot < 0 || slot >= int64(x.cache.slots()) {
		return fmt.Errorf("slot %d of %d", slot, x.cache.slots())
	}
	x.slot = int32(slot)
	return nil
}

func (x *expander) tokens(c *cell, base []byte) error {
	for at := 0; at < len(c.data); {
		tok, err := x.varint()
		if err != nil {
			return err
		}
		n := tok >> opBits
		if n == 0 || n > uint64(len(c.data)-at) {
			return fmt.Errorf("a token for %d bytes of %d", n, len(c.data)-at)
		}
		to := c.data[at : at+int(n)]
		if tok&opMask == tokLiteral {
			err = x.literal(to)
		} else {
			err = x.copy(to, tok&opMask, c.at+at, base)
		}
		if err != nil {
			return err
		}
		at += int(n)
	}
	return nil
}

// copy fills to, which stands at place in its block, from the base or a slot.
func (x *expander) copy(to []byte, kind uint64, place int, base []byte) error {
	var distance int64
	from := base
	var err error
	if kind == tokSlot {
		if err := x.nextSlot(); err != nil {
			return err
		}
		from = x.cache.content(x.slot)
	}
	if kind != tokBase {
		if distance, err = x.signed(); err != nil {
			return err
		}
	}
	src := int64(place) + distance
	if distance < -block.Size || distance > block.Size || src < 0 || src+int64(len(to)) > int64(len(from)) {
		return fmt.Errorf("%d bytes at %d of a block", len(to), src)
	}
	copy(to, from[src:])
	if kind == tokSlot {
		x.cache.touch(x.slot)
	}
	return nil
}

// disk fills the first cell of to and more behind it from the disks.
func (x *expander) disk(c *cell, more uint64, to []byte) (int, error) {
	where, err := x.varint()
	if err != nil {
		return 0, err
	}
	volume := uint16(uint8(c.key))
	if where&1 != 0 {
		if len(x.ops) == 0 {
			return 0, errOps
		}
		volume, x.ops = uint16(x.ops[0]), x.ops[1:]
	}
	src := int64(c.key>>8) + (int64(where>>2) ^ -int64(where>>1&1))
	switch {
	case c.at != 0 || more >= uint64(len(to)/block.Size):
		return 0, fmt.Errorf("a reference for %d blocks", more+1)
	case src < 0 || src > maxBlock:
		return 0, fmt.Errorf("a reference to block %d", src)
	}
	return int(more), x.read(volume, uint64(src), to[:(int(more)+1)*block.Size])
}

// read takes whole blocks from a disk.
func (x *expander) read(volume uint16, blk uint64, to []byte) error {
	if x.disks == nil {
		return errors.New("a reference where there is no disk")
	}
	if err := x.disks.ReadBlocks(volume, blk, to); err != nil {
		return fmt.Errorf("a reference to %d blocks from %d: %w", len(to)/block.Size, blk, err)
	}
	return nil
}

func (x *expander) literal(to []byte) error {
	if x.dense != nil {
		return x.dense.read(to)
	}
	if len(to) > len(x.lits) {
		return fmt.Errorf("%d literal bytes, %d are left", len(to), len(x.lits))
	}
	copy(to, x.lits)
	x.lits = x.lits[len(to):]
	return nil
}

func (x *expander) varint() (uint64, error) {
	v, n := binary.Uvarint(x.ops)
	if n <= 0 {
		return 0, errOps
	}
	x.ops = x.ops[n:]
	return v, nil
}

func (x *expander) signed() (int64, error) {
	v, n := binary.Varint(x.ops)
	if n <= 0 {
		return 0, errOps
	}
	x.ops = x.ops[n:]
	return v, nil
}

// end checks that nothing is left.
func (x *expander) end() error {
	if len(x.ops) > 0 || len(x.lits) > 0 || x.literals > 0 {
		return fmt.Errorf("%d bytes of operations, %d literal ones and %d cells too many", len(x.ops), len(x.lits), x.literals)
	}
	if x.dense != nil {
		return x.dense.end()
	}
	return nil
}
