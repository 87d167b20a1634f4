package journal

import (
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"drship/internal/block"
)

// PageBlocks is the number of blocks in a page of a bitmap: one container of a roaring bitmap, 256 MiB of a volume.
const PageBlocks = 1 << 16

// maxVolumeSize keeps page numbers within 32 bits.
const maxVolumeSize = math.MaxUint32 * int64(PageBlocks*block.Size)

// Bitmap is the dirty bitmap of one volume against one peer: a bit for each block of block.Size that is known to
// differ. It lives in memory; Flush makes it durable. Methods may be called concurrently.
//
// A page is either empty (in neither of the sets below), partial, or full. A full page costs next to nothing, an empty
// one nothing, a partial one at most 8 KiB and a small header: 32 MiB for a TiB at worst.
type Bitmap struct {
	s  *Store
	id bitmapID

	flushMu    sync.Mutex      // one flush at a time; before mu
	storedSize int64           // size as stored
	storedFull *roaring.Bitmap // set of full pages as stored

	mu      sync.Mutex
	size    int64                      // bytes of the volume
	pages   map[uint32]*roaring.Bitmap // partial pages, blocks counted from the page's first
	partial *roaring.Bitmap            // numbers of the pages in that map
	full    *roaring.Bitmap            // numbers of the pages whose blocks are all set
	count   uint64                     // bits set
	dirty   *roaring.Bitmap            // numbers of the pages that differ from what is stored
	gone    bool                       // the peer was forgotten
}

type bitmapID struct {
	peer   string
	volume uint16
}

// NewScratch returns a bitmap in memory alone, for a volume of any size.
func NewScratch() *Bitmap {
	return &Bitmap{
		size: maxVolumeSize, gone: true, pages: map[uint32]*roaring.Bitmap{},
		partial: roaring.New(), full: roaring.New(), dirty: roaring.New(),
	}
}

// ClearExcept clears every bit that is not set in keep. Neither may change meanwhile but by others setting bits, which stay or go as the
// moment has it.
func (m *Bitmap) ClearExcept(keep *Bitmap) {
	at := uint64(0)
	for {
		first, n, ok := keep.Next(at, PageBlocks)
		end := first
		if !ok {
			end = m.blockCount()
		}
		if at < end {
			m.Clear(block.Range{Off: int64(at) * block.Size, Len: int64(end-at) * block.Size})
		}
		if !ok {
			return
		}
		at = first + n
	}
}

// SetFrom sets every bit that is set in from.
func (m *Bitmap) SetFrom(from *Bitmap) {
	for at := uint64(0); ; {
		first, n, ok := from.Next(at, PageBlocks)
		if !ok {
			return
		}
		m.Set(block.Range{Off: int64(first) * block.Size, Len: int64(n) * block.Size})
		at = first + n
	}
}

func (m *Bitmap) blockCount() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blocks()
}

// blocks is the number of blocks of the volume.
func (m *Bitmap) blocks() uint64 { return uint64(m.size+block.Size-1) / block.Size }

// pageLen is the number of blocks in page p.
func (m *Bitmap) pageLen(p uint32) uint64 {
	first := uint64(p) * PageBlocks
	if n := m.blocks(); n < first+PageBlocks {
		return n - min(n, first)
	}
	return PageBlocks
}

// clamp bounds a run of blocks to the volume.
func (m *Bitmap) clamp(first, end uint64) (uint64, uint64) {
	end = min(end, m.blocks())
	return min(first, end), end
}

// Set sets the bits of every block that r touches and returns how many were not set before.
func (m *Bitmap) Set(r block.Range) (newBits uint64) {
	if r.Off < 0 || r.Len <= 0 {
		return 0
	}
	first, end := r.Blocks()
	m.mu.Lock()
	defer m.mu.Unlock()
	first, end = m.clamp(first, end)
	return m.setBlocks(first, end)
}

// SetAll sets every bit.
func (m *Bitmap) SetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setBlocks(0, m.blocks())
}

