package reduce

import (
	"encoding/binary"

	"drship/internal/block"
)

// Where batches are packed densely, nothing is cut into tokens: whole cells are packed, and where a cell is like blocks that the
// cache has, those are shown to the packer first, at both ends. See opPatch.

const (
	maxShown   = 3  // blocks that a cell is shown, besides its own as it was
	fewVotes   = 3  // anchors that a block must have in common with a cell to be shown
	maxVoted   = 16 // blocks counted for one cell
	shownAgain = denseWindow / 4
	maxGather  = 6 << 20 // bytes of one batch and of what it was shown: behind that, nothing more is shown
)

// voted is a block of the cache that has anchors in common with a cell.
type voted struct {
	slot  int32
	votes int
}

// denseState is the encoder's half of dense packing, beside the tables that it shares with tokens.
type denseState struct {
	data   denseEncoder
	head   denseEncoder
	ready  bool    // both are in a run that the other end follows
	at     []int64 // by slot: the place in data where its block was last, whole; 0: nowhere
	votes  []voted
	shown  []int32 // slots for the cell at work
	packed []byte

	hopeless bool
	skipped  int
	sampler  sampler
}

// promising reports whether a batch is worth packing densely.
func (d *denseState) promising(plain []byte) bool {
	if !d.hopeless || d.skipped >= maxSkipped {
		return true
	}
	if len(plain) >= minSampled && d.sampler.promising(plain) {
		return true
	}
	d.skipped++
	return false
}

// begin starts a batch.
func (d *denseState) begin(slots int) (begins bool) {
	if begins = !d.ready || d.data.spent() || d.head.spent(); begins {
		d.data.reset()
		d.head.reset()
		if len(d.at) != slots {
			d.at = make([]int64, slots)
		}
		clear(d.at)
		d.ready = true
	}
	d.data.begin()
	d.head.begin()
	return begins
}

// end appends a batch, packed, to dst: head is its table and operations.
func (d *denseState) end(dst, head []byte) []byte {
	d.head.add(head)
	d.packed = d.head.end(d.packed[:0])
	dst = binary.AppendUvarint(dst, uint64(len(d.packed)))
	return d.data.end(append(dst, d.packed...))
}

// denseCell takes a cell that is no reference.
func (r *reducer) denseCell(c *cell, own int32, disk *sketch) {
	m, d := r.match, r.dense
	d.shown = d.shown[:0]
	if d.data.gathered() > maxGather {
		own, m = -1, nil
	}
	if m != nil {
		m.places = m.places[:0]
		if disk != nil && r.denseDisk(c, disk) {
			return
		}
		var base []byte
		if own >= 0 {
			base = r.cache.content(own)[c.at : c.at+len(c.data)]
		}
		alike := equalBytes(c.data, base)
		if m.worthLooking(len(c.data) - alike) {
			alike = max(alike, d.vote(m, c, base, own))
		}
		r.stats.delta += uint64(alike)
		r.stats.literal -= uint64(alike)
	}
	r.stats.literal += uint64(len(c.data))
	if m == nil || own < 0 && len(d.shown) == 0 {
		r.literals++
		d.data.add(c.data)
		return
	}
	r.endLiterals()
	head := uint64(len(d.shown)) << 1
	if own >= 0 {
		head |= 1
	}
	r.ops = binary.AppendUvarint(r.ops, head<<opBits|opPatch)
	for _, slot := range d.shown {
		r.ops = binary.AppendVarint(r.ops, int64(slot-m.slot))
		m.slot = slot
		d.at[slot] = int64(d.data.place()) + 1
		d.data.show(r.cache.content(slot), false)
		r.cache.touch(slot)
	}
	if own >= 0 {
		d.data.show(r.cache.content(own)[c.at:c.at+len(c.data)], true)
	}
	d.data.add(c.data)
}

