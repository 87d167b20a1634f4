package journal

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

const gib = int64(1) << 30

// model is a bitmap as a slice of bools.
type model struct {
	bits []bool
	size int64
}

func newModel(size int64) *model {
	return &model{bits: make([]bool, (size+block.Size-1)/block.Size), size: size}
}

func (m *model) count() (n uint64) {
	for _, b := range m.bits {
		if b {
			n++
		}
	}
	return n
}

func (m *model) set(r block.Range) {
	first, end := r.Blocks()
	for i := first; i < min(end, uint64(len(m.bits))); i++ {
		m.bits[i] = true
	}
}

func (m *model) clear(r block.Range) {
	for i := range m.bits {
		first, end := int64(i)*block.Size, min(int64(i+1)*block.Size, m.size)
		if first >= r.Off && end <= r.End() {
			m.bits[i] = false
		}
	}
}

func (m *model) resize(size int64) {
	n := int((size + block.Size - 1) / block.Size)
	for len(m.bits) < n {
		m.bits = append(m.bits, false)
	}
	m.bits, m.size = m.bits[:n], size
}

// check compares through every way of reading.
func (m *model) check(t *testing.T, b *Bitmap) {
	t.Helper()
	if b.Count() != m.count() {
		t.Fatalf("count %d, want %d", b.Count(), m.count())
	}
	got := make([]bool, len(m.bits))
	for from := uint64(0); ; {
		first, n, ok := b.Next(from, 100000)
		if !ok {
			break
		}
		for i := first; i < first+n; i++ {
			got[i] = true
		}
		from = first + n
	}
	if !slices.Equal(got, m.bits) {
		t.Fatal("Next yields other bits")
	}
	for p := range b.Pages() {
		page := roaring.New()
		if _, err := page.FromBuffer(b.Page(p)); err != nil || page.IsEmpty() {
			t.Fatalf("page %d: %v", p, err)
		}
		for it := page.Iterator(); it.HasNext(); {
			i := int(p)*PageBlocks + int(it.Next())
			if !got[i] {
				t.Fatalf("page %d has block %d", p, i)
			}
			got[i] = false
		}
	}
	if slices.Contains(got, true) {
		t.Fatal("pages lack bits")
	}
}

// Random operations against the model, with flushes, crashes and opens in between.
func TestBitmapAgainstModel(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		rng := seeded(t, seed)
		fsys := vfs.NewCrashableMem()
		size := gib - rng.Int64N(300<<20)
		s := openMem(t, fsys, Options{})
		b, err := s.Bitmap("bob", 1, size)
		must(t, err)
		m := newModel(size)
		for range 150 {
			r := randomRange(rng, m.size)
			before := m.count()
			switch op := rng.IntN(20); {
			case op < 9:
				m.set(r)
				if n := b.Set(r); n != m.count()-before {
					t.Fatalf("seed %d: set %v: %d new bits, want %d", seed, r, n, m.count()-before)
				}
			case op < 16:
				m.clear(r)
				if n := b.Clear(r); n != before-m.count() {
					t.Fatalf("seed %d: clear %v of %d: %d bits, want %d", seed, r, m.size, n, before-m.count())
				}
			case op == 16:
				size := gib - rng.Int64N(300<<20)
				m.resize(size)
				must(t, b.Resize(size))
			case op == 17 && rng.IntN(4) == 0:
				m.set(block.Range{Len: m.size})
				b.SetAll()
			case op == 18:
				must(t, b.Flush())
			case op == 19:
				must(t, s.FlushBitmaps())
				b.Set(block.Range{Off: rng.Int64N(m.size), Len: 1}) // lost, or not, and then more than the model has
				b.Clear(block.Range{Off: 0, Len: 1})
				fsys = crash(fsys, 0, nil)
				s = openMem(t, fsys, Options{})
				if b, err = s.Bitmap("bob", 1, m.size); err != nil {
					t.Fatal(err)
				}
			}
			if op := rng.IntN(5); op == 0 {
				if b.Contains(r) != m.contains(r) {
					t.Fatalf("seed %d: contains %v: %v", seed, r, !m.contains(r))
				}
			}
		}
		m.check(t, b)
	}
}