// setBlocks sets the bits [first, end), which lie in the volume.
func (m *Bitmap) setBlocks(first, end uint64) (changed uint64) {
	before := m.count
	for first < end {
		p := uint32(first / PageBlocks)
		pageFirst := uint64(p) * PageBlocks
		if first == pageFirst && end >= pageFirst+m.pageLen(p) {
			pages := m.wholePages(p, end)
			m.setPages(p, pages)
			first = min(end, pageFirst+uint64(pages)*PageBlocks)
			continue
		}
		last := min(end, pageFirst+PageBlocks)
		m.setInPage(p, first-pageFirst, last-pageFirst)
		first = last
	}
	return m.count - before
}

// wholePages is the number of pages from p on that end at or before block end.
func (m *Bitmap) wholePages(p uint32, end uint64) uint32 {
	if end == m.blocks() {
		return uint32((end+PageBlocks-1)/PageBlocks) - p
	}
	return uint32(end/PageBlocks) - p
}

// setPages makes n pages full.
func (m *Bitmap) setPages(p, n uint32) {
	from, to := uint64(p), uint64(p)+uint64(n)
	last := uint32(to - 1)
	blocks := uint64(n-1)*PageBlocks + m.pageLen(last)
	m.count += blocks - m.countPages(from, to)
	m.dropPartial(from, to)
	m.dirty.AddRange(from, to)
	m.full.AddRange(from, to)
}

// countPages is the number of bits set in the pages [from, to).
func (m *Bitmap) countPages(from, to uint64) (n uint64) {
	if fulls := m.full.CardinalityInRange(from, to); fulls > 0 {
		n = fulls * PageBlocks
		if last := uint32(to - 1); m.full.Contains(last) {
			n -= PageBlocks - m.pageLen(last)
		}
	}
	m.eachPartial(from, to, func(_ uint32, page *roaring.Bitmap) { n += page.GetCardinality() })
	return n
}

func (m *Bitmap) eachPartial(from, to uint64, fn func(p uint32, page *roaring.Bitmap)) {
	for at := from; at < to; {
		v := m.partial.NextValue(uint32(at))
		if v < 0 || uint64(v) >= to {
			return
		}
		fn(uint32(v), m.pages[uint32(v)])
		at = uint64(v) + 1
	}
}

func (m *Bitmap) dropPartial(from, to uint64) {
	m.eachPartial(from, to, func(p uint32, _ *roaring.Bitmap) { delete(m.pages, p) })
	m.partial.RemoveRange(from, to)
}

// setInPage sets blocks [first, end) of page p, which are not all of it.
func (m *Bitmap) setInPage(p uint32, first, end uint64) {
	if m.full.Contains(p) {
		return
	}
	page := m.pages[p]
	if page == nil {
		page = roaring.New()
		m.pages[p] = page
		m.partial.Add(p)
	}
	var added uint64
	if end == first+1 { // a write of one block: much the most frequent
		if page.CheckedAdd(uint32(first)) {
			added = 1
		}
	} else if added = end - first - page.CardinalityInRange(first, end); added > 0 {
		page.AddRange(first, end)
	}
	if added == 0 {
		return
	}
	m.count += added
	m.dirty.Add(p)
	m.settle(p, page)
}

// Clear clears the bits of the blocks that lie wholly inside r (the volume's last one may be cut short by its end) and
// returns how many were set.
func (m *Bitmap) Clear(r block.Range) (cleared uint64) {
	if r.Off < 0 || r.Len <= 0 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	first := uint64(r.Off+block.Size-1) / block.Size
	end := uint64(r.End()) / block.Size
	if r.End() >= m.size {
		end = m.blocks()
	}
	first, end = m.clamp(first, end)
	return m.clearBlocks(first, end)
}

// ClearAll clears every bit.
func (m *Bitmap) ClearAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clearBlocks(0, m.blocks())
}

func (m *Bitmap) clearBlocks(first, end uint64) (changed uint64) {
	before := m.count
	for first < end {
		p := uint32(first / PageBlocks)
		pageFirst := uint64(p) * PageBlocks
		if first == pageFirst && end >= pageFirst+m.pageLen(p) {
			pages := m.wholePages(p, end)
			m.clearPages(uint64(p), uint64(p)+uint64(pages))
			first = min(end, pageFirst+uint64(pages)*PageBlocks)
			continue
		}
		last := min(end, pageFirst+PageBlocks)
		m.clearInPage(p, first-pageFirst, last-pageFirst)
		first = last
	}
	return before - m.count
}

