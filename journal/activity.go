package journal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"drship/internal/block"
)

// ActivityLog holds the extents that may have writes in flight: those to compare after a crash of the primary.
//
//	      Acquire: durable first          Release, and chosen as victim
//	cold ───────────────────────> hot ────────────────────────────────> cooling
//	 ^                             ^                                       │  │
//	 │                             └──────────── Acquire again ────────────┘  │
//	 └──────────────── beforeCold done, not acquired meanwhile ───────────────┘
type ActivityLog struct {
	s          *Store
	limit      int
	beforeCold func() error
	updates    atomic.Uint64

	mu      sync.Mutex
	table   map[extentID]*extent
	clock   []*extent // the same, in the order in which the victims' hand passes them
	hand    int
	pinned  int          // extents with references
	pending []*hotDemand // in their order
	leading bool         // somebody serves pending
}

// extentID is volume<<48 | extent.
type extentID uint64

func (id extentID) key() []byte {
	k := make([]byte, 1+8)
	k[0] = keyHot
	be.PutUint64(k[1:], uint64(id))
	return k
}

type extentState uint8

const (
	extentRising  extentState = iota // its commit is under way
	extentHot                        // durable
	extentCooling                    // durable still; to become cold
)

type extent struct {
	id    extentID
	refs  int32
	used  bool // acquired since the hand passed
	state extentState
}

// hotDemand is an Acquire that has to wait.
type hotDemand struct {
	first, end extentID
	admitted   bool // taken from pending: it holds its references, its extents are rising
	done       bool
	err        error
	wake       chan struct{} // capacity 1: done, or to lead
}

func (d *hotDemand) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// ActivityLog opens the activity log, which keeps at most so many extents of block.ExtentSize hot. beforeCold is called before
// extents become cold, without locks held: it makes the disks, the journal and the pages of the bitmaps durable.
// A store has one.
func (s *Store) ActivityLog(extents int, beforeCold func() error) (*ActivityLog, error) {
	if extents < 1 {
		return nil, fmt.Errorf("open activity log: %d extents", extents)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	if s.al != nil {
		return nil, fmt.Errorf("open activity log: %w", ErrBusy)
	}
	a := &ActivityLog{s: s, limit: extents, beforeCold: beforeCold, table: map[extentID]*extent{}}
	err := s.scan([]byte{keyHot}, func(k, _ []byte) error {
		if len(k) != 9 {
			return fmt.Errorf("%w: extent %x", ErrCorrupt, k)
		}
		a.insert(&extent{id: extentID(be.Uint64(k[1:])), state: extentHot})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open activity log: %w", err)
	}
	s.al = a
	return a, nil
}

func (a *ActivityLog) insert(e *extent) {
	a.table[e.id] = e
	a.clock = append(a.clock, e)
}

// span is the run of extents that r touches in volume vol.
func span(vol uint16, r block.Range) (first, end extentID) {
	f, e := r.Extents()
	base := extentID(vol) << 48
	return base | extentID(f), base + extentID(e)
}

// Acquire makes the extents of r hot and holds a reference to each until Release. When it returns nil they are durably
// hot; for those that were, it does no I/O. It waits while the limit is reached and every extent is referenced. The
// limit may be passed for a moment by extents that are acquired while they are about to become cold.
func (a *ActivityLog) Acquire(ctx context.Context, vol uint16, r block.Range) error {
	first, end := span(vol, r)
	a.mu.Lock()
	if a.hold(first, end) {
		a.mu.Unlock()
		return nil
	}
	if uint64(end-first) > uint64(a.limit) {
		a.mu.Unlock()
		return fmt.Errorf("activate %v of volume %d: %d extents, the limit is %d", r, vol, end-first, a.limit)
	}
	d := &hotDemand{first: first, end: end, wake: make(chan struct{}, 1)}
	a.pending = append(a.pending, d)
	defer a.mu.Unlock()
	if err := a.await(ctx, d); err != nil {
		return fmt.Errorf("activate %v of volume %d: %w", r, vol, err)
	}
	return nil
}

// hold takes a reference to each extent if all are hot.
func (a *ActivityLog) hold(first, end extentID) bool {
	if end == first+1 { // nearly always
		e := a.table[first]
		if e == nil || e.state == extentRising {
			return false
		}
		a.ref(e)
		return true
	}
	for id := first; id < end; id++ {
		if e := a.table[id]; e == nil || e.state == extentRising {
			return false
		}
	}
	for id := first; id < end; id++ {
		a.ref(a.table[id])
	}
	return true
}

func (a *ActivityLog) ref(e *extent) {
	if e.refs == 0 {
		a.pinned++
	}
	e.refs++
	e.used = true
	if e.state == extentCooling {
		e.state = extentHot
	}
}

// await waits until d is served, serving all while nobody else does. mu is held on entry and on return.
func (a *ActivityLog) await(ctx context.Context, d *hotDemand) error {
	for !d.done {
		cancel := ctx.Done()
		if d.admitted {
			cancel = nil // its commit is under way
		} else {
			if err := a.s.usable(); err != nil {
				a.withdraw(d)
				return err
			}
			if !a.leading && a.serve() {
				continue
			}
		}
		a.mu.Unlock()
		cancelled := false
		select {
		case <-d.wake:
		case <-cancel:
			cancelled = true
		}
		a.mu.Lock()
		if cancelled && !d.admitted && !d.done {
			a.withdraw(d)
			return ctx.Err()
		}
	}
	return d.err
}

// withdraw takes a demand back that was not admitted.
func (a *ActivityLog) withdraw(d *hotDemand) {
	if i := slices.Index(a.pending, d); i >= 0 {
		a.pending = slices.Delete(a.pending, i, i+1)
	}
	a.wakeHead()
}

// wakeHead lets the first demand serve, unless somebody does.
func (a *ActivityLog) wakeHead() {
	if len(a.pending) > 0 && !a.leading {
		a.pending[0].signal()
	}
}

func (a *ActivityLog) wakeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.pending {
		d.signal()
	}
}

// Release gives the references of an Acquire back.
func (a *ActivityLog) Release(vol uint16, r block.Range) {
	first, end := span(vol, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unref(first, end)
	a.wakeHead()
}

func (a *ActivityLog) unref(first, end extentID) {
	for id := first; id < end; id++ {
		e := a.table[id]
		if e == nil || e.refs == 0 {
			panic(fmt.Sprintf("journal: extent %d of volume %d released without being held", uint64(id)<<16>>16, id>>48))
		}
		if e.refs--; e.refs == 0 {
			a.pinned--
		}
	}
}

// Hot calls fn for every hot extent, in order: after a crash, those that were hot when it happened. The last one of a
// volume may reach beyond its end.
func (a *ActivityLog) Hot(fn func(vol uint16, r block.Range) error) error {
	if err := a.s.usable(); err != nil {
		return err
	}
	a.mu.Lock()
	ids := slices.Sorted(maps.Keys(a.table))
	a.mu.Unlock()
	for _, id := range ids {
		off := int64(uint64(id)<<16>>16) * block.ExtentSize
		if err := fn(uint16(id>>48), block.Range{Off: off, Len: block.ExtentSize}); err != nil {
			return err
		}
	}
	return nil
}

// Len is the number of extents that are hot, or about to be.
func (a *ActivityLog) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.table)
}

// Updates counts the commits of the activity log: al: in DRBD's status.
func (a *ActivityLog) Updates() uint64 { return a.updates.Load() }
