package reduce

import (
	"fmt"

	"github.com/zeebo/blake3"

	"drship/internal/block"
	"drship/wan/frame"
)

// Gear is how much is done to make batches small. It may change from batch to batch.
type Gear struct {
	Codec  frame.Codec // of a payload that is not reduced
	Level  int         // as in Options
	Reduce bool        // differences and references, where the receiver takes them; packed with zstd
	Dense  bool        // the same, packed densely: fewer bytes, more processor
}

// SetGear changes how the next batches are packed.
func (e *Encoder) SetGear(g Gear) error {
	if g == e.gear {
		return nil
	}
	o := e.opt
	o.Codec, o.Level = g.Codec, g.Level
	if err := o.validate(); err != nil {
		return fmt.Errorf("change gear: %w", err)
	}
	if g.Codec != e.gear.Codec || g.Level != e.gear.Level {
		p, err := newPacker(o)
		if err != nil {
			return err
		}
		e.pack = p
	}
	e.gear = g
	if e.red != nil {
		e.red.stream.level = g.Level
	}
	return nil
}

// Offered says what cache the receiver offers, in bytes. Before that, and where the options want neither differences nor
// references, nothing is reduced.
func (e *Encoder) Offered(bytes int64) {
	slots := SlotsFor(min(bytes, e.opt.Cache))
	if !e.opt.Delta && !e.opt.Dedupe {
		slots = 0
	}
	if slots != e.slots {
		e.slots, e.red = slots, nil
	}
}

// startReducing makes the caches when they are needed for the first time.
func (e *Encoder) startReducing() {
	if e.red != nil {
		return
	}
	r := newReducer(int64(e.slots)*block.Size/3*8, e.slots, e.opt.Delta, e.opt.Dedupe)
	e.red = &reducing{reducer: r, slots: e.slots, begins: true, hash: blake3.New()}
	e.red.stream.level = e.gear.Level
}

// Forget makes the next reduced batch begin with empty caches: the receiver may not have seen what went before.
func (e *Encoder) Forget() {
	if e.red != nil {
		e.red.begins = true
	}
}

// Missed is Forget after the receiver did not have what a batch built on. References to its disks are given up for a while, longer
// each time.
func (e *Encoder) Missed() {
	if e.red != nil {
		e.red.begins = true
		e.red.misses++
		e.red.mute = min(mutedFirst<<min(e.red.misses, maxMisses), mutedMost)
	}
}

// Applied says which record the receiver has on its disks, by its number.
func (e *Encoder) Applied(num uint64) { e.applied = num }

const (
	mutedFirst = 32 // batches
	mutedMost  = 8192
	maxMisses  = 16
)
