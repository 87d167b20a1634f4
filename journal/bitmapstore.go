package journal

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// What is stored of a bitmap: its partial pages, a key each, and under one more key the size and the set of full
// pages. A page that is in both is full: pages are written before the set, and deleted after it, so that a crash in
// between leaves too many bits rather than too few.

const flushBytes = 4 << 20 // a flush is committed in pieces of about this size

// prefix is the beginning of the keys of a bitmap.
func (id bitmapID) prefix() []byte {
	k := append([]byte{keyBitmap, byte(len(id.peer))}, id.peer...)
	return be.AppendUint16(k, id.volume)
}

func (id bitmapID) pageKey(p uint32) []byte { return be.AppendUint32(append(id.prefix(), 'p'), p) }

func (id bitmapID) setKey() []byte { return append(id.prefix(), 'f') }

// Bitmap returns the bitmap of a volume of size bytes against a peer; it is empty where there was none. Every call for
// the same peer and volume returns the same one, resized to size.
func (s *Store) Bitmap(peer string, volume uint16, size int64) (*Bitmap, error) {
	if peer == "" || len(peer) > MaxName {
		return nil, fmt.Errorf("open bitmap: peer name of %d bytes", len(peer))
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	id := bitmapID{peer, volume}
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	m := s.bitmaps[id]
	if m == nil {
		m = &Bitmap{
			s: s, id: id, pages: map[uint32]*roaring.Bitmap{},
			partial: roaring.New(), full: roaring.New(), dirty: roaring.New(),
		}
		if err := m.load(size); err != nil {
			return nil, fmt.Errorf("open bitmap of volume %d against %s: %w", volume, peer, err)
		}
	}
	if err := m.Resize(size); err != nil {
		return nil, err
	}
	s.bitmaps[id] = m
	return m, nil
}

// missingName stands for a peer's name: no host is called so.
const missingName = "\x00missing"

// Missing returns the blocks of a volume of size bytes that its disk here lacks; as Bitmap does, in all else.
func (s *Store) Missing(volume uint16, size int64) (*Bitmap, error) {
	return s.Bitmap(missingName, volume, size)
}

// load reads the bitmap as it was stored, with the size it had then.
func (m *Bitmap) load(size int64) error {
	m.size, m.storedSize, m.storedFull = size, -1, roaring.New()
	k := m.id.setKey()
	v, err := m.s.get(k)
	if err != nil {
		return err
	}
	if v != nil {
		if err := m.loadSet(k, v); err != nil {
			return err
		}
	}
	prefix := append(m.id.prefix(), 'p')
	return m.s.scan(prefix, func(k, v []byte) error { return m.loadPage(prefix, k, v) })
}

func (m *Bitmap) loadSet(k, v []byte) error {
	if len(v) < 12 || !sealed(k, v) {
		return fmt.Errorf("%w: set of full pages", ErrCorrupt)
	}
	m.size = int64(le.Uint64(v[4:]))
	if m.size < 0 || m.size > maxVolumeSize {
		return fmt.Errorf("%w: volume of %d bytes", ErrCorrupt, m.size)
	}
	m.storedSize = m.size
	if err := m.full.UnmarshalBinary(v[12:]); err != nil {
		return fmt.Errorf("%w: set of full pages: %w", ErrCorrupt, err)
	}
	m.storedFull = m.full.Clone()
	m.full.RemoveRange((m.blocks()+PageBlocks-1)/PageBlocks, 1<<32) // grown while it was written
	if !m.full.IsEmpty() {
		last := m.full.Maximum()
		m.count = (m.full.GetCardinality()-1)*PageBlocks + m.pageLen(last)
	}
	return nil
}

func (m *Bitmap) loadPage(prefix, k, v []byte) error {
	if len(k) != len(prefix)+4 || !sealed(k, v) {
		return fmt.Errorf("%w: page %x", ErrCorrupt, k)
	}
	p := be.Uint32(k[len(prefix):])
	if m.full.Contains(p) {
		m.dirty.Add(p) // left over from a flush that a crash cut short
		return nil
	}
	runs, err := decodePage(v[4:])
	if err != nil {
		return err
	}
	n := uint32(m.pageLen(p))
	cut := false // stored before the volume became smaller, and the set after it
	for i, r := range runs {
		cut = cut || r.end > n
		runs[i] = blockRun{min(r.first, n), min(r.end, n)}
	}
	m.setRuns(p, runs)
	if !cut {
		m.dirty.Remove(p)
	}
	return nil
}

// Flush makes the bitmap durable as it stood when Flush was called, or later.
func (m *Bitmap) Flush() error { return m.s.FlushBitmaps(m) }

// FlushBitmaps flushes the bitmaps given, or all that were opened if none is, with one sync for all.
func (s *Store) FlushBitmaps(ms ...*Bitmap) error {
	if len(ms) == 0 {
		s.partsMu.Lock()
		ms = slices.Collect(maps.Values(s.bitmaps))
		s.partsMu.Unlock()
	}
	if err := s.WriteBitmaps(ms...); err != nil {
		return err
	}
	return s.Sync()
}

// WriteBitmaps is FlushBitmaps without the sync: after a crash the bitmaps given are as they are now, or later, if anything that
// was written to the store afterwards is there.
func (s *Store) WriteBitmaps(ms ...*Bitmap) error {
	if err := s.usable(); err != nil {
		return err
	}
	for _, m := range ms {
		if err := m.write(); err != nil {
			return fmt.Errorf("flush bitmap of volume %d against %s: %w", m.id.volume, m.id.peer, err)
		}
	}
	return nil
}

// write commits what is dirty, without a sync. What could not be committed is dirty again.
func (m *Bitmap) write() (err error) {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	m.mu.Lock()
	dirty, size := m.dirty, m.size
	clean := m.gone || (dirty.IsEmpty() && m.size == m.storedSize)
	if !clean {
		m.dirty = roaring.New()
	}
	m.mu.Unlock()
	if clean {
		return nil
	}
	f := flusher{m: m, size: size, full: roaring.AndNot(m.storedFull, dirty), absent: roaring.New()}
	if err = f.run(dirty); err != nil {
		m.mu.Lock()
		m.dirty.Or(dirty)
		m.mu.Unlock()
		if f.b != nil {
			err = errors.Join(err, f.b.Close())
		}
	}
	return err
}

// flusher writes the dirty pages of a bitmap, which may change meanwhile: a page that does is dirty again, and what is
// stored of it stands for a moment between the two flushes.
type flusher struct {
	m      *Bitmap
	size   int64
	b      *pebble.Batch
	full   *roaring.Bitmap // the set to store: pages that are stored as full, and those that were when their turn came
	absent *roaring.Bitmap // pages that need no key: full or empty
}

func (f *flusher) run(dirty *roaring.Bitmap) error {
	if err := f.m.s.enter(); err != nil {
		return err
	}
	defer f.m.s.gate.leave()
	f.b = f.m.s.db.NewBatch()
	for it := dirty.Iterator(); it.HasNext(); {
		if err := f.page(it.Next()); err != nil {
			return err
		}
		if f.b.Len() >= flushBytes {
			if err := f.commit(); err != nil {
				return err
			}
			f.b = f.m.s.db.NewBatch()
		}
	}
	if err := f.finish(); err != nil {
		return err
	}
	if err := f.commit(); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.storedSize, f.m.storedFull = f.size, f.full
	return nil
}

func (f *flusher) commit() error {
	b := f.b
	f.b = nil
	if err := f.m.s.applyEntered(b, false); err != nil {
		return err
	}
	return b.Close()
}

func (f *flusher) page(p uint32) error {
	m := f.m
	m.mu.Lock()
	var bits []byte
	if m.full.Contains(p) {
		f.full.Add(p)
	} else {
		bits = m.encodePage(p)
	}
	m.mu.Unlock()
	if bits == nil {
		f.absent.Add(p)
		return nil
	}
	k := m.id.pageKey(p)
	v := append(make([]byte, 4, 4+len(bits)), bits...)
	seal(k, v)
	return f.b.Set(k, v, nil)
}

// finish adds the set of full pages and the deletion of keys that are not needed.
func (f *flusher) finish() error {
	f.full.RunOptimize()
	bits, err := f.full.ToBytes()
	if err != nil {
		return fmt.Errorf("encode set of full pages: %w", err)
	}
	k := f.m.id.setKey()
	v := make([]byte, 12, 12+len(bits))
	le.PutUint64(v[4:], uint64(f.size))
	v = append(v, bits...)
	seal(k, v)
	if err := f.b.Set(k, v, nil); err != nil {
		return err
	}
	for at := f.absent.NextValue(0); at >= 0; {
		end := runEnd(f.absent, uint64(at), math.MaxUint32)
		if err := f.drop(uint32(at), uint32(end)); err != nil {
			return err
		}
		at = f.absent.NextValue(uint32(end))
	}
	return nil
}

func (f *flusher) drop(from, to uint32) error {
	if to == from+1 {
		return f.b.Delete(f.m.id.pageKey(from), nil)
	}
	return f.b.DeleteRange(f.m.id.pageKey(from), f.m.id.pageKey(to), nil)
}

// ForgetPeer deletes every bitmap against the peer, durably. Those that are open stay usable, in memory only.
func (s *Store) ForgetPeer(name string) error {
	s.partsMu.Lock()
	for id, m := range s.bitmaps {
		if id.peer == name {
			m.flushMu.Lock()
			m.mu.Lock()
			m.gone = true
			m.mu.Unlock()
			m.flushMu.Unlock()
			delete(s.bitmaps, id)
		}
	}
	s.partsMu.Unlock()
	// The length in front of the name keeps the ranges of names apart.
	from := bitmapID{peer: name}.prefix()
	to := append(bitmapID{peer: name, volume: 0xffff}.prefix(), 0xff)
	if err := s.update(true, func(b *pebble.Batch) error { return b.DeleteRange(from, to, nil) }); err != nil {
		return fmt.Errorf("forget peer %s: %w", name, err)
	}
	return nil
}
