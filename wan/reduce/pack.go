package reduce

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"drship/internal/digest"
	"drship/wan/frame"
)

const (
	zstdWindow = 2 << 20 // bytes; bounds the encoder's memory to about twice that
	minPack    = 128     // shorter payloads are not worth the attempt

	// Where a payload did not shrink, the next ones are sampled before they are packed whole: data that is encrypted or
	// compressed already would cost more processor time here than everything else on its way.
	samples     = 8       // pieces looked at
	sampleBytes = 4 << 10 // of each
	minSampled  = 2 * samples * sampleBytes
	maxSkipped  = 15 // payloads in a row that are sent raw on the word of a sample alone
)

// packer compresses whole payloads. It holds no goroutine.
type packer struct {
	codec frame.Codec
	best  bool
	zstd  *zstd.Encoder

	hopeless bool // the last payload did not shrink
	skipped  int  // payloads sent raw since one was tried whole
	sample   []byte
	trial    []byte
}

func newPacker(o Options) (packer, error) {
	p := packer{codec: o.Codec, best: o.Level > 1}
	if o.Codec != frame.CodecZstd {
		return p, nil
	}
	var err error
	p.zstd, err = zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(max(o.Level, 1))),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderCRC(o.Digest == digest.None))
	if err != nil {
		return p, fmt.Errorf("set up zstd: %w", err)
	}
	return p, nil
}

// pack appends raw to dst, compressed where that saves at least 1/32 of it, and says which it was.
func (p *packer) pack(dst, raw []byte) ([]byte, frame.Codec) {
	if p.codec == frame.CodecRaw || len(raw) < minPack {
		return append(dst, raw...), frame.CodecRaw
	}
	if p.hopeless && len(raw) >= minSampled && p.skipped < maxSkipped && !p.promising(raw) {
		p.skipped++
		return append(dst, raw...), frame.CodecRaw
	}
	at := len(dst)
	out := p.compress(dst, raw)
	p.skipped = 0
	if p.hopeless = !pays(len(out)-at, len(raw)); p.hopeless {
		return append(out[:at], raw...), frame.CodecRaw
	}
	return out, p.codec
}

func pays(packed, raw int) bool { return packed+packed/32 < raw }

// promising reports whether pieces of raw, spread over it, would shrink.
func (p *packer) promising(raw []byte) bool {
	p.sample = spread(p.sample[:0], raw)
	p.trial = p.compress(p.trial[:0], p.sample)
	return pays(len(p.trial), len(p.sample))
}

// spread appends samples of raw, which is long enough for them, to dst.
func spread(dst, raw []byte) []byte {
	for i := range samples {
		at := i * (len(raw) - sampleBytes) / (samples - 1)
		dst = append(dst, raw[at:at+sampleBytes]...)
	}
	return dst
}

func (p *packer) compress(dst, raw []byte) []byte {
	if p.codec == frame.CodecZstd {
		return p.zstd.EncodeAll(raw, dst)
	}
	at, room := len(dst), s2.MaxEncodedLen(len(raw))
	dst = append(dst, make([]byte, room)...)
	if p.best {
		return dst[:at+len(s2.EncodeBetter(dst[at:], raw))]
	}
	return dst[:at+len(s2.Encode(dst[at:], raw))]
}

// unpacker is the other side of packer.
type unpacker struct {
	zstd *zstd.Decoder
}

func newUnpacker() (unpacker, error) {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(frame.MaxRaw),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return unpacker{}, fmt.Errorf("set up zstd: %w", err)
	}
	return unpacker{zstd: d}, nil
}

func (u *unpacker) close() { u.zstd.Close() }

// unpack returns the n bytes that packed holds, in arena where it is large enough; a raw payload is returned itself.
// It never allocates more than n bytes for them.
func (u *unpacker) unpack(codec frame.Codec, packed []byte, n int, arena []byte) ([]byte, error) {
	if codec == frame.CodecRaw {
		if len(packed) != n {
			return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrMalformed, len(packed), n)
		}
		return packed, nil
	}
	if cap(arena) < n {
		arena = make([]byte, n)
	}
	arena = arena[:0:n]
	var out []byte
	var err error
	switch codec {
	case frame.CodecZstd:
		out, err = u.zstd.DecodeAll(packed, arena)
	case frame.CodecS2:
		if have, lenErr := s2.DecodedLen(packed); lenErr != nil || have != n {
			return nil, fmt.Errorf("%w: it unpacks to %d bytes instead of %d", ErrDigest, have, n)
		}
		out, err = s2.Decode(arena[:n], packed)
	default:
		return nil, fmt.Errorf("%w: %v", ErrMalformed, codec)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", ErrDigest, err)
	}
	if len(out) != n {
		return nil, fmt.Errorf("%w: it unpacks to %d bytes instead of %d", ErrDigest, len(out), n)
	}
	return out, nil
}
