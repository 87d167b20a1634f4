package reduce

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
)

// pages is what a database writes: records of 128 bytes that differ in a few, between noise and runs.
func pages(rng *rand.Rand, n int) []byte {
	out := make([]byte, 0, n+4096)
	rec := make([]byte, 128)
	for i := range rec[40:] {
		rec[40+i] = ' '
	}
	for len(out) < n {
		switch rng.IntN(40) {
		case 0:
			for range rng.IntN(200) {
				out = append(out, byte(rng.Uint32()))
			}
		case 1:
			out = append(out, make([]byte, rng.IntN(3000))...)
		case 2:
			if len(out) > 5000 {
				at := rng.IntN(len(out) - 4096)
				out = append(out, out[at:at+rng.IntN(4096)]...)
			}
		default:
			rec[4+rng.IntN(36)] = byte(rng.Uint32())
			out = append(out, rec...)
		}
	}
	return out[:n]
}

func TestDenseRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	enc, dec := &denseEncoder{}, &denseDecoder{}
	enc.reset()
	dec.reset()
	raw, packed := 0, 0
	for i := range 60 {
		n := []int{0, 1, 2, 5, 100, 4096, 30000, 300000}[rng.IntN(8)]
		if i == 30 {
			n = 4*denseWindow + 12345
		}
		body := pages(rng, n)
		enc.begin()
		seen := pages(rng, rng.IntN(5000)+1)
		enc.show(seen, i%2 == 0)
		enc.add(body[:n/3])
		enc.add(body[n/3:])
		out := enc.end([]byte("front"))
		if !bytes.HasPrefix(out, []byte("front")) {
			t.Fatal("what stood there is gone")
		}
		got := make([]byte, n)
		dec.begin(out[5:])
		dec.show(seen, i%2 == 0)
		if err := errors.Join(dec.read(got[:n/3]), dec.read(got[n/3:]), dec.end()); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("body %d of %d bytes: %v", i, n, err)
		}
		raw, packed = raw+n, packed+len(out)-5
	}
	t.Logf("%d bytes as %d", raw, packed)
	if packed*4 > raw {
		t.Errorf("%d bytes as %d", raw, packed)
	}
}

// A block that changes a little takes a few bytes, wherever it was seen; one that has moved too.
func TestDenseDifferences(t *testing.T) {
	l := newLink(t, 64<<20, digest.CRC32C)
	l.dense()
	rng := rand.New(rand.NewPCG(3, 4))
	page := noise(rng, block.Size)
	l.send(at(0, page))
	for i := range 600 { // more than the window
		l.send(at(int64(i+1)*block.Size, noise(rng, block.Size)))
	}
	before := l.wire
	page[100]++
	l.send(at(0, page))
	if n := l.wire - before; n > 120 {
		t.Errorf("a changed byte takes %d bytes", n)
	}
	for i := range 600 {
		l.send(at(int64(i+1)*block.Size, noise(rng, block.Size)))
	}
	before = l.wire
	moved := append(noise(rng, 100), page[:block.Size-100]...)
	l.send(at(30<<20, moved))
	if n := l.wire - before; n > 400 {
		t.Errorf("a block that has moved by 100 bytes takes %d bytes", n)
	}
	l.check()
}

// Whatever is wrong with a dense batch, it is refused, and the next generation is taken.
func TestDenseTampered(t *testing.T) {
	l := newLink(t, 4<<20, digest.CRC32C)
	l.dense()
	rng := rand.New(rand.NewPCG(5, 6))
	page := pages(rng, 3*block.Size)
	l.send(at(0, page))
	page[5000]++
	const front = 7 // whatever number a generation has, it begins; what follows that is checked
	for i := front; ; i += 3 {
		l.enc.Forget()
		b := l.encode(at(block.Size, page[block.Size:]))
		if i >= len(b.Payload) {
			break
		}
		b.Payload = bytes.Clone(b.Payload)
		b.Payload[i] ^= byte(1 + rng.IntN(255))
		if _, _, err := l.dec.Plain(b, nil); err == nil {
			t.Fatalf("byte %d of %d was changed, and the batch was taken", i, len(b.Payload))
		}
	}
	l.enc.Forget()
	l.send(at(0, page))
	l.check()
}

// FuzzDense goes past everything that checks a payload.
func FuzzDense(f *testing.F) {
	var e denseEncoder
	e.reset()
	e.begin()
	e.add(pages(rand.New(rand.NewPCG(7, 7)), block.Size))
	f.Add([]byte{opLiteral}, e.end(nil), int64(0), block.Size)
	f.Add([]byte{3<<opBits | opPatch, 2}, e.end(nil), int64(0), block.Size)
	f.Add([]byte{opPatchDisk, 50<<opBits | tokBase}, []byte{}, int64(4096), 50)
	f.Fuzz(func(t *testing.T, ops, packed []byte, off int64, n int) {
		var d denseDecoder
		d.reset()
		d.begin(packed)
		carryOut(t, expander{ops: ops, dense: &d}, off, n)
		if len(d.buf) > denseSlide+block.MaxRecord {
			t.Fatalf("%d bytes are kept", len(d.buf))
		}
	})
}
