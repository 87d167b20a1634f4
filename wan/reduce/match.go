package reduce

import (
	"encoding/binary"
	"math/bits"

	"drship/internal/block"
)

// The matcher finds what of a cell the cache holds already. It looks at two places: the block itself as it was before, at the
// same offsets, and wherever an anchor leads. Anchors are the offsets whose window of bytes hashes to a multiple of
// anchorEvery; content alone decides that, so that a piece that has moved by any distance keeps its anchors.
const (
	anchorWindow = 32 // bytes hashed
	anchorEvery  = 16 // one offset of so many is an anchor, by chance
	anchorPrime  = 0x9e3779b185ebca87

	minRun   = 6   // bytes equal to the base that are worth a token
	minMatch = 24  // the same of a match elsewhere, which takes a longer token
	fewBytes = 384 // a difference of so many literal bytes is not worth a further look

	// Where nothing was found for a while, most cells are not looked at.
	hopelessCells = 512
	sampleEvery   = 8
)

// matcher is the encoder's view of the cache.
type matcher struct {
	cache   *cache
	anchors []uint32 // by hash: place in the cache of an anchor + 1, slot * block.Size + offset
	shift   uint
	power   uint64 // anchorPrime to the anchorWindow
	places  []anchor

	slot    int32 // used last, as the expander has it
	barren  int   // cells in a row for which nothing was found
	skipped int
	head    byte   // of the cell at work
	tokens  []byte // likewise
	lits    []byte
	used    []int32 // slots of its tokens, in their order
}

type anchor struct {
	hash uint64
	at   int
}

// newMatcher returns a matcher with two anchors' room for each 64 bytes of the cache, at most.
func newMatcher(c *cache) *matcher {
	size := bits.Len(uint(c.limit*block.Size/64 - 1))
	m := &matcher{cache: c, anchors: make([]uint32, 1<<size), shift: uint(64 - size), power: 1}
	for range anchorWindow {
		m.power *= anchorPrime
	}
	return m
}

func (m *matcher) reset() {
	clear(m.anchors)
	m.slot, m.barren, m.skipped = 0, 0, 0
}

// find fills tokens and lits with what makes a cell, given its own slot or -1, and a sketch of the block as the receiver's disk has
// it or nil. It reports whether that is worth it, against the cell's literal bytes.
func (m *matcher) find(c *cell, own int32, disk *sketch) bool {
	m.tokens, m.lits, m.places, m.used = m.tokens[:0], m.lits[:0], m.places[:0], m.used[:0]
	var base []byte
	m.head = opFree
	switch {
	case own >= 0:
		base = m.cache.content(own)[c.at : c.at+len(c.data)]
		m.head = opPatch
		m.gap(c.data, base)
	case disk != nil:
		m.head = opPatchDisk
		m.unchanged(c.data, disk)
	default:
		m.literal(c.data)
	}
	few := len(c.data) - len(c.data)/16 - 2 // what says that there are tokens costs a byte or two as well
	before := len(m.tokens) + len(m.lits)
	if len(m.lits) <= fewBytes && before <= few || disk != nil && before <= few/2 {
		m.barren = 0
		return true
	}
	if m.barren >= hopelessCells {
		if m.skipped++; m.skipped%sampleEvery != 0 {
			return before <= few
		}
	}
	return m.search(c, base, disk, before, few)
}

// search looks further than the block itself, and takes what takes fewer bytes.
func (m *matcher) search(c *cell, base []byte, disk *sketch, before, few int) bool {
	slot, head := m.slot, m.head
	m.anchor(c.data)
	m.tokens, m.lits = m.tokens[:0], m.lits[:0]
	if disk != nil {
		m.head = opFree
	}
	m.parse(c, base)
	n := len(m.tokens) + len(m.lits)
	if n < before && n <= few {
		m.barren = 0
		return true
	}
	m.slot, m.head, m.tokens, m.lits, m.used = slot, head, m.tokens[:0], m.lits[:0], m.used[:0]
	if before > few {
		m.barren++
		return false
	}
	m.barren = 0
	if disk != nil {
		m.unchanged(c.data, disk)
	} else {
		m.gap(c.data, base)
	}
	return true
}

