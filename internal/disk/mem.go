package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

const (
	memPage   = 4096
	memSector = 512 // the smallest unit that a crash keeps or loses as a whole
	perPage   = memPage / memSector
)

// Mem is a disk in memory that can lose power. Memory is taken by pages that hold something, so that a size of many
// TiB costs nothing. What was not synced may be lost sector by sector at a Crash; which of it, the seed decides.
type Mem struct {
	mu     sync.Mutex
	size   int64
	rand   *rand.Rand
	closed bool
	pages  map[int64]*memBlock // by number; a missing one is a hole
	dirty  map[int64]*memBlock // those whose durable content differs from what is read
}

// memBlock is one page: what reads see, and what a crash is sure to leave.
type memBlock struct {
	data    *[memPage]byte // nil reads as zeroes
	durable *[memPage]byte // while the page is dirty; nil is zeroes
}

var _ Disk = (*Mem)(nil)

// NewMem returns an empty disk of size bytes. The same seed and the same calls lead to the same crashes.
func NewMem(size int64, seed uint64) *Mem {
	return &Mem{
		size:  size,
		rand:  rand.New(rand.NewPCG(seed, 0x6d656d)),
		pages: make(map[int64]*memBlock),
		dirty: make(map[int64]*memBlock),
	}
}

// Size implements Disk.
func (m *Mem) Size() int64 { return m.size }

// ReadAt implements Disk.
func (m *Mem) ReadAt(p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	eachPage(off, int64(len(p)), func(page, from, n, at int64) {
		dst := p[at : at+n]
		if b := m.pages[page]; b != nil && b.data != nil {
			copy(dst, b.data[from:from+n])
		} else {
			clear(dst)
		}
	})
	return nil
}

// WriteAt implements Disk.
func (m *Mem) WriteAt(p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	eachPage(off, int64(len(p)), func(page, from, n, at int64) {
		b := m.touch(page)
		if b.data == nil {
			b.data = new([memPage]byte)
		}
		copy(b.data[from:from+n], p[at:at+n])
	})
	return nil
}

// Zero implements Disk.
func (m *Mem) Zero(off, n int64, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, n); err != nil {
		return err
	}
	zero := func(page, from, n, _ int64) {
		if b := m.pages[page]; b == nil || b.data == nil {
			return
		}
		b := m.touch(page)
		if n == memPage {
			b.data = nil
		} else {
			clear(b.data[from : from+n])
		}
	}
	if n/memPage <= int64(len(m.pages)) {
		eachPage(off, n, zero)
		return nil
	}
	// The range is far larger than what is there. In order, so that the seed decides alone.
	for _, page := range slices.Sorted(maps.Keys(m.pages)) {
		from := max(off, page*memPage)
		if end := min(off+n, (page+1)*memPage); end > from {
			zero(page, from-page*memPage, end-from, 0)
		}
	}
	return nil
}

// Sync implements Disk.
func (m *Mem) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for page, b := range m.dirty {
		b.durable = nil
		if b.data == nil {
			delete(m.pages, page)
		}
	}
	clear(m.dirty)
	return nil
}

// Segments implements Disk by page.
func (m *Mem) Segments(off, n int64) ([]Segment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, n); err != nil {
		return nil, err
	}
	if n/memPage > maxSegments {
		return []Segment{{Off: off, Len: n}}, nil
	}
	var segments []Segment
	eachPage(off, n, func(page, _, n, at int64) {
		b := m.pages[page]
		hole := b == nil || b.data == nil
		if last := len(segments) - 1; last >= 0 && segments[last].Hole == hole {
			segments[last].Len += n
			return
		}
		segments = append(segments, Segment{Off: off + at, Len: n, Hole: hole})
	})
	return segments, nil
}

// Close implements Disk. What was not synced is still there for a Reopen, as it is on a machine that runs on.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.closed = true
	return nil
}

// Crash loses power: each sector written since the last Sync keeps its new content or falls back to what is durable,
// in units of 512 bytes to 4 KiB. The disk goes on with what is left; whoever writes to it afterwards writes to the
// disk of the restarted machine, so end the crashed user first, or use CrashClone.
func (m *Mem) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed(m)
	m.closed = false
}

// CrashClone returns the disk as a loss of power at this moment would leave it. m goes on undisturbed.
func (m *Mem) CrashClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem(m.size, m.rand.Uint64())
	m.crashed(c)
	return c
}

// Clone returns an independent copy of what reads see now, all of it durable.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem(m.size, m.rand.Uint64())
	for page, b := range m.pages {
		if b.data != nil {
			data := *b.data
			c.pages[page] = &memBlock{data: &data}
		}
	}
	return c
}

// Reopen makes a closed disk usable again.
func (m *Mem) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
}

// crashed fills c, which may be m, with what a crash leaves. Pages go in order so that the seed decides alone.
func (m *Mem) crashed(c *Mem) {
	keep := [...]float64{0, 1, 0.5, m.rand.Float64()}[m.rand.IntN(4)]
	unit := 1 << m.rand.IntN(4) // sectors
	left := make(map[int64]*memBlock, len(m.pages))
	for _, page := range slices.Sorted(maps.Keys(m.pages)) {
		b := m.pages[page]
		survivor := [memPage]byte{}
		if b.data != nil {
			survivor = *b.data
		}
		if m.dirty[page] != nil {
			for s := 0; s < perPage; s += unit {
				if m.rand.Float64() >= keep {
					copyDurable(survivor[s*memSector:(s+unit)*memSector], b.durable, s*memSector)
				}
			}
		}
		if survivor != ([memPage]byte{}) {
			left[page] = &memBlock{data: &survivor}
		}
	}
	c.pages, c.dirty = left, make(map[int64]*memBlock)
}

// touch makes a page ready to be changed. A page that is dirty already may have been written back in part on its
// own, as a volatile cache does: an older version may survive a crash that loses a newer one.
func (m *Mem) touch(page int64) *memBlock {
	b := m.pages[page]
	if b == nil {
		b = &memBlock{}
		m.pages[page] = b
	}
	if m.dirty[page] == nil {
		m.dirty[page] = b
		if b.data != nil {
			durable := *b.data
			b.durable = &durable
		}
		return b
	}
	if m.rand.IntN(4) == 0 {
		if b.durable == nil {
			b.durable = new([memPage]byte)
		}
		for s := range perPage {
			if m.rand.IntN(2) == 0 {
				copyDurable(b.durable[s*memSector:(s+1)*memSector], b.data, s*memSector)
			}
		}
	}
	return b
}

func (m *Mem) check(off, n int64) error {
	if m.closed {
		return ErrClosed
	}
	return checkRange(off, n, m.size)
}

// copyDurable fills dst from an image at an offset; a nil image is zeroes.
func copyDurable(dst []byte, image *[memPage]byte, from int) {
	if image == nil {
		clear(dst)
		return
	}
	copy(dst, image[from:])
}

// eachPage calls fn for the pages of [off, off+n): number, first byte in the page, length, distance from off.
func eachPage(off, n int64, fn func(page, from, n, at int64)) {
	for at := int64(0); at < n; {
		page, from := (off+at)/memPage, (off+at)%memPage
		m := min(memPage-from, n-at)
		fn(page, from, m, at)
		at += m
	}
}
