package node

import (
	"errors"

	"drship/internal/block"
	"drship/journal"
	"drship/receiver"
)

// saveAfter is how much of a resync may be forgotten in a crash, in bytes: it would come over again.
const saveAfter = 32 << 20

// Resynced clears the bits of what is as the source has it. The source was told all of them before the resync began; were they left
// here, it would be told them again after a cut.
func (h hooks) Resynced(done []receiver.VolumeRange) {
	h.r.mu.Lock()
	a, s := h.r.att, h.r.targetSessionLocked()
	h.r.mu.Unlock()
	if a == nil || s == nil {
		return
	}
	p := a.group.Peer(s.peer.name)
	var cleared uint64
	for _, d := range done {
		if b := p.Bitmap(d.Volume); b != nil {
			cleared += b.Clear(d.Range)
		}
	}
	if a.unsaved.Add(int64(cleared)*block.Size) < saveAfter {
		return
	}
	a.unsaved.Store(0)
	if err := p.FlushBitmaps(); err != nil && !errors.Is(err, journal.ErrFailed) {
		h.r.log.Error("bitmap is not durable", "peer", s.peer.name, "err", err)
	}
}
