package journal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// serve admits as many demands as fit, in their order, makes room for their extents and commits them, all at once. It
// reports whether a demand was served. mu is held on entry and on return, not in between; leading keeps others out.
func (a *ActivityLog) serve() bool {
	admitted, rising := a.admit()
	if len(admitted) == 0 {
		return false
	}
	var err error
	if len(rising) > 0 {
		a.leading = true
		err = a.raise(rising)
		a.leading = false
	}
	for _, e := range rising {
		e.state = extentHot
	}
	for _, d := range admitted {
		if err != nil {
			a.unref(d.first, d.end)
		}
		d.done, d.err = true, err
		d.signal()
	}
	if err != nil {
		a.remove(rising, nil)
	}
	a.wakeHead()
	return true
}

// admit takes demands from pending while their extents fit beside those that are referenced.
func (a *ActivityLog) admit() (admitted []*hotDemand, rising []*extent) {
	for len(a.pending) > 0 {
		d := a.pending[0]
		pinned := a.pinned
		for id := d.first; id < d.end; id++ {
			if e := a.table[id]; e == nil || e.refs == 0 {
				pinned++
			}
		}
		if pinned > a.limit && pinned > a.pinned {
			break
		}
		a.pending = a.pending[1:]
		for id := d.first; id < d.end; id++ {
			e := a.table[id]
			if e == nil {
				e = &extent{id: id, state: extentRising}
				a.insert(e)
				rising = append(rising, e)
			}
			a.ref(e)
		}
		d.admitted = true
		admitted = append(admitted, d)
	}
	return admitted, rising
}

// raise makes room for the extents that rise and commits them together with those that go.
func (a *ActivityLog) raise(rising []*extent) error {
	victims := a.victims(len(a.table) - a.limit)
	if len(victims) > 0 {
		a.mu.Unlock()
		err := a.beforeCold()
		a.mu.Lock()
		if err != nil {
			a.rewarm(victims)
			return fmt.Errorf("before extents become cold: %w", err)
		}
		victims = a.remove(victims, func(e *extent) bool { return e.state == extentCooling })
	}
	a.mu.Unlock()
	defer a.mu.Lock()
	a.updates.Add(1)
	a.s.o.BeforeSync()
	return a.s.update(true, func(b *pebble.Batch) error {
		var errs error
		for _, e := range victims {
			errs = errors.Join(errs, b.Delete(e.id.key(), nil))
		}
		for _, e := range rising {
			errs = errors.Join(errs, b.Set(e.id.key(), nil, nil))
		}
		return errs
	})
}

// victims chooses extents to become cold if over of them have to, and some more, so that the next time is not at once:
// unreferenced ones that were not used since the hand passed last.
func (a *ActivityLog) victims(over int) []*extent {
	if over <= 0 {
		return nil
	}
	want := over + a.limit/8
	var victims []*extent
	for range 2 * len(a.clock) { // the first round takes the marks away
		if len(victims) == want {
			break
		}
		if a.hand >= len(a.clock) {
			a.hand = 0
		}
		e := a.clock[a.hand]
		a.hand++
		if e.refs > 0 || e.state != extentHot {
			continue
		}
		if e.used {
			e.used = false
			continue
		}
		e.state = extentCooling
		victims = append(victims, e)
	}
	return victims
}

// rewarm undoes the choice of victims.
func (a *ActivityLog) rewarm(victims []*extent) {
	for _, e := range victims {
		if e.state == extentCooling {
			e.state = extentHot
		}
	}
}

// remove takes the extents for which ok holds (all, if it is nil) out of the table, and returns them.
func (a *ActivityLog) remove(extents []*extent, ok func(*extent) bool) []*extent {
	var removed []*extent
	for _, e := range extents {
		if ok == nil || ok(e) {
			delete(a.table, e.id)
			removed = append(removed, e)
		}
	}
	keep := a.clock[:0]
	for i, e := range a.clock {
		if i == a.hand {
			a.hand = len(keep)
		}
		if a.table[e.id] == e {
			keep = append(keep, e)
		}
	}
	clear(a.clock[len(keep):])
	a.clock = keep
	return removed
}

// Clear makes every extent cold, durably, after beforeCold: at an orderly demotion, or when the extents of a crash are in the
// bitmaps. ErrBusy while any is referenced or asked for.
func (a *ActivityLog) Clear() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pinned > 0 || a.leading || len(a.pending) > 0 {
		return fmt.Errorf("clear activity log: %w", ErrBusy)
	}
	a.leading = true
	defer func() {
		a.leading = false
		a.wakeHead()
	}()
	for _, e := range a.clock {
		e.state = extentCooling
	}
	a.mu.Unlock()
	err := a.beforeCold()
	a.mu.Lock()
	if err == nil && a.pinned > 0 {
		err = ErrBusy
	}
	if err != nil {
		a.rewarm(a.clock)
		return fmt.Errorf("clear activity log: %w", err)
	}
	// An extent acquired and released meanwhile holds writes that beforeCold may not have seen.
	for _, e := range a.clock {
		if e.state != extentCooling {
			a.rewarm(a.clock)
			return fmt.Errorf("clear activity log: %w", ErrBusy)
		}
	}
	clear(a.table)
	a.clock, a.hand = nil, 0
	a.mu.Unlock()
	err = a.s.update(true, func(b *pebble.Batch) error { return deletePrefix(b, keyHot) })
	a.mu.Lock()
	a.updates.Add(1)
	if err != nil {
		return fmt.Errorf("clear activity log: %w", err)
	}
	return nil
}
