package reduce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

const testCache = 12 << 20

// volumeDisk is a receiver's disk of one volume.
type volumeDisk struct {
	data []byte
	gone bool // it holds something else
}

func (d *volumeDisk) ReadBlocks(volume uint16, blk uint64, p []byte) error {
	off := int(blk) * block.Size
	if volume != 0 || off+len(p) > len(d.data) {
		return errors.New("outside")
	}
	copy(p, d.data[off:])
	if d.gone {
		p[0]++
	}
	return nil
}

func (d *volumeDisk) apply(recs []block.Record) {
	for _, r := range recs {
		to := d.data[r.Off : r.Off+int64(r.Len)]
		if r.Kind == block.Write {
			copy(to, r.Data)
		} else {
			clear(to)
		}
	}
}

// link is an encoder and a decoder, and what is on either side.
type link struct {
	t      testing.TB
	enc    *Encoder
	dec    *Decoder
	disk   *volumeDisk // the receiver's
	want   *volumeDisk // the sender's
	prev   block.Seq
	wire   int
	staged *Decoder // of what was staged, which knows nothing else
}

func newLink(t testing.TB, size int, alg digest.Alg) *link {
	l := &link{t: t, disk: &volumeDisk{data: make([]byte, size)}, want: &volumeDisk{data: make([]byte, size)}}
	l.enc = mustEncoder(t, Options{Codec: frame.CodecZstd, Digest: alg, Fold: true, Delta: true, Dedupe: true, Cache: testCache})
	l.dec, l.staged = mustDecoder(t), mustDecoder(t)
	l.dec.Accept(testCache, l.disk)
	l.enc.Offered(testCache)
	l.gear(3)
	return l
}

