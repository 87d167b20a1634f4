package reduce

import (
	"math/bits"

	"github.com/zeebo/xxh3"

	"drship/internal/block"
)

// places knows what the receiver's disks hold, of what was shipped in this stream, without keeping it: a guess, which the digest
// of the batch confirms at the other end. Two tables of fixed size, in which newer entries push older ones out:
//
//	known     by content: the block that it was shipped to last
//	sketches  by block: what was shipped to it last, as a digest of the whole and of each piece of it
//
// A block counts as the place of a content only where both tables say so. What has been pushed out is not found, never found
// wrongly.
type places struct {
	known    []knownPlace // in sets of knownWays
	sketches []sketch     // in sets of sketchWays
}

type knownPlace struct {
	sum uint64 // of the content
	key uint64 // of the block
}

// sketch is what is known of a block. Pieces that changed can be told from those that did not: two that differ have the same
// digest once in 2³² times, and the digest of the batch sees that.
type sketch struct {
	key    uint64
	num    uint64                         // of the record that wrote it last: numbers grow over all epochs of a stream; 0: the entry is free
	sum    uint64                         // of the whole; 0: not known
	pieces [block.Size / pieceSize]uint32 // 0: not known
}

const (
	pieceSize  = 128
	sketchWays = 4
	knownWays  = 4
	sketchSize = 3*8 + block.Size/pieceSize*4
	knownSize  = 16
)

// newPlaces returns tables that take so many bytes, an eighth of it for contents.
func newPlaces(bytes int) *places {
	sets := max(bytes/8*7/sketchSize/sketchWays, 1)
	known := 1 << (bits.Len(uint(max(bytes/8/knownSize, knownWays))) - 1)
	return &places{known: make([]knownPlace, known), sketches: make([]sketch, sets*sketchWays)}
}

func (p *places) reset() {
	clear(p.known)
	clear(p.sketches)
}

func contentSum(data []byte) uint64 { return xxh3.Hash(data) | 1 }

func pieceSum(data []byte) uint32 { return uint32(xxh3.Hash(data)) | 1 }

// content returns the place of a content, nil if there is none, and the entry for a new one.
func (p *places) content(sum uint64) (found, room *knownPlace) {
	at := sum >> 1 & uint64(len(p.known)/knownWays-1) * knownWays
	set := p.known[at : at+knownWays]
	room = &set[sum>>60%knownWays]
	for i := range set {
		switch set[i].sum {
		case sum:
			return &set[i], &set[i]
		case 0:
			room = &set[i]
		}
	}
	return nil, room
}

func (p *places) set(key uint64) []sketch {
	n, _ := bits.Mul64(key*anchorPrime, uint64(len(p.sketches)/sketchWays))
	return p.sketches[n*sketchWays : (n+1)*sketchWays]
}

// block returns the sketch of a block, nil if there is none.
func (p *places) block(key uint64) *sketch {
	set := p.set(key)
	for i := range set {
		if set[i].key == key && set[i].num != 0 {
			return &set[i]
		}
	}
	return nil
}

// find returns a block that holds the content on the receiver's disk, which has come to record applied.
func (p *places) find(sum, applied uint64) (key uint64, ok bool) {
	k, _ := p.content(sum)
	if k == nil {
		return 0, false
	}
	s := p.block(k.key)
	return k.key, s != nil && s.sum == sum && s.num <= applied
}

// wrote takes note of a block that is overwritten as a whole with content, by record num.
func (p *places) wrote(key, sum, num uint64, data []byte) {
	s := p.block(key)
	if s == nil {
		set := p.set(key)
		s = &set[0]
		for i := range set {
			if set[i].num < s.num {
				s = &set[i]
			}
		}
		s.key = key
	}
	s.num, s.sum = num, sum
	for i := range s.pieces {
		s.pieces[i] = pieceSum(data[i*pieceSize : (i+1)*pieceSize])
	}
	k, room := p.content(sum)
	if k != nil && k.key != key {
		if was := p.block(k.key); was != nil && was.sum == sum {
			return // the place that is known already was written earlier
		}
	}
	*room = knownPlace{sum: sum, key: key}
}

// touched takes note of a change to a part of a block by record num.
func (p *places) touched(key, num uint64, at, n int) {
	s := p.block(key)
	if s == nil {
		return
	}
	s.num, s.sum = num, 0
	for i := at / pieceSize; i*pieceSize < at+n; i++ {
		s.pieces[i] = 0
	}
}

// cleared takes note of a range that became zeroes.
func (p *places) cleared(volume uint16, r block.Range) {
	first, end := r.Blocks()
	if end-first > uint64(len(p.sketches)) {
		clear(p.sketches)
		return
	}
	for blk := first; blk < end; blk++ {
		if s := p.block(blockKey(volume, blk)); s != nil {
			*s = sketch{}
		}
	}
}
