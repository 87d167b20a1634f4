package journal

import (
	"errors"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// Image is what a block held before it was overwritten.
type Image struct {
	Volume uint16
	Block  uint64 // in units of block.Size
	Data   []byte // block.Size bytes, fewer for a volume's last block; nil for zeroes
}

// History keeps pre-images: the way back to the last consistent point.
type History struct {
	s *Store

	saveMu sync.Mutex // one Save, Begin, End or Restore at a time; before mu

	mu    sync.RWMutex
	open  bool
	full  bool // a Save did not fit: there is no way back any more
	at    block.Seq
	saved map[uint16]*roaring64.Bitmap
	bytes int64
	next  uint64 // of the index
}

const (
	imageHeaderLen = 4                   // checksum
	historyLen     = 4 + 16              // checksum, position
	indexHeaderLen = 4 + 2 + 2 + 8       // checksum, volume, zero, bytes
	indexRunLen    = 8 + 4               // first block, blocks
	saveBytes      = 4 << 20             // a save is committed in pieces of about this size
	imageOverhead  = imageHeaderLen + 11 // of an image: header and key
	maxIndexRun    = uint64(1<<32 - 1)   // blocks in a run of the index
)

func openHistory(s *Store) (*History, error) {
	h := &History{s: s, saved: map[uint16]*roaring64.Bitmap{}}
	v, err := s.get([]byte{keyHistory})
	if err != nil || v == nil {
		return h, err
	}
	if len(v) != historyLen || !sealed([]byte{keyHistory}, v) {
		return nil, fmt.Errorf("%w: state of the history", ErrCorrupt)
	}
	h.open, h.at = true, getSeq(v[4:])
	err = s.scan([]byte{keyImageIndex}, func(k, v []byte) error {
		if len(k) != 9 || len(v) < indexHeaderLen || !sealed(k, v) || (len(v)-indexHeaderLen)%indexRunLen != 0 {
			return fmt.Errorf("%w: index of the history %x", ErrCorrupt, k)
		}
		h.next = be.Uint64(k[1:]) + 1
		h.bytes += int64(le.Uint64(v[8:]))
		set := h.volume(le.Uint16(v[4:]))
		for v = v[indexHeaderLen:]; len(v) > 0; v = v[indexRunLen:] {
			first := le.Uint64(v)
			set.AddRange(first, first+uint64(le.Uint32(v[8:])))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	return h, nil
}

func (h *History) volume(v uint16) *roaring64.Bitmap {
	set := h.saved[v]
	if set == nil {
		set = roaring64.New()
		h.saved[v] = set
	}
	return set
}

// History returns the pre-images.
func (s *Store) History() *History { return s.history }

// Begin opens the history, durably: its images lead back to at. If one is open already it stays, with its older point.
func (h *History) Begin(at block.Seq) error {
	h.saveMu.Lock()
	defer h.saveMu.Unlock()
	if _, open := h.Open(); open {
		return h.s.usable()
	}
	var v [historyLen]byte
	putSeq(v[4:], at)
	seal([]byte{keyHistory}, v[:])
	if err := h.s.update(true, func(b *pebble.Batch) error { return b.Set([]byte{keyHistory}, v[:], nil) }); err != nil {
		return fmt.Errorf("begin history: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.at = true, at
	return nil
}

// Open reports whether the history is open, and the position it leads back to.
func (h *History) Open() (block.Seq, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.at, h.open
}

// Bytes is what the images take of MaxHistory.
func (h *History) Bytes() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.bytes
}

// Saved reports whether the block's image is kept already. It does no I/O.
func (h *History) Saved(vol uint16, b uint64) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	set := h.saved[vol]
	return set != nil && set.Contains(b)
}

// Save keeps images, durably; those of blocks that have one are left out, because the first image is the one that leads
// back. ErrHistoryFull beyond MaxHistory, ErrNoSpace when the file system is full: nothing of the call is kept
// then, the history leads nowhere any more, and the caller ends it.
func (h *History) Save(images []Image) error {
	h.saveMu.Lock()
	defer h.saveMu.Unlock()
	if _, open := h.Open(); !open {
		return errors.New("save pre-images: no history is open")
	}
	fresh, bytes, err := h.fresh(images)
	if err != nil {
		return fmt.Errorf("save pre-images: %w", err)
	}
	if len(fresh) == 0 {
		return h.s.usable()
	}
	err = h.s.growable()
	if full := h.isFull(); err == nil && (full || h.Bytes()+bytes > h.s.o.MaxHistory) {
		err = ErrHistoryFull
	}
	if err == nil {
		err = h.write(fresh)
	}
	if err != nil {
		h.mu.Lock()
		h.full = true
		h.mu.Unlock()
		return fmt.Errorf("save pre-images: %w", err)
	}
	return nil
}

func (h *History) isFull() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.full
}

// fresh returns the images of blocks that have none, the first of each, and what they take.
func (h *History) fresh(images []Image) (fresh []*Image, bytes int64, err error) {
	type place struct {
		vol   uint16
		block uint64
	}
	seen := make(map[place]struct{}, len(images))
	for i := range images {
		m := &images[i]
		if len(m.Data) > block.Size || m.Block >= 1<<48 {
			return nil, 0, fmt.Errorf("image of %d bytes of block %d", len(m.Data), m.Block)
		}
		p := place{m.Volume, m.Block}
		if _, twice := seen[p]; twice || h.Saved(m.Volume, m.Block) {
			continue
		}
		seen[p] = struct{}{}
		fresh = append(fresh, m)
		bytes += m.size()
	}
	return fresh, bytes, nil
}

func (m *Image) size() int64 { return imageOverhead + int64(len(m.Data)) }

// write commits images in pieces and makes them durable. Images that a crash leaves of a Save that did not
// return are right all the same: their blocks were not overwritten before.
func (h *History) write(images []*Image) error {
	for len(images) > 0 {
		n, bytes := 0, int64(0)
		for n < len(images) && bytes < saveBytes && images[n].Volume == images[0].Volume {
			bytes += images[n].size()
			n++
		}
		if err := h.writePiece(images[:n], bytes); err != nil {
			return err
		}
		images = images[n:]
	}
	return h.s.Sync()
}

// writePiece commits images of one volume.
func (h *History) writePiece(images []*Image, bytes int64) error {
	vol := images[0].Volume
	set := roaring64.New()
	err := h.s.update(false, func(b *pebble.Batch) error {
		for _, m := range images {
			set.Add(m.Block)
			op := b.SetDeferred(imageKeyLen, imageHeaderLen+len(m.Data))
			putImageKey(op.Key, m.Volume, m.Block)
			copy(op.Value[imageHeaderLen:], m.Data)
			seal(op.Key, op.Value)
			if err := op.Finish(); err != nil {
				return err
			}
		}
		return putIndex(b, h.next, vol, bytes, set)
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.volume(vol).Or(set)
	h.bytes += bytes
	h.next++
	return nil
}

func putIndex(b *pebble.Batch, n uint64, vol uint16, bytes int64, set *roaring64.Bitmap) error {
	k := u64Key(keyImageIndex, n)
	v := make([]byte, indexHeaderLen, indexHeaderLen+indexRunLen)
	le.PutUint16(v[4:], vol)
	le.PutUint64(v[8:], uint64(bytes))
	for it := set.Iterator(); it.HasNext(); {
		first := it.Next()
		n := uint64(1)
		for it.HasNext() && it.PeekNext() == first+n && n < maxIndexRun {
			it.Next()
			n++
		}
		v = le.AppendUint64(v, first)
		v = le.AppendUint32(v, uint32(n))
	}
	seal(k, v)
	return b.Set(k, v, nil)
}

const imageKeyLen = 1 + 2 + 8

func putImageKey(k []byte, vol uint16, b uint64) {
	k[0] = keyImage
	be.PutUint16(k[1:], vol)
	be.PutUint64(k[3:], b)
}

// Restore calls fn for every image, by volume and block; Data is valid during the call. ErrHistoryFull if images are
// missing because there was no room.
func (h *History) Restore(fn func(Image) error) error {
	h.saveMu.Lock()
	defer h.saveMu.Unlock()
	if _, open := h.Open(); !open {
		return errors.New("restore pre-images: no history is open")
	}
	if h.isFull() {
		return fmt.Errorf("restore pre-images: %w", ErrHistoryFull)
	}
	if err := h.s.enter(); err != nil {
		return err
	}
	defer h.s.gate.leave()
	return h.s.scan([]byte{keyImage}, func(k, v []byte) error {
		if len(k) != imageKeyLen || len(v) > imageHeaderLen+block.Size || !sealed(k, v) {
			return fmt.Errorf("%w: pre-image %x", ErrCorrupt, k)
		}
		m := Image{Volume: be.Uint16(k[1:]), Block: be.Uint64(k[3:])}
		if len(v) > imageHeaderLen {
			m.Data = v[imageHeaderLen:]
		}
		return fn(m)
	})
}

// End forgets the history, durably.
func (h *History) End() error {
	h.saveMu.Lock()
	defer h.saveMu.Unlock()
	err := h.s.update(true, func(b *pebble.Batch) error {
		return errors.Join(b.Delete([]byte{keyHistory}, nil), deletePrefix(b, keyImageIndex), deletePrefix(b, keyImage))
	})
	if err != nil {
		return fmt.Errorf("end history: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.full, h.at, h.bytes, h.next = false, false, block.Seq{}, 0, 0
	h.saved = map[uint16]*roaring64.Bitmap{}
	return nil
}
