package sender

import (
	"fmt"

	"drship/internal/block"
)

// Shrink makes the bitmaps of a volume that has no data yet as small as its peers' disks, durably.
func (g *Group) Shrink(volume uint16, to int64) error {
	for _, p := range g.peers {
		b := p.Bitmap(volume)
		if b == nil {
			return fmt.Errorf("shrink: there is no volume %d", volume)
		}
		if err := b.Resize(to); err != nil {
			return fmt.Errorf("shrink bitmap for %s: %w", p.name, err)
		}
		if err := p.FlushBitmaps(); err != nil {
			return err
		}
	}
	return nil
}

// Grow makes room in the bitmaps for a volume that grows from one size to another, in bytes, durably; with differs what is new counts as out of
// sync for every peer. The disk shows its new size only afterwards, so that no request touches what no bitmap covers.
func (g *Group) Grow(volume uint16, from, to int64, differs bool) error {
	for _, p := range g.peers {
		b := p.Bitmap(volume)
		if b == nil {
			return fmt.Errorf("grow: there is no volume %d", volume)
		}
		if err := b.Resize(to); err != nil {
			return fmt.Errorf("grow bitmap for %s: %w", p.name, err)
		}
		if differs {
			b.Set(block.Range{Off: from, Len: to - from})
		}
		if err := p.FlushBitmaps(); err != nil {
			return err
		}
	}
	return nil
}
