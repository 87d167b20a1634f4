package reduce

import (
	"encoding/binary"
)

// reducer turns the data of batches into operations. It is the encoder's half; expander is the decoder's.
type reducer struct {
	cache *cache
	match *matcher // nil where there are no differences
	disk  *places
	state denseState
	dense *denseState // state where the batch at work is packed densely, else nil
	mute  int         // batches for which no reference to a disk is made

	dedupe bool // whole blocks may be references

	misses int // times that the receiver did not have what a batch built on

	ops, lits []byte
	literals  int // cells of the run of literal ones at the end of ops
	run       diskRun

	stats reducerStats
}

// diskRun is a run of references at the end of ops that may still grow.
type diskRun struct {
	cells     int
	own, from uint64 // keys of its first cell, here and where it is found
}

// reducerStats count bytes of data by how they travel.
type reducerStats struct {
	literal, delta, reference uint64
}

// newReducer returns a reducer that takes so many bytes, with a cache of so many slots among them.
func newReducer(bytes int64, slots int, delta, dedupe bool) *reducer {
	r := &reducer{cache: newCache(slots), disk: newPlaces(int(bytes / 2)), dedupe: dedupe}
	if delta {
		r.match = newMatcher(r.cache)
	}
	return r
}

func (r *reducer) reset() {
	r.cache.reset()
	if r.match != nil {
		r.match.reset()
	}
	r.disk.reset()
}

// begin starts a batch.
func (r *reducer) begin() {
	r.ops, r.lits, r.literals, r.run = r.ops[:0], r.lits[:0], 0, diskRun{}
	if r.match != nil {
		r.match.slot = 0
	}
	r.mute = max(r.mute-1, 0)
}

// write takes the data of an entry; its last record is num, and applied is what the receiver has on its disks.
func (r *reducer) write(volume uint16, off int64, data []byte, num, applied uint64) {
	s := cells{volume: volume, off: off, rest: data}
	r.endRun()
	for {
		c, ok := s.next()
		if !ok {
			break
		}
		r.cell(&c, num, applied)
	}
	r.endRun()
}

// end closes what is open behind the last entry.
func (r *reducer) end() {
	r.endRun()
	r.endLiterals()
}

func (r *reducer) cell(c *cell, num, applied uint64) {
	var sum uint64
	if c.whole() {
		sum = contentSum(c.data)
		if r.dedupe && r.reference(c, sum, applied) {
			r.disk.wrote(c.key, sum, num, c.data)
			return
		}
	}
	r.endRun()
	own := r.cache.find(c.key)
	if r.dense != nil {
		r.denseCell(c, own, r.onDisk(c, own, applied))
	} else if r.match != nil && r.match.find(c, own, r.onDisk(c, own, applied)) {
		r.patch(c)
	} else {
		r.literals++
		r.lits = append(r.lits, c.data...)
		r.stats.literal += uint64(len(c.data))
	}
	slot := r.cache.put(c.key, c.at, c.data)
	if slot >= 0 && r.match != nil {
		r.match.note(slot, c)
	}
	r.placed(slot, c, true)
	if c.whole() {
		r.disk.wrote(c.key, sum, num, c.data)
	} else {
		r.disk.touched(c.key, num, c.at, len(c.data))
	}
}

// onDisk returns the sketch of what the receiver's disk holds in the place of a cell that is not in the cache, nil where that is
// not known.
func (r *reducer) onDisk(c *cell, own int32, applied uint64) *sketch {
	if own >= 0 || r.mute > 0 || !c.whole() {
		return nil
	}
	if s := r.disk.block(c.key); s != nil && s.num <= applied {
		return s
	}
	return nil
}

func (r *reducer) patch(c *cell) {
	r.endLiterals()
	r.ops = append(append(r.ops, r.match.head), r.match.tokens...)
	r.lits = append(r.lits, r.match.lits...)
	for _, slot := range r.match.used {
		r.cache.touch(slot)
	}
	r.stats.literal += uint64(len(r.match.lits))
	if taken := uint64(len(c.data) - len(r.match.lits)); r.match.head == opPatchDisk {
		r.stats.reference += taken
	} else {
		r.stats.delta += taken
	}
}

// reference sends a cell as the place where the receiver has its content, where that is known.
func (r *reducer) reference(c *cell, sum, applied uint64) bool {
	from, ok := r.disk.find(sum, applied)
	if !ok || r.mute > 0 {
		return false
	}
	r.endLiterals()
	if n := uint64(r.run.cells); n == 0 || from != r.run.from+n<<8 || c.key != r.run.own+n<<8 {
		r.endRun()
		r.run = diskRun{own: c.key, from: from}
	}
	r.run.cells++
	r.stats.reference += uint64(len(c.data))
	r.placed(r.cache.put(c.key, c.at, c.data), c, false)
	return true
}

func (r *reducer) endRun() {
	if r.run.cells == 0 {
		return
	}
	r.ops = binary.AppendUvarint(r.ops, uint64(r.run.cells-1)<<opBits|opDisk)
	distance := int64(r.run.from>>8) - int64(r.run.own>>8)
	where := uint64(distance<<1^distance>>63) << 1
	volume := byte(r.run.from)
	if volume == byte(r.run.own) {
		r.ops = binary.AppendUvarint(r.ops, where)
	} else {
		r.ops = append(binary.AppendUvarint(r.ops, where|1), volume)
	}
	r.run = diskRun{}
}

func (r *reducer) endLiterals() {
	if r.literals > 0 {
		r.ops = binary.AppendUvarint(r.ops, uint64(r.literals-1)<<opBits|opLiteral)
		r.literals = 0
	}
}
