package reduce

import (
	"bytes"
	"cmp"
	"slices"

	"drship/internal/block"
)

// piece is a run of bytes that one record leaves behind: record recs[rec], from off to end.
type piece struct {
	off, end int64
	rec      int32
	kind     block.Kind // the record's, or Zero for blocks of zeroes in a write
}

// folder works out which record each byte of a batch ends up with. Its slices are reused.
type folder struct {
	order  []int32 // records by volume and offset
	heap   []int32 // records that cover the position, newest on top; ended ones are dropped when they come up
	pieces []piece
	kept   []bool // by record: something of it is left
}

// fold fills f.pieces with disjoint pieces in order of volume and offset and returns how many records left nothing.
// It sweeps over the offsets and takes, at each, the newest record there: O(n log n), at most 2n pieces.
func (f *folder) fold(recs []block.Record) (gone int) {
	f.reset(len(recs))
	for i := range recs {
		if recs[i].Len > 0 {
			f.order = append(f.order, int32(i))
		}
	}
	slices.SortFunc(f.order, func(a, b int32) int {
		if c := cmp.Compare(recs[a].Volume, recs[b].Volume); c != 0 {
			return c
		}
		return cmp.Compare(recs[a].Off, recs[b].Off)
	})
	for from := 0; from < len(f.order); {
		to := from + 1
		for to < len(f.order) && recs[f.order[to]].Volume == recs[f.order[from]].Volume {
			to++
		}
		f.sweep(recs, f.order[from:to])
		from = to
	}
	for _, k := range f.kept {
		if !k {
			gone++
		}
	}
	return gone
}

// keep is fold for a batch that is to be left as it is.
func (f *folder) keep(recs []block.Record) {
	f.reset(len(recs))
	for i := range recs {
		r := &recs[i]
		f.emit(recs, int32(i), r.Off, r.Range().End())
	}
}

func (f *folder) reset(n int) {
	f.order, f.heap, f.pieces = f.order[:0], f.heap[:0], f.pieces[:0]
	f.kept = slices.Grow(f.kept[:0], n)[:n]
	clear(f.kept)
}

// sweep folds the records of one volume, given by offset.
func (f *folder) sweep(recs []block.Record, order []int32) {
	var pos int64
	for len(order) > 0 || len(f.heap) > 0 {
		for len(f.heap) > 0 && recs[f.heap[0]].Range().End() <= pos {
			f.pop()
		}
		if len(f.heap) == 0 {
			if len(order) == 0 {
				return
			}
			pos = recs[order[0]].Off
		}
		for len(order) > 0 && recs[order[0]].Off <= pos {
			f.push(order[0])
			order = order[1:]
		}
		top := f.heap[0]
		end := recs[top].Range().End()
		if len(order) > 0 {
			end = min(end, recs[order[0]].Off)
		}
		f.emit(recs, top, pos, end)
		pos = end
	}
}

func (f *folder) emit(recs []block.Record, rec int32, off, end int64) {
	f.kept[rec] = true
	if n := len(f.pieces); n > 0 && f.pieces[n-1].rec == rec && f.pieces[n-1].end == off {
		f.pieces[n-1].end = end
		return
	}
	f.pieces = append(f.pieces, piece{off: off, end: end, rec: rec, kind: recs[rec].Kind})
}

func (f *folder) push(rec int32) {
	f.heap = append(f.heap, rec)
	for i := len(f.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if f.heap[up] > f.heap[i] {
			return
		}
		f.heap[up], f.heap[i] = f.heap[i], f.heap[up]
		i = up
	}
}

func (f *folder) pop() {
	last := len(f.heap) - 1
	f.heap[0] = f.heap[last]
	f.heap = f.heap[:last]
	for i := 0; ; {
		top := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if f.heap[c] > f.heap[top] {
				top = c
			}
		}
		if top == i {
			return
		}
		f.heap[top], f.heap[i] = f.heap[i], f.heap[top]
		i = top
	}
}

var zeroBlock [block.Size]byte

// isZero reports whether b, at most a block long, is zeroes.
func isZero(b []byte) bool { return bytes.Equal(b, zeroBlock[:len(b)]) }

// splitZeroes calls fn for the runs of p, in order: whole blocks of the volume that are zeroes, and what lies
// between them. data is the piece's data.
func splitZeroes(p piece, data []byte, fn func(piece)) {
	start := p.off // of the run that is not known to be zeroes
	for at := (p.off + block.Size - 1) / block.Size * block.Size; at+block.Size <= p.end; {
		end := at
		for end+block.Size <= p.end && isZero(data[end-p.off:][:block.Size]) {
			end += block.Size
		}
		if end == at {
			at += block.Size
			continue
		}
		if start < at {
			fn(piece{off: start, end: at, rec: p.rec, kind: p.kind})
		}
		fn(piece{off: at, end: end, rec: p.rec, kind: block.Zero})
		start, at = end, end
	}
	if start < p.end {
		fn(piece{off: start, end: p.end, rec: p.rec, kind: p.kind})
	}
}
