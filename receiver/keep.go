package receiver

import (
	"bytes"
	"errors"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
)

const (
	// keepRun bounds what is read at once to be kept, in bytes.
	keepRun = 1 << 20
	// keepSpan bounds what a disk is asked about its holes at once, in bytes.
	keepSpan = 64 << 20
)

// keeper makes the old content of blocks durable before they are overwritten for the first time since the history
// began. It saves many at a time, before anything of the group that overwrites them is written.
type keeper struct {
	t       *Target
	images  []journal.Image      // to be saved; they alias arena
	pending map[blockID]struct{} // the blocks of images
	arena   []byte
	skips   map[uint16]bool // volumes that have nothing to go back to
}

type blockID struct {
	volume uint16
	blk    uint64
}

func newKeeper(t *Target) *keeper {
	k := &keeper{t: t, pending: make(map[blockID]struct{}), skips: map[uint16]bool{}}
	for _, v := range t.volumes {
		if v != nil && t.empty != nil && t.empty(v.number) {
			k.skips[v.number] = true
		}
	}
	return k
}

// save keeps what items overwrite. When the room for pre-images has run out the way back is given up and the
// resync goes on.
func (a *applier) save(items []*item) error {
	if a.keep == nil {
		return nil
	}
	err := a.keep.items(items)
	if !errors.Is(err, journal.ErrHistoryFull) && !errors.Is(err, journal.ErrNoSpace) {
		return err
	}
	return a.giveUpHistory(err)
}

// giveUpHistory goes on without a way back, and says so.
func (a *applier) giveUpHistory(why error) error {
	a.keep = nil
	a.t.setAdrift(true)
	if err := a.t.history.End(); err != nil {
		return storeFailed("drop the pre-images", err)
	}
	a.t.hooks.HistoryFull(why)
	return nil
}

func (t *Target) setAdrift(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.adrift = yes
}

func (k *keeper) items(items []*item) error {
	for _, it := range items {
		if it.batch == nil {
			if m, ok := it.msg.(*frame.Chunk); ok {
				if err := k.touch(m.Volume, m.Off, int64(m.Len), it.chunk); err != nil {
					return err
				}
			}
			continue
		}
		for i := range it.recs {
			rec := &it.recs[i]
			if err := k.touch(rec.Volume, rec.Off, int64(rec.Len), rec.Data); err != nil {
				return err
			}
		}
	}
	return k.flush()
}

// touch keeps the blocks of a range that data, or zeroes where it is nil, is about to change.
func (k *keeper) touch(number uint16, off, n int64, data []byte) error {
	if k.skips[number] {
		return nil
	}
	v := k.t.volumes[number]
	if data != nil {
		return k.blocks(v, off, n, data)
	}
	// Zeroes: whatever is a hole already does not change.
	return v.allocated(off, off+n, func(off, n int64) error { return k.blocks(v, off, n, nil) })
}

// blocks walks the runs of blocks that are neither saved nor about to be.
func (k *keeper) blocks(v *volume, off, n int64, data []byte) error {
	first, end := block.Range{Off: off, Len: n}.Blocks()
	for first < end {
		if k.has(v, first) {
			first++
			continue
		}
		last := first + 1
		for last < end && last-first < keepRun/block.Size && !k.has(v, last) {
			last++
		}
		if err := k.run(v, first, last, change{off: off, n: n, data: data}); err != nil {
			return err
		}
		first = last
	}
	return nil
}

func (k *keeper) has(v *volume, blk uint64) bool {
	if _, ok := k.pending[blockID{v.number, blk}]; ok {
		return true
	}
	return k.t.history.Saved(v.number, blk)
}

// change is what a range is about to become.
type change struct {
	off, n int64
	data   []byte // nil for zeroes
}

// run reads blocks [first, last) and keeps those that change. Nothing of this group has touched them before: what it
// did touch is pending, unless it left it as it was.
func (k *keeper) run(v *volume, first, last uint64, c change) error {
	at := int64(first) * block.Size
	n := int(min(int64(last)*block.Size, v.size()) - at)
	if len(k.arena)+n > saveBlocks*block.Size {
		if err := k.flush(); err != nil {
			return err
		}
	}
	if k.arena == nil {
		k.arena = make([]byte, 0, saveBlocks*block.Size)
	}
	old := k.arena[len(k.arena) : len(k.arena)+n]
	if err := v.disk.ReadAt(old, at); err != nil {
		return &DiskError{Volume: v.number, Err: err}
	}
	before := len(k.images)
	for i := 0; i < n; i += block.Size {
		content := old[i:min(i+block.Size, n)]
		if !c.changes(content, at+int64(i)) {
			continue
		}
		blk := first + uint64(i/block.Size)
		image := journal.Image{Volume: v.number, Block: blk}
		if !zeroed(content) {
			image.Data = content
		}
		k.images = append(k.images, image)
		k.pending[blockID{v.number, blk}] = struct{}{}
	}
	if len(k.images) > before {
		k.arena = k.arena[:len(k.arena)+n]
	}
	return nil
}

// changes reports whether content, which stands at off, becomes something else.
func (c change) changes(content []byte, off int64) bool {
	from := max(off, c.off)
	end := min(off+int64(len(content)), c.off+c.n)
	part := content[from-off : end-off]
	if c.data == nil {
		return !zeroed(part)
	}
	return !bytes.Equal(part, c.data[from-c.off:end-c.off])
}

var zeroBlock [block.Size]byte

func zeroed(p []byte) bool { return bytes.Equal(p, zeroBlock[:len(p)]) }

// flush makes what is pending durable.
func (k *keeper) flush() error {
	if len(k.images) == 0 {
		return nil
	}
	err := k.t.history.Save(k.images)
	n := len(k.images)
	clear(k.images)
	clear(k.pending)
	k.images, k.arena = k.images[:0], k.arena[:0]
	if err == nil {
		k.t.stats.images.Add(uint64(n))
		return nil
	}
	if errors.Is(err, journal.ErrHistoryFull) || errors.Is(err, journal.ErrNoSpace) {
		return err
	}
	return storeFailed("save pre-images", err)
}
