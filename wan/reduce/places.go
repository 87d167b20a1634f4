package reduce

import (
	"math/bits"

	"github.com/zeebo/xxh3"

	"drship/internal/block"
)

// places knows where the receiver has which content, of what was shipped in this stream: a guess, which the digest of the batch
// confirms at the other end. Two tables of fixed size, in which newer entries push older ones out:
//
//	known  by content: the block that it was shipped to last, and with which record
//	holds  by block: the content that was shipped to it last
//
// A block counts as the place of a content only where both tables say so. What has been pushed out is not found, never found
// wrongly.
type places struct {
	known []knownPlace
	holds []heldContent
}

type knownPlace struct {
	sum uint64 // of the content
	key uint64 // of the block
	num uint64 // of the record: numbers grow over all epochs of a stream
}

type heldContent struct {
	key uint64
	sum uint64 // 0: nothing is known of it
}

const placeBytes = 24 + 16 // of an entry in both tables

// newPlaces returns tables for so many blocks, rounded down to a power of two.
func newPlaces(blocks int) *places {
	n := 1 << (bits.Len(uint(max(blocks, 1))) - 1)
	return &places{known: make([]knownPlace, n), holds: make([]heldContent, n)}
}

func (p *places) reset() {
	clear(p.known)
	clear(p.holds)
}

func contentSum(data []byte) uint64 { return xxh3.Hash(data) | 1 }

func (p *places) bySum(sum uint64) *knownPlace { return &p.known[sum>>1&uint64(len(p.known)-1)] }

func (p *places) byKey(key uint64) *heldContent {
	return &p.holds[key*anchorPrime>>32&uint64(len(p.holds)-1)]
}

// find returns a block that holds the content at the receiver, on its disk by record applied.
func (p *places) find(sum, applied uint64) (key uint64, ok bool) {
	k := p.bySum(sum)
	if k.sum != sum || k.num > applied {
		return 0, false
	}
	h := p.byKey(k.key)
	return k.key, h.key == k.key && h.sum == sum
}

// wrote takes note of a block that is overwritten as a whole with content, by record num.
func (p *places) wrote(key, sum, num uint64) {
	*p.byKey(key) = heldContent{key: key, sum: sum}
	k := p.bySum(sum)
	if k.sum == sum && k.num <= num {
		if h := p.byKey(k.key); h.key == k.key && h.sum == sum && k.key != key {
			return // the place that is known already has been applied for longer
		}
	}
	*k = knownPlace{sum: sum, key: key, num: num}
}

// touched takes note of blocks of which something changes.
func (p *places) touched(r block.Range, volume uint16) {
	first, end := r.Blocks()
	if end-first > uint64(len(p.holds)) {
		clear(p.holds)
		return
	}
	for blk := first; blk < end; blk++ {
		key := blockKey(volume, blk)
		if h := p.byKey(key); h.key == key {
			h.sum = 0
		}
	}
}
