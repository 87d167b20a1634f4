package disk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	meterFrom  = 64 << 10 // bytes of a request from which on it tells of the disk's rate rather than of its latency
	meterHalf  = 64 << 20 // bytes after which what was seen before counts half
	meterKnown = 4 << 20  // bytes to be seen before there is a rate
	probePiece = 1 << 20  // bytes read at once in a probe
	probeMost  = 64 << 20 // bytes read by a probe
)

// Meter is a Disk that measures itself: how many bytes large requests move while at least one of them is under way.
type Meter struct {
	Disk
	reads, writes busy
	unsynced      atomic.Int64 // bytes of large writes since the last sync
}

// busy is the rate of one kind of request.
type busy struct {
	mu     sync.Mutex
	inside int
	since  time.Time // when inside became 1
	bytes  float64   // seen, older ones fading
	spent  float64   // seconds in which they were moved
}

// Metered makes a disk measure itself.
func Metered(d Disk) *Meter { return &Meter{Disk: d} }

func (b *busy) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inside++; b.inside == 1 {
		b.since = time.Now()
	}
}

// leave ends a request that moved n bytes.
func (b *busy) leave(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.spent += now.Sub(b.since).Seconds()
	b.since = now
	b.inside--
	if b.bytes += float64(n); b.bytes > 2*meterHalf {
		b.bytes, b.spent = b.bytes/2, b.spent/2
	}
}

func (b *busy) rate() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes < meterKnown || b.spent <= 0 {
		return 0
	}
	return int64(b.bytes / b.spent)
}

// ReadAt implements Disk.
func (m *Meter) ReadAt(p []byte, off int64) error {
	if len(p) < meterFrom {
		return m.Disk.ReadAt(p, off)
	}
	m.reads.enter()
	err := m.Disk.ReadAt(p, off)
	m.reads.leave(len(p))
	return err
}

// WriteAt implements Disk.
func (m *Meter) WriteAt(p []byte, off int64) error {
	if len(p) < meterFrom {
		return m.Disk.WriteAt(p, off)
	}
	m.writes.enter()
	err := m.Disk.WriteAt(p, off)
	m.writes.leave(len(p))
	m.unsynced.Add(int64(len(p)))
	return err
}

// Sync implements Disk. Where there was much to carry, its time is part of what the writes took: they may have gone to memory only.
// Where there was little it tells of latency.
func (m *Meter) Sync() error {
	if m.unsynced.Swap(0) < meterKnown {
		return m.Disk.Sync()
	}
	m.writes.enter()
	err := m.Disk.Sync()
	m.writes.leave(0)
	return err
}

// Rate is what the disk moves, in bytes a second: the slower of reading and writing, of what was seen; 0 while nothing was.
func (m *Meter) Rate() int64 {
	r, w := m.reads.rate(), m.writes.rate()
	if r == 0 || w > 0 && w < r {
		return w
	}
	return r
}

// Probe reads for about so long at places spread over the disk, so that there is a rate. Holes tell nothing and are left out.
func (m *Meter) Probe(lasting time.Duration) error {
	size := m.Size()
	pieces := min(size, probeMost) / probePiece
	buf := make([]byte, probePiece)
	end := time.Now().Add(lasting)
	for i := int64(0); i < pieces && time.Now().Before(end); i++ {
		off := size / pieces * i / probePiece * probePiece
		segments, err := m.Segments(off, probePiece)
		if err == nil && len(segments) > 0 && segments[0].Hole {
			continue
		}
		if err := m.ReadAt(buf, off); err != nil {
			return fmt.Errorf("probe disk at %d: %w", off, err)
		}
	}
	return nil
}