func (m *Bitmap) clearPages(from, to uint64) {
	m.count -= m.countPages(from, to)
	m.eachPartial(from, to, func(p uint32, _ *roaring.Bitmap) { m.dirty.Add(p) })
	m.dropPartial(from, to)
	for at := from; at < to; { // runs of full pages
		v := m.full.NextValue(uint32(at))
		if v < 0 || uint64(v) >= to {
			break
		}
		end := runEnd(m.full, uint64(v), to)
		m.dirty.AddRange(uint64(v), end)
		at = end
	}
	m.full.RemoveRange(from, to)
}

func (m *Bitmap) clearInPage(p uint32, first, end uint64) {
	page := m.pages[p]
	if m.full.Contains(p) {
		page = roaring.New()
		page.AddRange(0, m.pageLen(p))
		m.full.Remove(p)
		m.pages[p] = page
		m.partial.Add(p)
	}
	if page == nil {
		return
	}
	had := page.CardinalityInRange(first, end)
	if had == 0 {
		return
	}
	page.RemoveRange(first, end)
	m.count -= had
	m.dirty.Add(p)
	if page.IsEmpty() {
		delete(m.pages, p)
		m.partial.Remove(p)
	}
}

// Count is the number of bits set.
func (m *Bitmap) Count() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// CountPage is the number of bits set in page p.
func (m *Bitmap) CountPage(p uint32) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if uint64(p)*PageBlocks >= m.blocks() {
		return 0
	}
	return m.countPages(uint64(p), uint64(p)+1)
}

// Contains reports whether a block that r touches is set: whether any byte of r may differ.
func (m *Bitmap) Contains(r block.Range) bool {
	if r.Off < 0 || r.Len <= 0 {
		return false
	}
	first, end := r.Blocks()
	m.mu.Lock()
	defer m.mu.Unlock()
	first, end = m.clamp(first, end)
	at, ok := m.nextSet(first)
	return ok && at < end
}

// Next finds the next run of set bits: the first block at or behind from, and how many follow it, at most maxBlocks. ok is
// false if there is none.
func (m *Bitmap) Next(from uint64, maxBlocks int) (first, n uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, ok = m.nextSet(from)
	if !ok {
		return 0, 0, false
	}
	limit := min(first+uint64(max(maxBlocks, 1)), m.blocks())
	end := first
	for end < limit {
		next := m.nextClear(end)
		if next == end {
			break
		}
		end = next
	}
	return first, min(end, limit) - first, true
}

// nextClear is the first clear bit at or behind from in its page, or the page's end.
func (m *Bitmap) nextClear(from uint64) uint64 {
	p := uint32(from / PageBlocks)
	pageFirst := uint64(p) * PageBlocks
	if m.full.Contains(p) {
		return pageFirst + m.pageLen(p)
	}
	page := m.pages[p]
	if page == nil {
		return from
	}
	return pageFirst + runEnd(page, from-pageFirst, PageBlocks)
}

// runEnd is the end of the run of set values that begins at v, at most limit; v if v is not set. (The library's
// NextAbsentValue is wrong at the end of a set and across its containers.)
func runEnd(set *roaring.Bitmap, v, limit uint64) uint64 {
	lo, hi := v, limit // set up to lo; the answer is at most hi
	for step := uint64(1); lo < hi; step *= 2 {
		to := min(v+step, hi)
		if set.CardinalityInRange(lo, to) != to-lo {
			hi = to - 1
			break
		}
		lo = to
	}
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if set.CardinalityInRange(lo, mid) == mid-lo {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// nextSet is the first set bit at or behind from.
func (m *Bitmap) nextSet(from uint64) (uint64, bool) {
	if from >= m.blocks() {
		return 0, false
	}
	p := uint32(from / PageBlocks)
	if page := m.pages[p]; page != nil {
		if v := page.NextValue(uint32(from - uint64(p)*PageBlocks)); v >= 0 {
			return uint64(p)*PageBlocks + uint64(v), true
		}
		p++
	} else if m.full.Contains(p) {
		return from, true
	}
	nextPartial, nextFull := m.partial.NextValue(p), m.full.NextValue(p)
	switch {
	case nextPartial < 0 && nextFull < 0:
		return 0, false
	case nextPartial < 0 || (nextFull >= 0 && nextFull < nextPartial):
		return uint64(nextFull) * PageBlocks, true
	}
	return uint64(nextPartial)*PageBlocks + uint64(m.pages[uint32(nextPartial)].Minimum()), true
}

// Pages yields the numbers of the pages that have a bit set, ascending. The bitmap may change meanwhile.
func (m *Bitmap) Pages() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for from := uint64(0); ; {
			m.mu.Lock()
			first, ok := m.nextSet(from)
			m.mu.Unlock()
			if !ok || !yield(uint32(first/PageBlocks)) {
				return
			}
			from = (first/PageBlocks + 1) * PageBlocks
		}
	}
}