func (l *link) gear(level int) {
	if err := l.enc.SetGear(Gear{Codec: frame.CodecZstd, Level: level, Reduce: true}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) dense() {
	if err := l.enc.SetGear(Gear{Codec: frame.CodecZstd, Level: 1, Reduce: true, Dense: true}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) encode(recs ...block.Record) *frame.Batch {
	l.t.Helper()
	for i := range recs {
		recs[i].Seq = block.Seq{Epoch: 1, Num: l.prev.Num + uint64(i) + 1}
	}
	b, err := l.enc.Batch(l.prev, recs, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// receive takes a batch at the other end; what it stages stands alone.
func (l *link) receive(b *frame.Batch) error {
	l.t.Helper()
	recs, err := l.unpack(b)
	if err != nil {
		return err
	}
	l.disk.apply(recs)
	l.prev = b.Last
	l.wire += len(b.Payload)
	return nil
}

func (l *link) unpack(b *frame.Batch) ([]block.Record, error) {
	l.t.Helper()
	if b.Codec != frame.CodecReduced {
		return l.dec.Batch(b, nil)
	}
	plain, recs, err := l.dec.Plain(b, nil)
	if err != nil {
		return nil, err
	}
	Repack(plain, nil)
	m, err := frame.Parse(frame.Append(nil, plain))
	if err != nil {
		l.t.Fatalf("what is to be staged: %v", err)
	}
	again, err := l.staged.Batch(m.(*frame.Batch), nil)
	if err != nil || len(again) != len(recs) {
		l.t.Fatalf("what was staged: %d records instead of %d, %v", len(again), len(recs), err)
	}
	for i := range again {
		if !bytes.Equal(again[i].Data, recs[i].Data) || again[i].Off != recs[i].Off {
			l.t.Fatalf("what was staged differs in record %d", i)
		}
	}
	return recs, nil
}

// send is a batch that arrives.
func (l *link) send(recs ...block.Record) {
	l.t.Helper()
	l.want.apply(recs)
	if err := l.receive(l.encode(recs...)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) check() {
	l.t.Helper()
	if !bytes.Equal(l.disk.data, l.want.data) {
		l.t.Fatal("the disks differ")
	}
}

func at(off int64, data []byte) block.Record {
	return block.Record{Kind: block.Write, Off: off, Len: uint32(len(data)), Data: data}
}

func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, n+7)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rng.Uint64())
	}
	return p[:n]
}

func TestDifferenceToARecentBlock(t *testing.T) {
	l := newLink(t, 1<<20, digest.CRC32C)
	page := noise(rand.New(rand.NewPCG(1, 1)), 2*block.Size)
	l.send(at(8192, page))
	for i := range 20 {
		page[100+i*200]++
		l.wire = 0
		l.send(at(8192, page))
		if l.wire > 100 {
			t.Errorf("a byte changed in 8192: %d bytes", l.wire)
		}
	}
	moved := append(noise(rand.New(rand.NewPCG(2, 1)), 9), page[:block.Size-9]...) // shifted by nine bytes
	l.wire = 0
	l.send(at(8192, moved))
	if l.wire > 120 {
		t.Errorf("a block that moved by nine bytes: %d bytes", l.wire)
	}
	l.wire = 0
	l.send(at(65536+512, page[512:1024]), at(8192+512, page[:512])) // parts of blocks, one of them known
	if l.wire > 700 {
		t.Errorf("a part of a block: %d bytes", l.wire)
	}
	l.check()
}

func TestReferenceToTheDisk(t *testing.T) {
	const files = 8 << 20 // more than the cache holds
	l := newLink(t, 2*files, digest.XXH3)
	rng := rand.New(rand.NewPCG(3, 3))
	for off := int64(0); off < files; off += 1 << 20 {
		l.send(at(off, noise(rng, 1<<20)))
	}
	l.enc.Applied(l.prev.Num)
	l.wire = 0
	for off := int64(0); off < files; off += 1 << 20 {
		l.send(at(files+off, bytes.Clone(l.want.data[off:off+1<<20])))
	}
	if l.wire > files/1000 {
		t.Errorf("a copy of %d bytes took %d", files, l.wire)
	}
	l.check()

	page := bytes.Clone(l.want.data[files/2 : files/2+block.Size]) // its base is on the disk alone
	page[77]++
	l.enc.Applied(l.prev.Num)
	l.wire = 0
	l.send(at(files/2, page))
	if l.wire > 300 {
		t.Errorf("a byte changed in an old block: %d bytes", l.wire)
	}
	l.check()
}

// A block that is overwritten, or not applied yet, is not referred to.
func TestNoReferenceToWhatMayNotBeThere(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	data := noise(rng, block.Size)
	p := newPlaces(1 << 20)
	sum := contentSum(data)
	p.wrote(blockKey(0, 7), sum, 10, data)
	if _, ok := p.find(sum, 9); ok {
		t.Error("not applied yet")
	}
	if key, ok := p.find(sum, 10); !ok || key != blockKey(0, 7) {
		t.Error("not found")
	}
	p.touched(blockKey(0, 7), 11, 100, 1)
	if _, ok := p.find(sum, 20); ok {
		t.Error("a byte of it changed")
	}
	if s := p.block(blockKey(0, 7)); s == nil || s.pieces[100/pieceSize] != 0 || s.pieces[3000/pieceSize] == 0 {
		t.Error("all of the block is forgotten, or what changed is not")
	}
	p.wrote(blockKey(0, 7), sum, 12, data)
	p.cleared(0, block.Range{Off: 7*block.Size + 5, Len: 1})
	if _, ok := p.find(sum, 20); ok {
		t.Error("it became zeroes")
	}
	p.wrote(blockKey(0, 7), sum, 13, data)
	p.cleared(0, block.Range{Len: 1 << 40})
	if _, ok := p.find(sum, 20); ok {
		t.Error("all of the volume became zeroes")
	}
}

// A receiver that does not have what a batch builds on says so, and the batch arrives when it is packed anew.
func TestMissed(t *testing.T) {
	l := newLink(t, 1<<20, digest.CRC32C)
	rng := rand.New(rand.NewPCG(5, 5))
	a := noise(rng, block.Size)
	l.send(at(0, a))
	lost := l.encode(at(0, noise(rng, block.Size)))
	l.prev = lost.Last
	next := l.encode(at(4096, a))
	if err := l.receive(next); !errors.Is(err, ErrCache) {
		t.Fatalf("a batch behind one that was lost: %v", err)
	}
	if err := l.receive(l.encode(at(4096, a))); !errors.Is(err, ErrCache) {
		t.Fatalf("another one: %v", err)
	}
	l.enc.Forget()
	l.prev.Num += 9
	l.send(at(4096, a), at(0, a))
	l.send(at(4096, a))

	l.enc.Applied(l.prev.Num)
	l.disk.gone = true
	b := l.encode(at(8192, a))
	if err := l.receive(b); !errors.Is(err, ErrCache) {
		t.Fatalf("a reference to what is not there: %v", err)
	}
	l.enc.Missed()
	l.send(at(8192, a))
	l.enc.Applied(l.prev.Num)
	l.send(at(12288, a)) // not by reference: those are given up for a while
	if l.enc.red.mute == 0 {
		t.Error("references are tried again at once")
	}
}

func TestReducedRandomly(t *testing.T) {
	const size = 4 << 20
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 6))
		l := newLink(t, size, []digest.Alg{digest.CRC32C, digest.None, digest.SHA256}[seed%3])
		for range 100 {
			recs := make([]block.Record, 1+rng.IntN(12))
			for i := range recs {
				recs[i] = l.randomRecord(rng, size)
			}
			switch rng.IntN(12) {
			case 0:
				l.gear(1 + rng.IntN(9))
			case 5, 6:
				l.dense()
			case 1:
				l.enc.Forget()
			case 2: // for a while nothing is reduced
				if err := l.enc.SetGear(Gear{Codec: frame.Codec(rng.IntN(3)), Level: 1}); err != nil {
					t.Fatal(err)
				}
			case 3:
				l.gear(3)
			case 4:
				l.enc.Applied(l.prev.Num)
			}
			l.send(recs...)
		}
		l.check()
	}
}

