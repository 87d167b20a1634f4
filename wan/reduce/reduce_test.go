package reduce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

const modelSize = 64 << 10

// model is the contents of two volumes, applied to byte by byte.
type model [2][]byte

func newModel() *model {
	m := &model{make([]byte, modelSize), make([]byte, modelSize)}
	for v := range m {
		for i := range m[v] {
			m[v][i] = 0xee // so that a zero that is not applied shows
		}
	}
	return m
}

func (m *model) apply(recs []block.Record) {
	for _, r := range recs {
		to := m[r.Volume/255][r.Off : r.Off+int64(r.Len)]
		if r.Kind == block.Write {
			copy(to, r.Data)
		} else {
			clear(to)
		}
	}
}

// randomRecords makes n records that overlap a lot, with zero blocks and unaligned edges among them.
func randomRecords(rng *rand.Rand, n int) []block.Record {
	recs := make([]block.Record, n)
	for i := range recs {
		off := rng.Int64N(modelSize - 1)
		length := 1 + rng.Int64N(min(modelSize-off, 3*block.Size))
		if rng.IntN(3) > 0 {
			off = off / block.Size * block.Size
			length = min((1+rng.Int64N(6))*block.Size, modelSize-off)
		}
		r := block.Record{Seq: block.Seq{Epoch: 7, Num: uint64(10 + i)}, Time: int64(i), Volume: uint16(rng.IntN(2) * 255),
			Kind: block.Kind(1 + rng.IntN(3)), Off: off, Len: uint32(length)}
		if rng.IntN(2) > 0 {
			r.Kind = block.Write
		}
		if r.Kind == block.Write {
			r.Data = randomData(rng, int(length), off)
		}
		recs[i] = r
	}
	return recs
}

// randomData is compressible, random or zero, changing at block boundaries of the volume.
func randomData(rng *rand.Rand, n int, off int64) []byte {
	data := make([]byte, n)
	for i := 0; i < n; {
		end := min(n, i+block.Size-int((off+int64(i))%block.Size))
		switch rng.IntN(3) {
		case 0:
			for j := i; j < end; j++ {
				data[j] = byte(rng.Uint32())
			}
		case 1:
			for j := i; j < end; j++ {
				data[j] = byte('a' + j%7)
			}
		}
		i = end
	}
	return data
}

