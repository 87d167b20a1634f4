package nbd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// memory is an export in memory, with knobs to make it misbehave.
type memory struct {
	mu       sync.Mutex
	data     []byte
	readOnly bool
	minBlock uint32
	info     Info
	extents  []Extent // what Extents returns; nil: one run of data

	flushes, trims, zeroes, fuas int
	lastZero                     ZeroOptions

	fail  error                                      // what every call returns
	block func(ctx context.Context, op string) error // called before each operation, without the lock
}

func newMemory(size int) *memory { return &memory{data: make([]byte, size)} }

func (m *memory) Size() int64 { return int64(len(m.data)) }
func (m *memory) BlockSizes() (uint32, uint32, uint32) {
	return max(m.minBlock, 1), 4096, MaxPayload
}
func (m *memory) ReadOnly() bool { return m.readOnly }
func (m *memory) Info() Info     { return m.info }

func (m *memory) begin(ctx context.Context, op string) error {
	if m.block != nil {
		if err := m.block(ctx, op); err != nil {
			return err
		}
	}
	return m.fail
}

func (m *memory) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := m.begin(ctx, "read"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(p, m.data[off:off+int64(len(p))])
	return nil
}

func (m *memory) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if err := m.begin(ctx, "write"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.data[off:off+int64(len(p))], p)
	m.countFUA(fua)
	return nil
}

func (m *memory) countFUA(fua bool) {
	if fua {
		m.fuas++
	}
}

func (m *memory) Zero(ctx context.Context, off, n int64, o ZeroOptions) error {
	if err := m.begin(ctx, "zero"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zeroes++
	m.lastZero = o
	m.countFUA(o.FUA)
	clear(m.data[off : off+n])
	return nil
}

func (m *memory) Trim(ctx context.Context, off, n int64, fua bool) error {
	if err := m.begin(ctx, "trim"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trims++
	m.countFUA(fua)
	clear(m.data[off : off+n])
	return nil
}

func (m *memory) Flush(ctx context.Context) error {
	if err := m.begin(ctx, "flush"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return nil
}

func (m *memory) Extents(ctx context.Context, off, n int64) ([]Extent, error) {
	if err := m.begin(ctx, "extents"); err != nil {
		return nil, err
	}
	if m.extents != nil {
		return m.extents, nil
	}
	return []Extent{{Len: n}}, nil
}

// shelf is a directory of exports by name.
type shelf struct {
	exports map[string]Export
	refuse  map[string]error

	mu             sync.Mutex
	opened, closed int
	client         Client
}

func (d *shelf) Open(_ context.Context, name string, c Client) (Export, func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.client = c
	if err := d.refuse[name]; err != nil {
		return nil, nil, err
	}
	e, ok := d.exports[name]
	if !ok {
		return nil, nil, fmt.Errorf("look up %q: %w", name, ErrUnknown)
	}
	d.opened++
	return e, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.closed++
	}, nil
}

func (d *shelf) List(context.Context) []Info {
	var l []Info
	for name := range d.exports {
		l = append(l, Info{Name: name, Description: "volume " + name})
	}
	return l
}

// file is an export of a file, for measurements and for tests with other programs.
type file struct {
	f    *os.File
	size int64
}

func (e *file) Size() int64                          { return e.size }
func (e *file) BlockSizes() (uint32, uint32, uint32) { return 1, 4096, MaxPayload }
func (e *file) ReadOnly() bool                       { return false }
func (e *file) ReadAt(_ context.Context, p []byte, off int64) error {
	_, err := e.f.ReadAt(p, off)
	return err
}
func (e *file) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	if _, err := e.f.WriteAt(p, off); err != nil || !fua {
		return err
	}
	return e.f.Sync()
}

const (
	fallocKeepSize  = 1
	fallocPunchHole = 2
)

func (e *file) Zero(_ context.Context, off, n int64, o ZeroOptions) error {
	if err := syscall.Fallocate(int(e.f.Fd()), fallocKeepSize|fallocPunchHole, off, n); err != nil {
		return err
	}
	if o.FUA {
		return e.f.Sync()
	}
	return nil
}
func (e *file) Trim(ctx context.Context, off, n int64, fua bool) error {
	return e.Zero(ctx, off, n, ZeroOptions{FUA: fua})
}
func (e *file) Flush(context.Context) error { return e.f.Sync() }

// Extents finds data and holes with lseek.
func (e *file) Extents(_ context.Context, off, n int64) ([]Extent, error) {
	const seekData, seekHole = 3, 4
	var out []Extent
	for end := off + n; off < end && len(out) < maxExtents; {
		data, err := e.f.Seek(off, seekData)
		if err != nil || data > end {
			data = end // no data up to the end
		}
		if data > off {
			out = append(out, Extent{Len: data - off, Hole: true, Zero: true})
			off = data
			continue
		}
		hole, err := e.f.Seek(off, seekHole)
		if err != nil {
			return nil, err
		}
		hole = min(hole, end)
		out = append(out, Extent{Len: hole - off})
		off = hole
	}
	return out, nil
}