// randomRecord writes new data, or what is somewhere already, a little changed, or clears a range.
func (l *link) randomRecord(rng *rand.Rand, size int) block.Record {
	n := (1 + rng.IntN(5)) * block.Size
	if rng.IntN(4) == 0 {
		n = 1 + rng.IntN(3*block.Size)
	}
	off := rng.IntN(size - n)
	if rng.IntN(4) > 0 {
		off = off / block.Size * block.Size
	}
	data := make([]byte, n)
	from := rng.IntN(size-n) / block.Size * block.Size
	switch rng.IntN(6) {
	case 0:
		return block.Record{Kind: block.Kind(2 + rng.IntN(2)), Off: int64(off), Len: uint32(n)}
	case 1:
		copy(data, noise(rng, n))
	case 2:
		copy(data, l.want.data[from:])
	case 3:
		copy(data, l.want.data[from+rng.IntN(50):])
	default:
		copy(data, l.want.data[off:])
		for range rng.IntN(30) {
			data[rng.IntN(n)]++
		}
	}
	return at(int64(off), data)
}

// Data that does not shrink costs little: neither in bytes nor in attempts.
func TestNoiseCostsLittle(t *testing.T) {
	t.Run("more", func(t *testing.T) { noiseCostsLittle(t, (*link).gear3) })
	t.Run("most", func(t *testing.T) { noiseCostsLittle(t, (*link).dense) })
}

func (l *link) gear3() { l.gear(3) }

func noiseCostsLittle(t *testing.T, gear func(*link)) {
	l := newLink(t, 8<<20, digest.CRC32C)
	gear(l)
	rng := rand.New(rand.NewPCG(8, 8))
	total := 0
	for off := 0; off < 8<<20; off += 256 << 10 {
		l.send(at(int64(off), noise(rng, 256<<10)))
		total += 256 << 10
	}
	if l.wire > total+total/500 {
		t.Errorf("%d bytes for %d", l.wire, total)
	}
	l.check()
}

// Thousands of tiny records, of which none is like another, may take more than their plain form: then that is sent.
func TestTinyRecords(t *testing.T) {
	l := newLink(t, 8<<20, digest.None)
	rng := rand.New(rand.NewPCG(11, 11))
	plain := 0
	for round := range 4 {
		recs := make([]block.Record, 2000)
		for i := range recs {
			n := 1 + rng.IntN(3)
			recs[i] = at(int64(i)*4096+int64(rng.IntN(4000)), noise(rng, n))
		}
		b := l.encode(recs...)
		if err := frame.Validate(b); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if b.Codec != frame.CodecReduced {
			plain++
		}
		l.want.apply(recs)
		if err := l.receive(b); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		l.send(at(4096, noise(rng, 8192)))
	}
	l.check()
	t.Logf("%d of 4 were plain", plain)
}

