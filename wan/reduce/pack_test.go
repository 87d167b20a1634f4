package reduce

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"drship/wan/frame"
)

// TestIncompressibleIsSampled feeds a packer data that does not shrink, then data that does: it stops trying the first and
// takes up the second at once.
func TestIncompressibleIsSampled(t *testing.T) {
	for _, codec := range []frame.Codec{frame.CodecZstd, frame.CodecS2} {
		p, err := newPacker(Options{Codec: codec, Level: 1})
		if err != nil {
			t.Fatal(err)
		}
		noise := make([]byte, 512<<10)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		text := bytes.Repeat([]byte("every block of it shrinks "), 20<<10)
		for i := range maxSkipped + 2 {
			if out, got := p.pack(nil, noise); got != frame.CodecRaw || !bytes.Equal(out, noise) {
				t.Fatalf("%v: noise %d travels as %v", codec, i, got)
			}
			if want := i % (maxSkipped + 1); p.skipped != want {
				t.Fatalf("%v: %d payloads skipped after %d, want %d", codec, p.skipped, i+1, want)
			}
		}
		out, got := p.pack([]byte("head"), text)
		if got != codec || len(out) > len(text)/4 || !bytes.HasPrefix(out, []byte("head")) {
			t.Errorf("%v: text behind noise travels as %v, %d of %d bytes", codec, got, len(out), len(text))
		}
		if p.hopeless {
			t.Errorf("%v: text counts as hopeless", codec)
		}
	}
}