func mustEncoder(t testing.TB, o Options) *Encoder {
	t.Helper()
	e, err := NewEncoder(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// Applying what comes out of the decoder leaves the volumes as applying the originals does.
func TestUnpackedEqualsOriginals(t *testing.T) {
	dec := mustDecoder(t)
	arena := make([]byte, 0, frame.MaxRaw)
	for codec := frame.CodecRaw; codec <= frame.CodecS2; codec++ {
		for alg := digest.None; alg.Valid(); alg++ {
			for _, fold := range []bool{false, true} {
				o := Options{Codec: codec, Level: int(alg), Digest: alg, Fold: fold}
				t.Run(fmt.Sprintf("%v/%v/%v", codec, alg, fold), func(t *testing.T) {
					enc := mustEncoder(t, o)
					for seed := range uint64(8) {
						checkEqual(t, enc, dec, randomRecords(rand.New(rand.NewPCG(seed, 1)), 1+int(seed*seed)), arena, seed)
					}
				})
			}
		}
	}
}

func checkEqual(t *testing.T, enc *Encoder, dec *Decoder, recs []block.Record, arena []byte, seed uint64) {
	t.Helper()
	prev := block.Seq{Epoch: 7, Num: 3}
	b, err := enc.Batch(prev, recs, []byte("kept"))
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if b.Prev != prev || b.Last != recs[len(recs)-1].Seq || b.Time != recs[0].Time {
		t.Fatalf("seed %d: batch %+v", seed, b)
	}
	m, err := frame.Parse(frame.Append(nil, b))
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	got, err := dec.Batch(m.(*frame.Batch), arena)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	want, have := newModel(), newModel()
	want.apply(recs)
	have.apply(got)
	for v := range want {
		if !bytes.Equal(want[v], have[v]) {
			t.Fatalf("seed %d: volume %d differs", seed, v)
		}
	}
	if enc.opt.Fold {
		checkDisjoint(t, got, seed)
	}
}

// Folded records touch no byte twice: nothing that is overwritten travels.
func checkDisjoint(t *testing.T, recs []block.Record, seed uint64) {
	t.Helper()
	var end int64
	volume := uint16(0)
	for _, r := range recs {
		if r.Volume == volume && r.Off < end || r.Volume < volume {
			t.Fatalf("seed %d: %v of volume %d behind %d of volume %d", seed, r.Range(), r.Volume, end, volume)
		}
		volume, end = r.Volume, r.Range().End()
	}
}

func write(num uint64, off int64, data []byte) block.Record {
	return block.Record{Seq: block.Seq{Epoch: 1, Num: num}, Volume: 0, Kind: block.Write, Off: off, Len: uint32(len(data)), Data: data}
}

func TestFoldingCountsAndJoins(t *testing.T) {
	enc := mustEncoder(t, Options{Digest: digest.CRC32C, Fold: true})
	a, b := bytes.Repeat([]byte{1}, 8192), bytes.Repeat([]byte{2}, 4096)
	recs := []block.Record{
		write(1, 0, a),         // its second half is overwritten
		write(2, 4096, b),      // gone: overwritten by 4
		write(3, 8192, b),      // next to 4: joined with it and 1
		write(4, 4096, b),      //
		write(5, 1<<20, a),     // apart
		write(6, 1<<20, a[1:]), // gone but for the last byte of 5
	}
	got, err := enc.Batch(block.Seq{}, recs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Records != 2 || got.Folded != 1 {
		t.Errorf("%d records, %d folded", got.Records, got.Folded)
	}
	s := enc.Stats()
	want := Stats{Records: 6, Folded: 1, BytesIn: 3*8192 - 1 + 3*4096, BytesFolded: 2*4096 + 8191, BytesPacked: uint64(got.RawLen), BytesOut: uint64(len(got.Payload))}
	if s != want {
		t.Errorf("stats %+v, want %+v", s, want)
	}
}

func TestZeroBlocksAreElided(t *testing.T) {
	enc := mustEncoder(t, Options{Digest: digest.CRC32C, Fold: true})
	dec := mustDecoder(t)
	data := make([]byte, 1<<20)
	data[5*block.Size+7] = 1
	b, err := enc.Batch(block.Seq{}, []block.Record{write(1, 100, data)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Payload) > 3*block.Size {
		t.Errorf("a megabyte with one byte set became %d bytes", len(b.Payload))
	}
	recs, err := dec.Batch(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	kinds := ""
	for _, r := range recs {
		kinds += r.Kind.String() + " "
	}
	if kinds != "write zero write zero write " { // both edges are no whole blocks of the volume
		t.Errorf("records: %s", kinds)
	}
}

// The worst that MaxRecords and MaxData allow stays within what a batch may hold.
func TestWorstCaseFits(t *testing.T) {
	enc := mustEncoder(t, Options{Codec: frame.CodecZstd, Digest: digest.SHA512, Fold: true})
	var recs []block.Record
	rng := rand.New(rand.NewPCG(1, 2))
	big := make([]byte, block.MaxRecord)
	for i := 0; i < len(big); i += 2 * block.Size { // every second block is zeroes
		for j := range block.Size {
			big[i+j] = byte(rng.Uint32())
		}
	}
	for i := range 7 {
		recs = append(recs, write(uint64(i+1), int64(i)<<40, big))
	}
	for i := len(recs); i < MaxRecords; i++ { // far apart, so that no two join, in the middle of non-zero blocks
		r := write(uint64(i+1), int64(i%7)<<40+int64(i)*8192%block.MaxRecord+100, []byte{byte(i) | 1})
		if i%3 == 0 {
			r.Off = int64(i) << 32
		}
		recs = append(recs, r)
	}
	b, err := enc.Batch(block.Seq{}, recs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := frame.Validate(b); err != nil {
		t.Fatal(err)
	}
	if _, err := mustDecoder(t).Batch(b, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records, %d bytes unpacked, %d packed", b.Records, b.RawLen, len(b.Payload))
}

func TestEncoderRefuses(t *testing.T) {
	enc := mustEncoder(t, Options{})
	many := make([]block.Record, MaxRecords+1)
	var heavy []block.Record
	for i := range 9 {
		heavy = append(heavy, write(uint64(i+1), 0, make([]byte, block.MaxRecord)))
	}
	for name, c := range map[string]struct {
		recs []block.Record
		want error
	}{
		"nothing":        {nil, ErrMalformed},
		"too many":       {many, ErrTooLarge},
		"too much":       {heavy, ErrTooLarge},
		"out of order":   {[]block.Record{write(2, 0, []byte("a")), write(1, 0, []byte("a"))}, ErrMalformed},
		"behind nothing": {[]block.Record{{Kind: block.Write, Len: 1, Data: []byte("a")}}, ErrMalformed},
		"kind":           {[]block.Record{{Seq: block.Seq{Num: 1}, Kind: 9, Len: 1}}, ErrMalformed},
		"offset":         {[]block.Record{write(1, -1, []byte("a"))}, ErrMalformed},
		"over the edge":  {[]block.Record{write(1, 1<<63-1, []byte("ab"))}, ErrMalformed},
		"length":         {[]block.Record{{Seq: block.Seq{Epoch: 1}, Kind: block.Write, Len: 2, Data: []byte("a")}}, ErrMalformed},
	} {
		if b, err := enc.Batch(block.Seq{}, c.recs, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	for _, o := range []Options{{Codec: 3}, {Level: 23}, {Level: -1}, {Digest: 8}} {
		if _, err := NewEncoder(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, err := enc.Chunk(1, 0, 0, make([]byte, frame.MaxChunk+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a chunk too long: %v", err)
	}
	if _, err := enc.ZeroChunk(1, 0, 0, 1<<32+1); err == nil {
		t.Error("a chunk of zeroes too long was accepted")
	}
}

// Whatever single bit of a batch is flipped, no wrong data comes out.
func TestFlippedBitsAreFound(t *testing.T) {
	dec := mustDecoder(t)
	recs := randomRecords(rand.New(rand.NewPCG(3, 3)), 12)
	for codec := frame.CodecRaw; codec <= frame.CodecS2; codec++ {
		enc := mustEncoder(t, Options{Codec: codec, Digest: digest.CRC32C, Fold: true})
		b, err := enc.Batch(block.Seq{Epoch: 7}, recs, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := newModel()
		want.apply(recs)
		step := max(1, len(b.Payload)/500)
		for i := 0; i < len(b.Payload); i += step {
			b.Payload[i] ^= 1 << (i % 8)
			got, err := dec.Batch(b, nil)
			b.Payload[i] ^= 1 << (i % 8)
			if err != nil {
				if !errors.Is(err, ErrDigest) && !errors.Is(err, ErrMalformed) {
					t.Fatalf("%v byte %d: %v", codec, i, err)
				}
				continue
			}
			have := newModel()
			have.apply(got) // a bit that the codec does not look at may flip; the data must be right
			if !bytes.Equal(want[0], have[0]) || !bytes.Equal(want[1], have[1]) {
				t.Fatalf("%v: wrong data with bit %d of byte %d flipped", codec, i%8, i)
			}
		}
	}
}

func TestHeadIsDigested(t *testing.T) {
	enc, dec := mustEncoder(t, Options{Digest: digest.XXH3}), mustDecoder(t)
	b, err := enc.Batch(block.Seq{}, []block.Record{write(1, 0, []byte("data"))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*frame.Batch){
		"prev":    func(b *frame.Batch) { b.Prev.Epoch++ },
		"last":    func(b *frame.Batch) { b.Last.Num++ },
		"records": func(b *frame.Batch) { b.Records-- },
	} {
		c := *b
		change(&c)
		if _, err := dec.Batch(&c, nil); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChunks(t *testing.T) {
	dec := mustDecoder(t)
	rng := rand.New(rand.NewPCG(5, 5))
	for codec := frame.CodecRaw; codec <= frame.CodecS2; codec++ {
		enc := mustEncoder(t, Options{Codec: codec, Digest: digest.SHA256})
		for _, n := range []int{1, 4096, 100_000, 1 << 20} {
			data := randomData(rng, n, 0)
			data[0] = 1
			c, err := enc.Chunk(9, 2, 4096, data, nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := frame.Parse(frame.Append(nil, c))
			if err != nil {
				t.Fatal(err)
			}
			got, err := dec.Chunk(m.(*frame.Chunk), nil)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%v, %d bytes: %v", codec, n, err)
			}
			c.Sum[3] ^= 1
			if _, err := dec.Chunk(c, nil); !errors.Is(err, ErrDigest) {
				t.Errorf("%v, %d bytes with another digest: %v", codec, n, err)
			}
		}
		c, err := enc.Chunk(1, 0, 0, make([]byte, 10_000), nil)
		if err != nil || !c.Zero || c.Len != 10_000 || len(c.Data) != 0 {
			t.Errorf("%v: zeroes became %+v, %v", codec, c, err)
		}
		if got, err := dec.Chunk(c, nil); err != nil || got != nil {
			t.Errorf("%v: zeroes came out as %d bytes, %v", codec, len(got), err)
		}
	}
}

func TestRandomDataTravelsRaw(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	data := make([]byte, 1<<20)
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], rng.Uint64())
	}
	for codec := frame.CodecZstd; codec <= frame.CodecS2; codec++ {
		enc := mustEncoder(t, Options{Codec: codec, Digest: digest.CRC32C, Fold: true})
		b, err := enc.Batch(block.Seq{}, []block.Record{write(1, 0, data)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b.Codec != frame.CodecRaw || len(b.Payload) > len(data)+len(data)/1000 {
			t.Errorf("%v: %d bytes as %v", codec, len(b.Payload), b.Codec)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	for codec := frame.CodecRaw; codec <= frame.CodecS2; codec++ {
		enc := mustEncoder(f, Options{Codec: codec, Fold: true})
		b, err := enc.Batch(block.Seq{}, randomRecords(rand.New(rand.NewPCG(1, uint64(codec))), 3), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(codec), uint8(0), b.Records, b.RawLen, b.Payload)
	}
	dec := mustDecoder(f)
	f.Fuzz(func(t *testing.T, codec, alg uint8, records, rawLen uint32, payload []byte) {
		b := &frame.Batch{Last: block.Seq{Num: 1}, Codec: frame.Codec(codec), Digest: alg, Records: records, RawLen: rawLen % (1 << 20), Payload: payload}
		recs, err := dec.Batch(b, nil)
		if err != nil {
			if !errors.Is(err, ErrDigest) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		var data int
		for i := range recs {
			if err := validRecord(&recs[i]); err != nil || recs[i].Len == 0 {
				t.Fatalf("record %d: %v", i, err)
			}
			data += len(recs[i].Data)
		}
		if data > int(b.RawLen) || len(recs) != int(records) {
			t.Fatalf("%d records with %d bytes out of %d records and %d bytes", len(recs), data, records, b.RawLen)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, n := range []int{1, 32, 256} {
		recs := make([]block.Record, n)
		for i := range recs {
			recs[i] = write(uint64(i+1), rng.Int64N(1<<30)/4096*4096, randomData(rng, 4096, 0))
			recs[i].Data[0] = 1
		}
		for codec := frame.CodecRaw; codec <= frame.CodecS2; codec++ {
			b.Run(fmt.Sprintf("%d/%v", n, codec), func(b *testing.B) {
				enc := mustEncoder(b, Options{Codec: codec, Digest: digest.CRC32C, Fold: true})
				dec := mustDecoder(b)
				dst, arena := make([]byte, 0, 2<<20), make([]byte, 0, 2<<20)
				b.SetBytes(int64(n) * 4096)
				b.ReportAllocs()
				for b.Loop() {
					m, err := enc.Batch(block.Seq{}, recs, dst)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := dec.Batch(m, arena); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestStepHasNoRecords(t *testing.T) {
	e, err := NewEncoder(Options{Codec: frame.CodecZstd, Digest: digest.CRC32C, Fold: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	prev, last := block.Seq{Epoch: 1 << 32, Num: 7}, block.Seq{Epoch: 2 << 32, Num: 7}
	b, err := e.Step(prev, last, nil)
	if err != nil {
		t.Fatal(err)
	}
	if recs, err := d.Batch(b, nil); err != nil || len(recs) != 0 || b.Prev != prev || b.Last != last {
		t.Errorf("step %v…%v has %d records: %v", b.Prev, b.Last, len(recs), err)
	}
	if _, err := e.Step(last, last, nil); err == nil {
		t.Error("a step that leads nowhere was packed")
	}
}
