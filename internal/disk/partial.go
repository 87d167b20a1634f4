package disk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"drship/internal/block"
)

// ErrMissing is returned for a block whose content is not on this disk: a peer has it.
var ErrMissing = errors.New("the block is not on this disk")

// Set is a set of blocks of one disk that can be made durable.
type Set interface {
	Set(r block.Range) uint64   // adds every block that r touches
	Clear(r block.Range) uint64 // takes out those that lie wholly inside r
	ClearAll()
	Contains(r block.Range) bool // whether r touches one
	Next(from uint64, most int) (first, n uint64, ok bool)
	Count() uint64
	Flush() error
}

// maxHealed bounds what is remembered between two syncs of blocks that were written again. One that is forgotten stays missing.
const maxHealed = 4096

// Partial is a disk that may lack blocks, or be gone altogether, while its volume goes on. A write to a disk that is gone succeeds: the block
// is missing then, and so it stays until the whole of it was written to a disk that is there, and synced. Sync makes that durable as
// it does the data.
type Partial struct {
	cur  atomic.Pointer[present] // nil while the disk is gone
	size atomic.Int64            // of the disk that was there last
	some atomic.Bool             // a block may be missing

	mu      sync.Mutex // guards what follows
	missing Set
	healed  []block.Range // written since the last sync
	lacked  uint64        // counts what became missing
}

type present struct{ disk Disk }

// NewPartial returns d without the blocks that are missing. A nil d is a disk that is gone, of so many bytes.
func NewPartial(d Disk, size int64, missing Set) *Partial {
	p := &Partial{missing: missing}
	p.size.Store(size)
	p.some.Store(missing.Count() > 0)
	if d != nil {
		p.Put(d)
	}
	return p
}

// Put takes a disk in the place of one that is gone.
func (p *Partial) Put(d Disk) {
	p.size.Store(d.Size())
	p.cur.Store(&present{d})
}

// Remove gives the disk up, and returns it for the caller to close; nil if it is gone already. What was written to it and not synced may be lost:
// the caller says so with Lack.
func (p *Partial) Remove() Disk {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.cur.Swap(nil)
	p.healed = nil
	p.lacked++
	if was == nil {
		return nil
	}
	return was.disk
}

// Gone reports whether there is no disk.
func (p *Partial) Gone() bool { return p.cur.Load() == nil }

// Missing returns the number of blocks that are missing.
func (p *Partial) Missing() uint64 {
	if !p.some.Load() {
		return 0
	}
	return p.missing.Count()
}

// Next finds the next run of missing blocks.
func (p *Partial) Next(from uint64, most int) (first, n uint64, ok bool) {
	return p.missing.Next(from, most)
}

// Lacks reports whether something of the range is missing.
func (p *Partial) Lacks(r block.Range) bool {
	return p.Gone() || p.some.Load() && p.missing.Contains(r)
}

// Lack notes that every block that r touches is missing. Sync makes it durable.
func (p *Partial) Lack(r block.Range) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacked++
	p.some.Store(true)
	p.missing.Set(r)
}

// Forgive takes what is on the disk for what is missing, on the administrator's word.
func (p *Partial) Forgive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing.ClearAll()
	p.some.Store(false)
	return p.missing.Flush()
}

// ReadAt implements Disk.
func (p *Partial) ReadAt(buf []byte, off int64) error {
	d := p.cur.Load()
	if d == nil || p.some.Load() && p.missing.Contains(block.Range{Off: off, Len: int64(len(buf))}) {
		return ErrMissing
	}
	return d.disk.ReadAt(buf, off)
}

// WriteAt implements Disk.
func (p *Partial) WriteAt(buf []byte, off int64) error {
	return p.change(block.Range{Off: off, Len: int64(len(buf))}, func(d Disk) error { return d.WriteAt(buf, off) })
}

// Zero implements Disk.
func (p *Partial) Zero(off, n int64, punch bool) error {
	return p.change(block.Range{Off: off, Len: n}, func(d Disk) error { return d.Zero(off, n, punch) })
}

// change makes a change on the disk, or notes that it is not there.
func (p *Partial) change(r block.Range, do func(Disk) error) error {
	for d := p.cur.Load(); d != nil; d = p.cur.Load() {
		err := do(d.disk)
		if p.cur.Load() != d {
			continue // it went while it was written to
		}
		if err == nil && p.some.Load() {
			p.heals(r)
		}
		return err
	}
	p.Lack(r)
	return nil
}

func (p *Partial) heals(r block.Range) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.healed) < maxHealed && p.missing.Contains(r) {
		p.healed = append(p.healed, r)
	}
}

// Sync implements Disk.
func (p *Partial) Sync() error {
	d := p.cur.Load()
	if d != nil && !p.some.Load() {
		return d.disk.Sync()
	}
	p.mu.Lock()
	healed, lacked := p.healed, p.lacked
	p.healed = nil
	p.mu.Unlock()
	if d != nil {
		if err := d.disk.Sync(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if d != nil && p.lacked == lacked && p.cur.Load() == d {
		for _, r := range healed {
			p.missing.Clear(r)
		}
		p.some.Store(p.missing.Count() > 0)
	}
	if err := p.missing.Flush(); err != nil {
		return fmt.Errorf("note what the disk lacks: %w", err)
	}
	return nil
}

// Segments implements Disk. A disk that lacks something does not tell where it has holes.
func (p *Partial) Segments(off, n int64) ([]Segment, error) {
	d := p.cur.Load()
	if d == nil || p.some.Load() {
		return []Segment{{Off: off, Len: n}}, nil
	}
	return d.disk.Segments(off, n)
}

// Size implements Disk.
func (p *Partial) Size() int64 {
	if d := p.cur.Load(); d != nil {
		return d.disk.Size()
	}
	return p.size.Load()
}

// Remeasure returns how large the disk is now, where it can tell that it has grown.
func (p *Partial) Remeasure() (int64, error) {
	if d := p.cur.Load(); d != nil {
		if m, ok := d.disk.(interface{ Remeasure() (int64, error) }); ok {
			return m.Remeasure()
		}
	}
	return p.Size(), nil
}

// Close implements Disk.
func (p *Partial) Close() error {
	if d := p.Remove(); d != nil {
		return d.Close()
	}
	return nil
}

// Blind returns d with zeroes for what is missing: for readers whose answer does not matter there.
func Blind(d Disk) Disk { return blind{d} }

type blind struct{ Disk }

func (b blind) ReadAt(p []byte, off int64) error {
	err := b.Disk.ReadAt(p, off)
	if errors.Is(err, ErrMissing) {
		clear(p)
		return nil
	}
	return err
}
