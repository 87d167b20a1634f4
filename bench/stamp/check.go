package stamp

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

// The check in one picture. Real order gives every operation an interval on the log's clock, from submission to
// acknowledgement; its place in the write order is a moment inside. A replica that holds a prefix of the write order was
// therefore cut at one moment T, with every operation placed before T on it and none placed after:
//
//	#1  ├────┤                      acknowledged before #3 was submitted
//	#2     ├───────────┤
//	#3            ├─────┤
//	───────────────────── T?
//
// If #3 is there, T lies behind its submission; if #1 is not, T lies before its acknowledgement. No T does both: that replica
// has lost a write and kept one submitted after it was complete. Each cell allows some moments, by what it holds; a cell of
// zeroes may allow several ranges of them (never written, zeroed by one request or another). The replica is a prefix if
// some moment is allowed by every cell.

// Image is one volume as it was found.
type Image = io.ReaderAt

// CheckOptions say what an image must hold.
type CheckOptions struct {
	Size   int64   // bytes of each volume that the log is about
	Base   []Image // what the volumes held before the log's first operation; nil: zeroes
	Source Image   // what operations of kind Source wrote, at the offset they wrote it to
	// Prefix demands promise 1, whole operations included (each at most 1 MiB, so that it is one record).
	Prefix bool
	// Must names operations that may not be absent: acknowledged ones under protocol C, flushed ones on the primary.
	Must func(*Op) bool
}

// Report is what a check found.
type Report struct {
	Violations []string // empty: the image keeps its promises; bounded, Broken counts all
	Broken     int
	Operations int   // in the log, flushes left out
	Present    int   // whose stamp was seen
	Missing    []*Op // acknowledged and proved absent: what a failover lost
}

// maxViolations bounds the texts of a report.
const maxViolations = 12

// Err is nil for an image that keeps its promises.
func (r *Report) Err() error {
	if r.Broken == 0 {
		return nil
	}
	text := fmt.Sprintf("%d violations", r.Broken)
	for _, v := range r.Violations {
		text += "\n  " + v
	}
	return fmt.Errorf("%s", text)
}

// MissingBytes sums what Missing wrote.
func (r *Report) MissingBytes() (n int64) {
	for _, o := range r.Missing {
		n += o.Bytes()
	}
	return n
}

func (r *Report) violate(format string, args ...any) {
	r.Broken++
	if len(r.Violations) < maxViolations {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// Check holds images against the log of what was written to them, one image a volume.
func Check(ops []Op, images []Image, c CheckOptions) (*Report, error) {
	k := newChecker(ops, c)
	for v, img := range images {
		if err := k.volume(uint16(v), img); err != nil {
			return nil, fmt.Errorf("check volume %d: %w", v, err)
		}
	}
	k.finish()
	return k.report, nil
}

// base stands for "what was there before" among the indexes of operations.
const base = -1

// sight is where an operation was seen, or proved absent.
type sight struct {
	seen   bool
	volume uint16
	cell   int64
	holds  int // absent: one of the operations (or base) that the cell may hold instead
}

type checker struct {
	o        CheckOptions
	ops      []Op
	first    uint64           // ID of ops[0]
	byBlock  map[uint64][]int // place of a 4 KiB block → operations that touch it
	present  []sight
	absent   []sight
	newer    map[[2]int]sight // {x, y}: a cell that both cover shows y
	allowed  moments
	conflict *sight // the first cell that left no moment
	report   *Report
}

func newChecker(ops []Op, c CheckOptions) *checker {
	k := &checker{
		o: c, ops: ops, byBlock: map[uint64][]int{},
		present: make([]sight, len(ops)), absent: make([]sight, len(ops)),
		newer:   map[[2]int]sight{},
		allowed: moments{{from: 0, to: math.MaxInt64}},
		report:  &Report{},
	}
	if len(ops) > 0 {
		k.first = ops[0].ID
	}
	for i := range ops {
		o := &ops[i]
		if o.Kind == Flush {
			continue
		}
		k.report.Operations++
		for b := o.Cell / blockCells; b <= (o.End()-1)/blockCells; b++ {
			at := place(o.Volume, b)
			k.byBlock[at] = append(k.byBlock[at], i)
		}
	}
	return k
}

// volume reads an image once and judges every cell of it.
func (k *checker) volume(v uint16, img Image) error {
	const step = 1 << 20
	got, was, src := make([]byte, step), make([]byte, step), make([]byte, step)
	for off := int64(0); off < k.o.Size; off += step {
		n := min(step, k.o.Size-off)
		if err := readFull(img, got[:n], off); err != nil {
			return fmt.Errorf("read image: %w", err)
		}
		if k.o.Base != nil {
			if err := readFull(k.o.Base[v], was[:n], off); err != nil {
				return fmt.Errorf("read base: %w", err)
			}
		}
		if k.o.Source != nil {
			if err := readFull(k.o.Source, src[:n], off); err != nil && err != io.EOF {
				return fmt.Errorf("read source: %w", err)
			}
		}
		for b := int64(0); b < n; b += blockSize {
			e := min(b+blockSize, n)
			k.block(v, (off+b)/CellSize, got[b:e], was[b:e], src[b:e])
		}
	}
	return nil
}

// readFull reads len(p) bytes; where the reader ends before, the rest is zeroes and the error io.EOF.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	clear(p[n:])
	return err
}

// block judges the cells of one block: cell is the first of them.
func (k *checker) block(v uint16, cell int64, got, was, src []byte) {
	touching := k.byBlock[place(v, cell/blockCells)]
	if len(touching) == 0 {
		if !bytes.Equal(got, was) {
			k.report.violate("volume %d, block at %d: changed, though nobody wrote there", v, cell*CellSize)
		}
		return
	}
	var covering, holds []int
	for i := 0; i < len(got); i, cell = i+CellSize, cell+1 {
		covering = covering[:0]
		for _, x := range touching {
			if k.ops[x].covers(v, cell) {
				covering = append(covering, x)
			}
		}
		c := i + CellSize
		var ok bool
		holds, ok = k.candidates(holds[:0], v, cell, covering, got[i:c], was[i:c], src[i:c])
		if ok {
			k.cell(v, cell, covering, holds)
		}
	}
}

// candidates lists what a cell may hold: operations by index, or base. It reports a cell that holds nothing explicable.
func (k *checker) candidates(into []int, v uint16, cell int64, covering []int, got, was, src []byte) ([]int, bool) {
	if bytes.Equal(got, was) {
		into = append(into, base)
	}
	kind, id := readCell(got, place(v, cell))
	stamped := -1
	if kind == contentStamp && id >= k.first && id-k.first < uint64(len(k.ops)) {
		stamped = int(id - k.first)
	}
	for _, x := range covering {
		switch k.ops[x].Kind {
		case Write:
			if x == stamped {
				into = append(into, x)
			}
		case Source:
			if bytes.Equal(got, src) {
				into = append(into, x)
			}
		case Zero, Trim:
			if kind == contentZero {
				into = append(into, x)
			}
		}
	}
	if len(into) == 0 {
		k.report.violate("volume %d, offset %d: holds what nobody wrote there (%s)", v, cell*CellSize, describe(kind, id))
	}
	return into, len(into) > 0
}

func describe(kind content, id uint64) string {
	switch kind {
	case contentZero:
		return "zeroes"
	case contentStamp:
		return fmt.Sprintf("the stamp of #%d", id)
	}
	return "a torn or foreign cell"
}
