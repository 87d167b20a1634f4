package reduce

import "drship/internal/block"

// cache holds the recent blocks of a stream. Both ends of a link have one and do the same to it in the same order, so that
// a slot holds the same bytes on either side. It is a segmented LRU: a block that is written or used again is kept for
// longer than those that pass by once.
//
//	new ──> recent ──(again)──> proven
//	            ^─────(overflow)──┘
//
// Invariant: which slot a block gets depends on nothing but the calls made since the last reset.
type cache struct {
	limit  int      // slots
	proven int      // of these, for blocks that were met again
	chunks [][]byte // content, chunkSlots blocks each, made as they are needed
	keys   []uint64 // by slot
	links  []chain  // by slot, then the heads of both lists
	where  map[uint64]int32
	count  [2]int // by list
}

type chain struct {
	prev, next int32
	list       int8
}

const (
	chunkSlots = 256
	minSlots   = 4 * chunkSlots
	maxSlots   = 1 << 19 // 2 GiB: a place in the cache has 31 bits

	listRecent = 0
	listProven = 1
)

// blockKey names a block of a volume.
func blockKey(volume uint16, blk uint64) uint64 { return blk<<8 | uint64(volume) }

// newCache returns a cache of so many slots.
func newCache(slots int) *cache {
	c := &cache{limit: slots, proven: slots / 4 * 3}
	c.reset()
	return c
}

// reset empties the cache; its memory is kept.
func (c *cache) reset() {
	c.keys = c.keys[:0]
	c.links = make([]chain, 2, c.limit+2) // the heads stand first, slot i at i+2
	c.links[listRecent] = chain{prev: listRecent, next: listRecent, list: listRecent}
	c.links[listProven] = chain{prev: listProven, next: listProven, list: listProven}
	c.where = map[uint64]int32{}
	c.count = [2]int{}
}

// content is the block in a slot.
func (c *cache) content(slot int32) []byte {
	at := int(slot) % chunkSlots * block.Size
	return c.chunks[slot/chunkSlots][at : at+block.Size : at+block.Size]
}

// slots is how many are in use: all below it are.
func (c *cache) slots() int { return len(c.keys) }

// find returns the slot of a block, -1 if it is not here.
func (c *cache) find(key uint64) int32 {
	if slot, ok := c.where[key]; ok {
		return slot
	}
	return -1
}

// put takes note of data written to a block, from offset at in it. A part of a block that is not here is not kept; -1 says so.
func (c *cache) put(key uint64, at int, data []byte) int32 {
	slot, ok := c.where[key]
	switch {
	case ok:
		c.touch(slot)
	case len(data) < block.Size:
		return -1
	default:
		slot = c.take()
		c.keys[slot] = key
		c.where[key] = slot
		c.insert(slot, listRecent)
	}
	copy(c.content(slot)[at:], data)
	return slot
}

// take returns a slot that is free now.
func (c *cache) take() int32 {
	if n := len(c.keys); n < c.limit {
		if n == len(c.chunks)*chunkSlots {
			c.chunks = append(c.chunks, make([]byte, chunkSlots*block.Size))
		}
		c.keys = append(c.keys, 0)
		c.links = append(c.links, chain{})
		return int32(n)
	}
	list := int32(listRecent)
	if c.count[list] == 0 {
		list = listProven
	}
	slot := c.links[list].prev - 2
	c.remove(slot)
	delete(c.where, c.keys[slot])
	return slot
}

// touch says that a block was met again.
func (c *cache) touch(slot int32) {
	c.remove(slot)
	c.insert(slot, listProven)
	if c.count[listProven] > c.proven {
		oldest := c.links[listProven].prev - 2
		c.remove(oldest)
		c.insert(oldest, listRecent)
	}
}

func (c *cache) insert(slot int32, list int8) {
	head, at := int32(list), slot+2
	first := c.links[head].next
	c.links[at] = chain{prev: head, next: first, list: list}
	c.links[head].next, c.links[first].prev = at, at
	c.count[list]++
}

func (c *cache) remove(slot int32) {
	l := c.links[slot+2]
	c.links[l.prev].next, c.links[l.next].prev = l.next, l.prev
	c.count[l.list]--
}

// cell is a piece of a batch's data that lies within one block.
type cell struct {
	key  uint64
	at   int // offset in the block
	data []byte
}

func (c *cell) whole() bool { return len(c.data) == block.Size }

// cells takes the cells off the data of a write, one after another.
type cells struct {
	volume uint16
	off    int64
	rest   []byte
}

func (s *cells) next() (cell, bool) {
	if len(s.rest) == 0 {
		return cell{}, false
	}
	at := int(s.off % block.Size)
	n := min(block.Size-at, len(s.rest))
	c := cell{key: blockKey(s.volume, uint64(s.off/block.Size)), at: at, data: s.rest[:n]}
	s.off += int64(n)
	s.rest = s.rest[n:]
	return c, true
}
