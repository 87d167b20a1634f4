package disk

import (
	"sync"
	"time"
)

// Op is a set of operations that a fault hits.
type Op uint8

// The operations of a Disk that can fail.
const (
	OpRead Op = 1 << iota
	OpWrite
	OpZero
	OpSync
	OpSegments
	OpAny = OpRead | OpWrite | OpZero | OpSync | OpSegments
)

// Fault is one thing that goes wrong, or slowly.
type Fault struct {
	Ops      Op
	Off, Len int64         // bytes hit; Len 0 means the whole disk. Sync has no range and is hit by any
	Skip     int           // matching calls that are let through first
	Times    int           // calls hit before the fault is spent; 0 means for ever
	From     time.Time     // hit from then on; zero means at once
	Until    time.Time     // and up to then; zero means for ever
	Delay    time.Duration // how long the call takes longer
	Err      error         // what the call returns; nil when it is only slow. A full disk is syscall.ENOSPC
	Torn     bool          // a failing write leaves its first half on the disk
}

// Plan is a set of faults that may change while the disk is in use. The zero value has none.
type Plan struct {
	mu     sync.Mutex
	faults []*Fault
	hits   uint64
}

// Add puts a fault behind those that are there; the first that matches a call hits it.
func (p *Plan) Add(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Clear heals everything.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Hits counts the calls that a fault has hit.
func (p *Plan) Hits() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// hit returns the fault of one call, as it stands now.
func (p *Plan) hit(op Op, off, n int64) Fault {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.faults {
		switch {
		case f.Ops&op == 0,
			f.Len > 0 && op != OpSync && (off >= f.Off+f.Len || off+n <= f.Off),
			!f.From.IsZero() && now.Before(f.From),
			!f.Until.IsZero() && !now.Before(f.Until):
			continue
		case f.Skip > 0:
			f.Skip--
			continue
		}
		p.hits++
		was := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				p.faults = append(p.faults[:i:i], p.faults[i+1:]...)
			}
		}
		return was
	}
	return Fault{}
}

// faulty decorates a disk with the faults of a plan.
type faulty struct {
	Disk
	plan *Plan
}

// Faulty returns d with the faults of plan. Closing it closes d.
func Faulty(d Disk, plan *Plan) Disk { return &faulty{Disk: d, plan: plan} }

// delay waits without holding anything.
func (f Fault) delay() {
	if f.Delay > 0 {
		<-time.After(f.Delay)
	}
}

func (f *faulty) ReadAt(p []byte, off int64) error {
	fault := f.plan.hit(OpRead, off, int64(len(p)))
	fault.delay()
	if fault.Err != nil {
		return fault.Err
	}
	return f.Disk.ReadAt(p, off)
}

func (f *faulty) WriteAt(p []byte, off int64) error {
	fault := f.plan.hit(OpWrite, off, int64(len(p)))
	fault.delay()
	if fault.Err == nil {
		return f.Disk.WriteAt(p, off)
	}
	if fault.Torn {
		if err := f.Disk.WriteAt(p[:len(p)/2], off); err != nil {
			return err
		}
	}
	return fault.Err
}

func (f *faulty) Zero(off, n int64, punch bool) error {
	fault := f.plan.hit(OpZero, off, n)
	fault.delay()
	if fault.Err != nil {
		return fault.Err
	}
	return f.Disk.Zero(off, n, punch)
}

func (f *faulty) Sync() error {
	fault := f.plan.hit(OpSync, 0, 0)
	fault.delay()
	if fault.Err != nil {
		return fault.Err
	}
	return f.Disk.Sync()
}

func (f *faulty) Segments(off, n int64) ([]Segment, error) {
	fault := f.plan.hit(OpSegments, off, n)
	fault.delay()
	if fault.Err != nil {
		return nil, fault.Err
	}
	return f.Disk.Segments(off, n)
}