func (m *model) contains(r block.Range) bool {
	first, end := r.Blocks()
	end = min(end, uint64(len(m.bits)))
	return slices.Contains(m.bits[min(first, end):end], true)
}

// randomRange is small or large, and sometimes aligned to pages or the end.
func randomRange(rng *rand.Rand, size int64) block.Range {
	off := rng.Int64N(size)
	n := rng.Int64N(size-off) + 1
	switch rng.IntN(4) {
	case 0:
		n = min(n, rng.Int64N(100000)+1)
	case 1:
		off = off / (PageBlocks * block.Size) * (PageBlocks * block.Size)
		n = size - off
	case 2:
		off, n = off/block.Size*block.Size, max(n/block.Size*block.Size, 1)
	}
	return block.Range{Off: off, Len: n}
}

// A crash at any moment leaves no fewer bits than were flushed and set since, less those cleared.
func TestBitmapFlushIsNeverShortOfBits(t *testing.T) {
	for seed := range uint64(8) {
		rng := seeded(t, seed)
		fsys := vfs.NewCrashableMem()
		s := openMem(t, fsys, Options{})
		const size = 2 << 30
		b, err := s.Bitmap("bob", 0, size)
		must(t, err)
		keep := newModel(size) // bits that are never cleared
		done := make(chan struct{})
		go func() { // clears and sets around the others, so that pages change between all three kinds
			defer close(done)
			other := rand.New(rand.NewPCG(seed, 99))
			for range 300 {
				p := other.Int64N(size/(PageBlocks*block.Size)) * PageBlocks * block.Size
				b.Set(block.Range{Off: p, Len: PageBlocks * block.Size})
				b.Clear(block.Range{Off: p + block.Size, Len: (PageBlocks - 1) * block.Size}) // all but its first block
			}
		}()
		for i := range 30 {
			p := rng.Int64N(size / (PageBlocks * block.Size))
			r := block.Range{Off: p * PageBlocks * block.Size, Len: block.Size}
			b.Set(r)
			keep.set(r)
			must(t, b.Flush())
			if i%10 == 9 {
				after := openMem(t, crash(fsys, 50, rng), Options{})
				c, err := after.Bitmap("bob", 0, size)
				must(t, err)
				for k, set := range keep.bits {
					if set && !c.Contains(block.Range{Off: int64(k) * block.Size, Len: 1}) {
						t.Fatalf("seed %d: block %d was flushed and is gone", seed, k)
					}
				}
			}
		}
		<-done
	}
}

