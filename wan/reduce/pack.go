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
)

// packer compresses whole payloads. It holds no goroutine.
type packer struct {
	codec frame.Codec
	best  bool
	zstd  *zstd.Encoder
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
	at := len(dst)
	out := p.compress(dst, raw)
	if n := len(out) - at; n+n/32 < len(raw) {
		return out, p.codec
	}
	return append(out[:at], raw...), frame.CodecRaw
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
