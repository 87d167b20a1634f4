package stamp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

const testSize = 4 << 20

// memory is a volume in memory that keeps its write order: the model of a primary, from which any prefix can be rebuilt.
type memory struct {
	mu    sync.Mutex
	order []change
}

type change struct {
	off  int64
	data []byte
}

func (m *memory) add(off int64, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order = append(m.order, change{off, bytes.Clone(p)})
	return nil
}

func (m *memory) WriteAt(_ context.Context, p []byte, off int64, _ bool) error { return m.add(off, p) }
func (m *memory) Zero(_ context.Context, off, n int64) error                   { return m.add(off, make([]byte, n)) }
func (m *memory) Trim(_ context.Context, off, n int64) error                   { return m.add(off, make([]byte, n)) }
func (m *memory) Flush(context.Context) error                                  { return nil }

// image applies the changes that keep says, in order, over a base.
func (m *memory) image(was []byte, keep func(i int) bool) []byte {
	img := make([]byte, testSize)
	copy(img, was)
	for i, c := range m.order {
		if keep(i) {
			copy(img[c.off:], c.data)
		}
	}
	return img
}

// written runs a load of n requests or a few more against the model.
func written(t *testing.T, seed uint64, n int) (*memory, []Op) {
	t.Helper()
	m, log := &memory{}, NewLog(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := Mixed(Load{Targets: []Target{m}, Size: testSize, Writers: 16, Seed: seed, Log: log})
	l.Large = 0.004
	l.Pace = func(context.Context) error {
		if log.Next() > uint64(n) {
			cancel()
			return errors.New("enough")
		}
		return nil
	}
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return m, log.Ops()
}

func mustCheck(t *testing.T, ops []Op, img []byte, c CheckOptions) *Report {
	t.Helper()
	c.Size = testSize
	r, err := Check(ops, []Image{bytes.NewReader(img)}, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func acknowledged(o *Op) bool { return o.Done != 0 }

func TestEveryPrefixPasses(t *testing.T) {
	m, ops := written(t, 1, 600)
	for n := 0; n <= len(m.order); n += 127 {
		img := m.image(nil, func(i int) bool { return i < n })
		if err := mustCheck(t, ops, img, CheckOptions{Prefix: true}).Err(); err != nil {
			t.Fatalf("prefix of %d: %v", n, err)
		}
	}
	r := mustCheck(t, ops, m.image(nil, func(int) bool { return true }), CheckOptions{Prefix: true, Must: acknowledged})
	if err := r.Err(); err != nil || len(r.Missing) != 0 {
		t.Fatalf("the whole: %v, missing %v", err, r.Missing)
	}
}

func TestPrefixOverABase(t *testing.T) {
	m, ops := written(t, 2, 300)
	was := make([]byte, testSize)
	for i := range was {
		was[i] = byte(mix(uint64(i)))
	}
	for n := 0; n <= len(m.order); n += 89 {
		img := m.image(was, func(i int) bool { return i < n })
		c := CheckOptions{Prefix: true, Base: []Image{bytes.NewReader(was)}}
		if err := mustCheck(t, ops, img, c).Err(); err != nil {
			t.Fatalf("prefix of %d: %v", n, err)
		}
	}
}

// alone reports whether change i writes a stamp that no other change touches, so that leaving it out must show.
func (m *memory) alone(i int) bool {
	c := m.order[i]
	for j, d := range m.order {
		if j != i && d.off < c.off+int64(len(c.data)) && c.off < d.off+int64(len(d.data)) {
			return false
		}
	}
	return !isZero(c.data)
}

// visible finds the newest change up to from that is alone.
func visible(t *testing.T, m *memory, from int) int {
	t.Helper()
	for i := from; i >= 0; i-- {
		if m.alone(i) && len(m.order[i].data) > CellSize {
			return i
		}
	}
	t.Fatal("no visible write in the model")
	return -1
}

func TestPlantedViolations(t *testing.T) {
	m, ops := written(t, 3, 900)
	whole := m.image(nil, func(int) bool { return true })
	drop := visible(t, m, len(m.order)-200)
	at := m.order[drop].off
	for _, c := range []struct {
		name, want string
		img        func() []byte
		o          CheckOptions
	}{
		{"one dropped in the middle", "not a prefix", func() []byte {
			return m.image(nil, func(i int) bool { return i != drop })
		}, CheckOptions{Prefix: true}},
		{"an acknowledged one missing", "is missing", func() []byte {
			return m.image(nil, func(i int) bool { return i != drop })
		}, CheckOptions{Must: acknowledged}},
		{"the tail missing under protocol C", "is missing", func() []byte {
			return m.image(nil, func(i int) bool { return i < len(m.order)-100 })
		}, CheckOptions{Prefix: true, Must: acknowledged}},
		{"a cell torn", "nobody wrote", func() []byte {
			img := bytes.Clone(whole)
			img[at+40] ^= 1
			return img
		}, CheckOptions{Prefix: true}},
		{"a write torn between cells", "is torn", func() []byte {
			img := bytes.Clone(whole)
			clear(img[at+CellSize : at+int64(len(m.order[drop].data))])
			return img
		}, CheckOptions{Prefix: true}},
		{"a block in the wrong place", "nobody wrote", func() []byte {
			img := bytes.Clone(whole)
			to := (at + testSize/2) % testSize &^ (blockSize - 1)
			copy(img[to:to+CellSize], whole[at:at+CellSize])
			return img
		}, CheckOptions{Prefix: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := mustCheck(t, ops, c.img(), c.o).Err()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want a violation with %q, got %v", c.want, err)
			}
		})
	}
}

// script is a log made by hand: each line one operation as cell, cells, begun, done.
func script(kind Kind, lines ...[4]int64) []Op {
	var ops []Op
	for i, l := range lines {
		ops = append(ops, Op{ID: uint64(i + 1), Kind: kind, Cell: l[0], Cells: l[1], Begun: l[2], Done: l[3]})
	}
	return ops
}

func stamped(cells ...uint64) []byte {
	img := make([]byte, testSize)
	for i, id := range cells {
		if id != 0 {
			Fill(img[i*CellSize:(i+1)*CellSize], 0, int64(i), id)
		}
	}
	return img
}

func TestByHand(t *testing.T) {
	apart := script(Write, [4]int64{0, 1, 1, 2}, [4]int64{1, 1, 3, 4})
	concurrent := script(Write, [4]int64{0, 1, 1, 3}, [4]int64{1, 1, 2, 4})
	pair := script(Write, [4]int64{0, 2, 1, 3}, [4]int64{0, 2, 2, 4})
	zeroed := append(script(Write, [4]int64{0, 1, 1, 2}, [4]int64{1, 1, 3, 4}),
		Op{ID: 3, Kind: Zero, Cell: 0, Cells: 1, Begun: 5, Done: 6}, Op{ID: 4, Kind: Write, Cell: 2, Cells: 1, Begun: 7, Done: 8})
	for _, c := range []struct {
		name string
		ops  []Op
		img  []byte
		ok   bool
	}{
		{"second without first", apart, stamped(0, 2), false},
		{"first without second", apart, stamped(1), true},
		{"concurrent, second without first", concurrent, stamped(0, 2), true},
		{"overlapping, first wins", pair, stamped(1, 1), true},
		{"overlapping, interleaved", pair, stamped(1, 2), false},
		{"zeroes explained by a later request", zeroed, stamped(0, 2, 4), true},
		{"zeroes that only an earlier moment explains", zeroed, stamped(0, 0, 4), false},
		{"a zeroing lost before a later write", zeroed, stamped(1, 2, 4), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := mustCheck(t, c.ops, c.img, CheckOptions{Prefix: true}).Err()
			if (err == nil) != c.ok {
				t.Errorf("ok = %v, want %v: %v", err == nil, c.ok, err)
			}
		})
	}
}

func TestSourceOperations(t *testing.T) {
	src := []byte(strings.Repeat("what the user copied in. ", 4000))[:blockSize*20]
	var ops []Op
	for i := range int64(20) {
		ops = append(ops, Op{ID: uint64(i + 1), Kind: Source, Cell: i * blockCells, Cells: blockCells, Begun: 2*i + 1, Done: 2*i + 2})
	}
	img := func(blocks ...int) []byte {
		p := make([]byte, testSize)
		for _, b := range blocks {
			copy(p[b*blockSize:], src[b*blockSize:(b+1)*blockSize])
		}
		return p
	}
	c := CheckOptions{Prefix: true, Source: bytes.NewReader(src)}
	r := mustCheck(t, ops, img(0, 1, 2), c)
	if r.Err() != nil || len(r.Missing) != 17 || r.MissingBytes() != 17*blockSize {
		t.Errorf("the first three: %v, %d missing", r.Err(), len(r.Missing))
	}
	if err := mustCheck(t, ops, img(0, 2), c).Err(); err == nil {
		t.Error("the second block is missing, the third is not: no violation found")
	}
}

func TestFlushed(t *testing.T) {
	ops := []Op{
		{ID: 1, Kind: Write, Begun: 1, Done: 2},
		{ID: 2, Kind: Write, Begun: 3, Done: 6},
		{ID: 3, Kind: Flush, Begun: 4, Done: 7},
		{ID: 4, Kind: Write, Begun: 8, Done: 9, FUA: true},
		{ID: 5, Kind: Write, Begun: 10, Done: 11},
		{ID: 6, Kind: Flush, Begun: 12},
	}
	if got, want := fmt.Sprint(Flushed(ops)), fmt.Sprint(map[uint64]bool{1: true, 4: true}); got != want {
		t.Errorf("Flushed = %v, want %v", got, want)
	}
}

// TestRandomOmissions leaves out random acknowledged writes: each either shows as a violation or is invisible, and never panics.
func TestRandomOmissions(t *testing.T) {
	m, ops := written(t, 4, 500)
	rng := rand.New(rand.NewPCG(5, 5))
	for range 8 {
		drop := rng.IntN(len(m.order) - 60)
		seen := m.alone(drop)
		img := m.image(nil, func(i int) bool { return i != drop })
		if err := mustCheck(t, ops, img, CheckOptions{Prefix: true, Must: acknowledged}).Err(); seen && err == nil {
			t.Fatalf("omission of change %d at %d was not found", drop, m.order[drop].off)
		}
	}
}