func TestBitmapMergeRefusesWhatIsNoPage(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	const size = PageBlocks*block.Size + 10*block.Size - 1 // page 1 has ten blocks
	b, err := s.Bitmap("bob", 0, size)
	must(t, err)
	enc := func(values ...uint32) []byte {
		raw, err := roaring.BitmapOf(values...).ToBytes()
		must(t, err)
		return raw
	}
	must(t, b.Merge(1, enc(0, 3, 9)))
	must(t, b.Merge(0, enc()))
	if b.Count() != 3 || !b.Contains(block.Range{Off: (PageBlocks + 9) * block.Size, Len: 1}) {
		t.Errorf("merged: %d bits", b.Count())
	}
	full := roaring.New()
	full.AddRange(0, PageBlocks)
	raw, err := full.ToBytes()
	must(t, err)
	must(t, b.Merge(0, raw))
	if b.Count() != PageBlocks+3 {
		t.Errorf("merged a full page: %d bits", b.Count())
	}
	for name, bad := range map[string][]byte{
		"beyond the volume": enc(10), "second container": enc(1, 70000), "no first container": enc(70000),
		"empty": {}, "noise": []byte("this is no bitmap at all"), "too long": make([]byte, MaxPageBytes+1),
		"trailing byte": append(enc(1), 0), "cut short": enc(1, 2, 3)[:19],
	} {
		if err := b.Merge(1, bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Merge(2, enc(0)); err == nil {
		t.Error("merged a page behind the end")
	}
	if b.Count() != PageBlocks+3 {
		t.Errorf("refused pages left bits: %d", b.Count())
	}
}

// heap is the live heap after f, less that before it.
func heap(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func TestBitmapMemory(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	const tib = int64(1) << 40
	var b *Bitmap
	if n := heap(func() {
		var err error
		b, err = s.Bitmap("bob", 0, 64*tib)
		must(t, err)
	}); n > 64<<10 {
		t.Errorf("a clean bitmap of 64 TiB takes %d bytes", n)
	}
	if n := heap(b.SetAll); n > 64<<10 {
		t.Errorf("a full bitmap of 64 TiB takes %d bytes", n)
	}
	if b.Count() != uint64(64*tib/block.Size) {
		t.Errorf("%d bits", b.Count())
	}
	must(t, b.Flush())
	b.ClearAll()
	must(t, b.Flush())
	if b.Count() != 0 {
		t.Errorf("%d bits after clearing", b.Count())
	}
	// The worst case: every other block of 64 GiB.
	worst := roaring.New()
	for i := uint32(0); i < PageBlocks; i += 2 {
		worst.Add(i)
	}
	everyOther, err := worst.ToBytes()
	must(t, err)
	if n := heap(func() {
		for p := range uint32(256) {
			must(t, b.Merge(p, everyOther))
		}
	}); n > 2<<20*105/100 {
		t.Errorf("the worst 64 GiB take %d bytes, 2 MiB is the aim", n)
	}
}

func TestForgetPeer(t *testing.T) {
	fsys := vfs.NewMem()
	s := openMem(t, fsys, Options{})
	for _, peer := range []string{"bob", "bobby", "carol"} {
		b, err := s.Bitmap(peer, 3, gib)
		must(t, err)
		b.Set(block.Range{Off: 5000, Len: 1})
	}
	must(t, s.FlushBitmaps())
	bob, err := s.Bitmap("bob", 3, gib)
	must(t, err)
	must(t, s.ForgetPeer("bob"))
	bob.SetAll()
	must(t, bob.Flush()) // of no effect
	must(t, s.Close())
	s = openMem(t, fsys, Options{})
	for peer, want := range map[string]uint64{"bob": 0, "bobby": 1, "carol": 1} {
		b, err := s.Bitmap(peer, 3, gib)
		must(t, err)
		if b.Count() != want {
			t.Errorf("%s: %d bits, want %d", peer, b.Count(), want)
		}
	}
}

// FuzzDecodePage holds the decoder against the library's: what it accepts means the same there.
func FuzzDecodePage(f *testing.F) {
	for _, add := range []func(*roaring.Bitmap){
		func(*roaring.Bitmap) {},
		func(b *roaring.Bitmap) { b.AddMany([]uint32{1, 2, 77, 65535}) },
		func(b *roaring.Bitmap) { b.AddRange(5, 60000); b.RunOptimize() },
		func(b *roaring.Bitmap) {
			for i := uint32(0); i < PageBlocks; i += 3 {
				b.Add(i)
			}
		},
	} {
		b := roaring.New()
		add(b)
		raw, err := b.ToBytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		runs, err := decodePage(raw)
		if err != nil {
			return
		}
		ours, theirs := roaring.New(), roaring.New()
		end := uint32(0)
		for i, r := range runs {
			if r.first >= r.end || r.end > PageBlocks || (i > 0 && r.first <= end) {
				t.Fatalf("run %d: %v behind %d", i, r, end)
			}
			end = r.end
			ours.AddRange(uint64(r.first), uint64(r.end))
		}
		if _, err := theirs.FromBuffer(raw); err != nil || !ours.Equals(theirs) {
			t.Fatalf("accepted %x: %v", raw, err)
		}
	})
}