// Page returns page i in roaring's portable form, blocks counted from the page's first; nil if no bit of it is set.
func (m *Bitmap) Page(i uint32) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.encodePage(i)
}

func (m *Bitmap) encodePage(p uint32) []byte {
	page := m.pages[p]
	switch {
	case m.full.Contains(p):
		page = roaring.New()
		page.AddRange(0, m.pageLen(p))
	case page == nil:
		return nil
	default:
		page.RunOptimize()
	}
	b, err := page.ToBytes()
	if err != nil {
		panic("journal: encode a page in memory: " + err.Error()) // bytes.Buffer does not fail
	}
	return b
}

// Merge sets the bits of page i that are set in bits, which is in roaring's portable form and may come from anywhere:
// what is not a page of this volume is refused.
func (m *Bitmap) Merge(i uint32, bits []byte) error {
	runs, err := decodePage(bits)
	if err != nil {
		return fmt.Errorf("page %d: %w", i, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.pageLen(i); len(runs) > 0 && uint64(runs[len(runs)-1].end) > n {
		return fmt.Errorf("%w: page %d has %d blocks, not %d", ErrCorrupt, i, n, runs[len(runs)-1].end)
	}
	m.setRuns(i, runs)
	return nil
}

// setRuns sets runs of blocks of page p, which lie in the volume.
func (m *Bitmap) setRuns(p uint32, runs []blockRun) {
	pageFirst := uint64(p) * PageBlocks
	if len(runs) <= 16 || m.full.Contains(p) {
		for _, r := range runs {
			m.setBlocks(pageFirst+uint64(r.first), pageFirst+uint64(r.end))
		}
		return
	}
	page := m.pages[p]
	if page == nil {
		page = roaring.New()
		m.pages[p] = page
		m.partial.Add(p)
	}
	before := page.GetCardinality()
	page.Or(pageOf(runs))
	after := page.GetCardinality()
	if after == before {
		return
	}
	m.count += after - before
	m.dirty.Add(p)
	m.settle(p, page)
}

// settle makes a partial page full if all its blocks are set.
func (m *Bitmap) settle(p uint32, page *roaring.Bitmap) {
	if page.GetCardinality() == m.pageLen(p) {
		delete(m.pages, p)
		m.partial.Remove(p)
		m.full.Add(p)
	}
}

// Resize tells the bitmap that the volume has another size, in bytes. Bits beyond it go; new blocks are clear.
func (m *Bitmap) Resize(size int64) error {
	if size < 0 || size > maxVolumeSize {
		return fmt.Errorf("bitmap of volume %d: size of %d bytes is out of range", m.id.volume, size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resize(size)
	return nil
}

func (m *Bitmap) resize(size int64) {
	old := m.blocks()
	if size < m.size {
		first := min(uint64(size+block.Size-1)/block.Size, old)
		m.clearBlocks(first, old)
		m.size = size
		if p := uint32(first / PageBlocks); first%PageBlocks != 0 && m.pages[p] != nil {
			m.dirty.Add(p)
			m.settle(p, m.pages[p]) // what is left of it may be full
		}
		return
	}
	last := uint32(old / PageBlocks)
	short := old % PageBlocks
	m.size = size
	if short != 0 && m.full.Contains(last) && m.pageLen(last) != short {
		m.full.Remove(last) // it has more blocks now
		page := roaring.New()
		page.AddRange(0, short)
		m.pages[last] = page
		m.partial.Add(last)
		m.dirty.Add(last)
	}
}