// unchanged makes tokens of the pieces that a sketch says have not changed, and literal bytes.
func (m *matcher) unchanged(data []byte, s *sketch) {
	lit := 0
	for i := 0; i < len(s.pieces); {
		from := i
		for i < len(s.pieces) && s.pieces[i] == pieceSum(data[i*pieceSize:(i+1)*pieceSize]) {
			i++
		}
		if i == from {
			i++
			continue
		}
		m.literal(data[lit : from*pieceSize])
		m.tokens = binary.AppendUvarint(m.tokens, uint64((i-from)*pieceSize)<<opBits|tokBase)
		lit = i * pieceSize
	}
	m.literal(data[lit:])
}

// anchor fills places with the anchors of a cell.
func (m *matcher) anchor(data []byte) {
	if len(data) < anchorWindow {
		return
	}
	var h, last uint64
	for _, b := range data[:anchorWindow] {
		h = h*anchorPrime + uint64(b) + 1
	}
	for i := anchorWindow; ; i++ {
		if mixed := h ^ h>>29; mixed&(anchorEvery-1) == 0 && mixed != last {
			m.places = append(m.places, anchor{mixed, i - anchorWindow})
			last = mixed
		}
		if i == len(data) {
			return
		}
		h = h*anchorPrime + uint64(data[i]) + 1 - m.power*(uint64(data[i-anchorWindow])+1)
	}
}

func (m *matcher) bucket(h uint64) *uint32 { return &m.anchors[h*anchorPrime>>m.shift] }

// parse makes tokens of matches at anchors, each as long as it goes, and of what lies between them.
func (m *matcher) parse(c *cell, base []byte) {
	done := 0
	for _, p := range m.places {
		if p.at < done {
			continue
		}
		place := *m.bucket(p.hash)
		if place == 0 {
			continue
		}
		place--
		slot, src := int32(place/block.Size), int(place%block.Size)
		if int(slot) >= m.cache.slots() {
			continue
		}
		from := m.cache.content(slot)
		back := 0
		for back < p.at-done && back < src && from[src-back-1] == c.data[p.at-back-1] {
			back++
		}
		at, src := p.at-back, src-back
		n := common(c.data[at:], from[src:])
		if n < minMatch {
			continue
		}
		m.gap(c.data[done:at], tailOf(base, done))
		m.tokens = binary.AppendUvarint(m.tokens, uint64(n)<<opBits|tokSlot)
		m.tokens = binary.AppendVarint(m.tokens, int64(slot-m.slot))
		m.tokens = binary.AppendVarint(m.tokens, int64(src-c.at-at))
		m.slot, m.used = slot, append(m.used, slot)
		done = at + n
	}
	m.gap(c.data[done:], tailOf(base, done))
}

func tailOf(base []byte, at int) []byte {
	if base == nil {
		return nil
	}
	return base[at:]
}

// gap makes tokens of data from what is equal in the base, and literal bytes.
func (m *matcher) gap(data, base []byte) {
	lit := 0
	for i := 0; i < len(data) && base != nil; {
		n := common(data[i:], base[i:])
		if n < minRun && (i+n < len(data) || n == 0) {
			i += n + 1
			continue
		}
		m.literal(data[lit:i])
		m.tokens = binary.AppendUvarint(m.tokens, uint64(n)<<opBits|tokBase)
		i += n
		lit = i
	}
	m.literal(data[min(lit, len(data)):])
}

func (m *matcher) literal(data []byte) {
	if len(data) > 0 {
		m.tokens = binary.AppendUvarint(m.tokens, uint64(len(data))<<opBits|tokLiteral)
		m.lits = append(m.lits, data...)
	}
}

// note remembers the anchors of the cell that find has looked at, in the slot where it is now. Where find had no need of
// anchors, those of the slot still stand, nearly all of them.
func (m *matcher) note(slot int32, c *cell) {
	for _, p := range m.places {
		*m.bucket(p.hash) = uint32(int(slot)*block.Size+c.at+p.at) + 1
	}
}

// common is how many bytes a and b have in common at their beginning.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
