package journal

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// MaxPageBytes bounds a page of a bitmap in roaring's portable form.
const MaxPageBytes = 8192 + 64

// blockRun is a run of blocks in a page: [first, end).
type blockRun struct{ first, end uint32 }

// Cookies of roaring's portable form.
const (
	cookieNoRuns = 12346
	cookieRuns   = 12347 // low half; the high half is the number of containers less one
)

// decodePage reads a bitmap in roaring's portable form that has at most one container, that of the values below 65,536,
// into ascending, disjoint runs. It accepts nothing else: an unordered container, trailing bytes or a count that does
// not match is ErrCorrupt. The input may come from anywhere.
func decodePage(b []byte) ([]blockRun, error) {
	if len(b) > MaxPageBytes {
		return nil, fmt.Errorf("%w: page of %d bytes, the limit is %d", ErrCorrupt, len(b), MaxPageBytes)
	}
	if len(b) < 4 {
		return nil, pageError("short")
	}
	switch cookie := le.Uint32(b); {
	case cookie == cookieNoRuns:
		if len(b) == 8 && le.Uint32(b[4:]) == 0 {
			return nil, nil
		}
		if len(b) < 16 || le.Uint32(b[4:]) != 1 || le.Uint16(b[8:]) != 0 || le.Uint32(b[12:]) != 16 {
			return nil, pageError("header")
		}
		return decodePlain(b[16:], int(le.Uint16(b[10:]))+1)
	case cookie == cookieRuns: // one container, no offsets for fewer than four
		if len(b) < 9 || b[4] > 1 || le.Uint16(b[5:]) != 0 {
			return nil, pageError("header")
		}
		cardinality := int(le.Uint16(b[7:])) + 1
		if b[4] == 0 {
			return decodePlain(b[9:], cardinality)
		}
		return decodeRuns(b[9:], cardinality)
	}
	return nil, pageError("cookie")
}

func pageError(what string) error {
	return fmt.Errorf("%w: %s of a bitmap page", ErrCorrupt, what)
}

// decodePlain reads an array container (up to 4,096 values) or a bitmap container.
func decodePlain(b []byte, cardinality int) ([]blockRun, error) {
	if cardinality > 4096 {
		return decodeBits(b, cardinality)
	}
	if len(b) != 2*cardinality {
		return nil, pageError("length")
	}
	var runs []blockRun
	last := -1
	for i := range cardinality {
		v := int(le.Uint16(b[2*i:]))
		if v <= last {
			return nil, pageError("order")
		}
		last = v
		runs = appendRun(runs, uint32(v), uint32(v)+1)
	}
	return runs, nil
}

func decodeBits(b []byte, cardinality int) ([]blockRun, error) {
	if len(b) != PageBlocks/8 {
		return nil, pageError("length")
	}
	var runs []blockRun
	for i := range uint32(PageBlocks) {
		if b[i/8]&(1<<(i%8)) != 0 {
			cardinality--
			runs = appendRun(runs, i, i+1)
		}
	}
	if cardinality != 0 {
		return nil, pageError("count")
	}
	return runs, nil
}

func decodeRuns(b []byte, cardinality int) ([]blockRun, error) {
	if len(b) < 2 || len(b) != 2+4*int(le.Uint16(b)) {
		return nil, pageError("length")
	}
	var runs []blockRun
	end := uint32(0) // behind the run before
	for b = b[2:]; len(b) > 0; b = b[4:] {
		first := uint32(le.Uint16(b))
		last := first + uint32(le.Uint16(b[2:])) // inclusive
		if last >= PageBlocks || (first < end && end > 0) {
			return nil, pageError("order")
		}
		end = last + 1
		cardinality -= int(end - first)
		runs = appendRun(runs, first, end)
	}
	if cardinality != 0 || len(runs) == 0 {
		return nil, pageError("count")
	}
	return runs, nil
}

// pageOf makes a bitmap of runs.
func pageOf(runs []blockRun) *roaring.Bitmap {
	var dense [PageBlocks / 64]uint64
	for _, r := range runs {
		for at := r.first; at < r.end; {
			n := min(64-at%64, r.end-at)
			dense[at/64] |= (^uint64(0) >> (64 - n)) << (at % 64)
			at += n
		}
	}
	return roaring.FromDense(dense[:], true)
}

// appendRun adds a run that begins at or behind the end of the last one, joining the two where they touch.
func appendRun(runs []blockRun, first, end uint32) []blockRun {
	if n := len(runs); n > 0 && runs[n-1].end == first {
		runs[n-1].end = end
		return runs
	}
	return append(runs, blockRun{first, end})
}