// Both caches do the same with the same calls.
func TestCachesStayInStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	a, b := newCache(minSlots), newCache(minSlots)
	content := func(c *cache, key uint64) []byte { return c.content(c.find(key)) }
	for i := range 20 * minSlots {
		key := blockKey(0, uint64(rng.IntN(3*minSlots)))
		data := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, block.Size/2)
		at := 0
		if rng.IntN(3) == 0 {
			at, data = 100, data[:200]
		}
		sa, sb := a.put(key, at, data), b.put(key, at, data)
		if sa != sb {
			t.Fatalf("slots %d and %d", sa, sb)
		}
		if sa >= 0 && rng.IntN(4) == 0 {
			a.touch(sa)
			b.touch(sb)
		}
		if sa >= 0 && !bytes.Equal(content(a, key), content(b, key)) {
			t.Fatal("contents differ")
		}
	}
	if a.slots() != minSlots || a.count[listRecent]+a.count[listProven] != minSlots || a.count[listProven] > a.proven || len(a.where) != minSlots {
		t.Errorf("%d slots, %v by list, %d known", a.slots(), a.count, len(a.where))
	}
}

func TestSlots(t *testing.T) {
	if n := SlotsFor(1 << 20); n != 0 {
		t.Errorf("1 MiB: %d", n)
	}
	if n := SlotsFor(64 << 20); n != 6144 {
		t.Errorf("64 MiB: %d", n)
	}
	if n := SlotsFor(1 << 40); n != maxSlots {
		t.Errorf("1 TiB: %d", n)
	}
	enc := mustEncoder(t, Options{Codec: frame.CodecZstd, Delta: true, Cache: testCache})
	if enc.Offered(1 << 20); enc.slots != 0 {
		t.Error("a small offer was taken")
	}
}

func FuzzPlain(f *testing.F) {
	l := newLink(f, 1<<20, digest.CRC32C)
	rng := rand.New(rand.NewPCG(10, 10))
	page := noise(rng, 2*block.Size)
	seeds := []*frame.Batch{l.encode(at(0, page))}
	l.prev = seeds[0].Last
	page[50]++
	l.enc.Applied(l.prev.Num)
	seeds = append(seeds, l.encode(at(0, page), at(16384, page[:4096]), at(30000, page[:999])))
	l.dense()
	l.enc.Forget()
	seeds = append(seeds, l.encode(at(0, page), at(16384, page[:4096]), at(30000, page[:999])))
	for _, b := range seeds {
		f.Add(b.Records, b.RawLen, b.Payload)
	}
	dec := mustDecoder(f)
	f.Fuzz(func(t *testing.T, records, rawLen uint32, payload []byte) {
		dec.Accept(testCache, &volumeDisk{data: make([]byte, 1<<16)})
		b := &frame.Batch{Last: block.Seq{Num: 1}, Codec: frame.CodecReduced, Digest: uint8(digest.CRC32C), Records: records, RawLen: rawLen % (1 << 20), Payload: payload}
		_, recs, err := dec.Plain(b, nil)
		if err != nil {
			if !errors.Is(err, ErrDigest) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrCache) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		for i := range recs {
			if err := validRecord(&recs[i]); err != nil || recs[i].Len == 0 {
				t.Fatalf("record %d: %v", i, err)
			}
		}
	})
}

// FuzzOperations goes past the digest, which a fuzzer cannot: whoever is authenticated can.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{opLiteral}, []byte("x"), int64(0), 1)
	f.Add([]byte{opFree, 4<<opBits | tokSlot, 0, 2}, []byte{}, int64(4096), 4)
	f.Add([]byte{1<<opBits | opDisk, 4}, []byte{}, int64(8192), 8192)
	f.Fuzz(func(t *testing.T, ops, lits []byte, off int64, n int) {
		carryOut(t, expander{ops: ops, lits: lits}, off, n)
	})
}

// carryOut has operations fill a write, whatever comes out of it.
func carryOut(t *testing.T, x expander, off int64, n int) {
	if off < 0 || off > 1<<40 || n < 0 || n > block.MaxRecord {
		return
	}
	x.cache, x.disks = newCache(minSlots), &volumeDisk{data: make([]byte, 1<<16)}
	for i := range uint64(4) {
		x.cache.put(blockKey(0, i), 0, bytes.Repeat([]byte{byte(i)}, block.Size))
	}
	empty := len(x.ops) == 0
	data := make([]byte, n)
	if x.write(0, off, data) == nil && x.end() == nil && n > 0 && empty {
		t.Fatal("something out of nothing")
	}
}