// denseDisk takes a cell of which the receiver's disk holds much at the same place.
func (r *reducer) denseDisk(c *cell, disk *sketch) bool {
	m := r.match
	m.tokens, m.lits = m.tokens[:0], m.lits[:0]
	m.unchanged(c.data, disk)
	if len(m.tokens)+len(m.lits) > len(c.data)/2 {
		return false
	}
	m.barren = 0
	r.endLiterals()
	r.ops = append(append(r.ops, opPatchDisk), m.tokens...)
	lits := m.lits
	for tokens := m.tokens; len(tokens) > 0; {
		tok, n := binary.Uvarint(tokens)
		tokens = tokens[n:]
		if tok&opMask == tokLiteral {
			r.dense.data.add(lits[:tok>>opBits])
			lits = lits[tok>>opBits:]
		}
	}
	r.stats.literal += uint64(len(m.lits))
	r.stats.reference += uint64(len(c.data) - len(m.lits))
	return true
}

// placed takes note of where the packer has a cell that is in a slot now, if it has it.
func (r *reducer) placed(slot int32, c *cell, packed bool) {
	at := r.state.at
	switch {
	case slot < 0 || len(at) == 0:
	case packed && r.dense != nil && c.whole():
		at[slot] = int64(r.dense.data.place() - len(c.data) + 1)
	default:
		at[slot] = 0
	}
}

// equalBytes counts the bytes of data that are as in base, which is as long or nil.
func equalBytes(data, base []byte) (n int) {
	if base == nil {
		return 0
	}
	for i, b := range base[:len(data)] {
		if data[i] == b {
			n++
		}
	}
	return n
}

// worthLooking reports whether it pays to look for a cell elsewhere than in its own block as it was, from which it differs in so many
// bytes.
func (m *matcher) worthLooking(differing int) bool {
	switch {
	case differing <= fewBytes:
		m.barren = 0
		return false
	case m.barren < hopelessCells:
		return true
	}
	m.skipped++
	return m.skipped%sampleEvery == 0
}

// vote fills shown with the blocks that have most anchors in common with a cell and that the packer does not see anyway. It returns how
// many bytes they may have in common with it.
func (d *denseState) vote(m *matcher, c *cell, base []byte, own int32) (alike int) {
	d.votes = d.votes[:0]
	m.anchor(c.data)
	for _, p := range m.places {
		if slot := m.slotAt(c, p, base); slot >= 0 && slot != own {
			d.count(slot)
		}
	}
	found := base != nil
	for len(d.shown) < maxShown {
		best := -1
		for i := range d.votes {
			if v := d.votes[i].votes; v >= fewVotes && (best < 0 || v > d.votes[best].votes) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		found = true
		alike += d.votes[best].votes * anchorEvery
		slot := d.votes[best].slot
		d.votes[best].votes = 0
		if at := d.at[slot]; at == 0 || int64(d.data.place())-at > shownAgain {
			d.shown = append(d.shown, slot)
		}
	}
	if found {
		m.barren = 0
	} else {
		m.barren++
	}
	return min(alike, len(c.data))
}

func (d *denseState) count(slot int32) {
	for i := range d.votes {
		if d.votes[i].slot == slot {
			d.votes[i].votes++
			return
		}
	}
	if len(d.votes) < maxVoted {
		d.votes = append(d.votes, voted{slot, 1})
	}
}

// slotAt returns the slot that holds what a cell holds at an anchor, -1 where there is none, or its own block has it anyway.
func (m *matcher) slotAt(c *cell, p anchor, base []byte) int32 {
	window := c.data[p.at : p.at+anchorWindow]
	if base != nil && string(base[p.at:p.at+anchorWindow]) == string(window) {
		return -1
	}
	place := *m.bucket(p.hash)
	if place == 0 {
		return -1
	}
	place--
	slot, src := int32(place/block.Size), int(place%block.Size)
	if int(slot) >= m.cache.slots() || src+anchorWindow > block.Size || string(m.cache.content(slot)[src:src+anchorWindow]) != string(window) {
		return -1
	}
	return slot
}
