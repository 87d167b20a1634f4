package stamp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// Target takes the requests of one connection or several; its methods are called concurrently.
type Target interface {
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	Zero(ctx context.Context, off, n int64) error
	Trim(ctx context.Context, off, n int64) error
	Flush(ctx context.Context) error
}

// Load says what the writers do. Every writer keeps one request in flight, so their number is the queue depth.
type Load struct {
	Targets []Target // one per volume, number = index
	Size    int64    // bytes of each volume that are written to, a multiple of 4096
	Skip    int64    // bytes at the start of volume 0 that are left alone, a multiple of 4096
	Writers int
	Seed    uint64
	Log     *Log
	// Large is the share of writes of 64 KiB…1 MiB, Odd that of writes not aligned to 4 KiB, Clear that of zeroes and
	// trims, Sync that of flushes (and as many FUA writes), Hot that of writes to the first 16 blocks, where they collide.
	Large, Odd, Clear, Sync, Hot float64
	Pace                         func(ctx context.Context) error // called before each request, if set
}

// Mixed returns a load with a bit of everything.
func Mixed(l Load) Load {
	l.Large, l.Odd, l.Clear, l.Sync, l.Hot = 0.02, 0.1, 0.05, 0.03, 0.1
	return l
}

const (
	blockSize    = 4096
	blockCells   = blockSize / CellSize
	hotBlocks    = 16
	largestWrite = 1 << 20
)

// Run writes until ctx ends or a request fails. It returns the first failure, nil where only ctx ended. Requests that were on their
// way when ctx ended are finished first and logged as they came out.
func (l Load) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, l.Writers)
	var wg sync.WaitGroup
	for i := range l.Writers {
		wg.Go(func() {
			w := writer{Load: l, rng: rand.New(rand.NewPCG(l.Seed, uint64(i))), buf: make([]byte, largestWrite)}
			if errs[i] = w.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

type writer struct {
	Load
	rng *rand.Rand
	buf []byte
}

func (w *writer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if w.Pace != nil {
			if err := w.Pace(ctx); err != nil {
				return nil // Pace ends with ctx only
			}
		}
		o := w.next()
		o.ID = w.Log.Begin(o)
		err := w.submit(context.WithoutCancel(ctx), o)
		w.Log.End(o.ID, err)
		if err != nil {
			return fmt.Errorf("%v: %w", o.Kind, err)
		}
	}
	return nil
}

// next draws a request.
func (w *writer) next() Op {
	o := Op{Kind: Write, Volume: uint16(w.rng.IntN(len(w.Targets))), Cells: blockCells}
	low := int64(0)
	if o.Volume == 0 {
		low = w.Skip / blockSize
	}
	high := w.Size / blockSize
	if w.rng.Float64() < w.Hot {
		high = min(high, low+hotBlocks)
	}
	o.Cell = (low + w.rng.Int64N(high-low)) * blockCells
	end := w.Size / CellSize
	draw := w.rng.Float64()
	switch {
	case draw < w.Sync:
		return Op{Kind: Flush, Volume: o.Volume}
	case draw < w.Sync*2:
		o.FUA = true
	case draw < w.Sync*2+w.Clear:
		o.Kind = Zero + Kind(w.rng.IntN(2))
		o.Cells = blockCells * (1 + w.rng.Int64N(64))
	case draw < w.Sync*2+w.Clear+w.Large:
		o.Cells = blockCells * (16 + w.rng.Int64N(largestWrite/blockSize-15))
	case draw < w.Sync*2+w.Clear+w.Large+w.Odd:
		o.Cell += w.rng.Int64N(blockCells)
		o.Cells = 1 + w.rng.Int64N(4*blockCells)
	}
	o.Cells = min(o.Cells, end-o.Cell)
	return o
}

func (w *writer) submit(ctx context.Context, o Op) error {
	t := w.Targets[o.Volume]
	off, n := o.Cell*CellSize, o.Bytes()
	switch o.Kind {
	case Write:
		Fill(w.buf[:n], o.Volume, o.Cell, o.ID)
		return t.WriteAt(ctx, w.buf[:n], off, o.FUA)
	case Zero:
		return t.Zero(ctx, off, n)
	case Trim:
		return t.Trim(ctx, off, n)
	case Flush:
		return t.Flush(ctx)
	}
	return fmt.Errorf("a load does not submit a %v", o.Kind)
}
