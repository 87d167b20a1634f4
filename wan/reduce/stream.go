package reduce

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// streamWindow is how far back a batch may refer to earlier ones, in bytes of their bodies. Both ends keep that much.
const streamWindow = 4 << 20

// streamPacker packs bodies as one zstd frame that never ends. It holds no goroutine.
type streamPacker struct {
	level   int // of the next batch
	used    int // of enc
	enc     *zstd.Encoder
	running bool // enc is within a frame
	out     []byte

	hopeless bool // the last body did not shrink
	skipped  int
	sampler  sampler
}

// Write implements io.Writer for the encoder.
func (p *streamPacker) Write(b []byte) (int, error) {
	p.out = append(p.out, b...)
	return len(b), nil
}

// end makes the next body begin a frame.
func (p *streamPacker) end() { p.running = false }

// pack appends body to dst, packed unless that would not pay, and returns the flags that say so.
func (p *streamPacker) pack(dst, body []byte) ([]byte, byte) {
	if p.hopeless && len(body) >= minSampled && p.skipped < maxSkipped && !p.sampler.promising(body) {
		p.skipped++
		return append(dst, body...), 0
	}
	flags := byte(flagPacked)
	if p.enc == nil || p.used != p.level {
		enc, err := zstd.NewWriter(p, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(max(p.level, 1))), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(streamWindow), zstd.WithEncoderCRC(false))
		if err != nil {
			return append(dst, body...), 0 // the options are constants that a test has tried
		}
		p.enc, p.used, p.running = enc, p.level, false
	}
	if !p.running {
		p.enc.Reset(p)
		p.running = true
		flags |= flagBegins
	}
	at := len(dst)
	p.out = dst
	_, err := p.enc.Write(body)
	if err = errors.Join(err, p.enc.Flush()); err != nil {
		p.running = false
		return append(dst[:at], body...), 0
	}
	dst, p.out = p.out, nil
	p.skipped, p.hopeless = 0, !pays(len(dst)-at, len(body))
	return dst, flags
}

// sampler looks at pieces of what is to be packed.
type sampler struct{ sample, trial []byte }

// promising reports whether pieces of data, which is long enough for them, would shrink.
func (s *sampler) promising(data []byte) bool {
	s.sample = spread(s.sample[:0], data)
	if n := s2.MaxEncodedLen(len(s.sample)); cap(s.trial) < n {
		s.trial = make([]byte, n)
	}
	return pays(len(s2.Encode(s.trial[:cap(s.trial)], s.sample)), len(s.sample))
}

// streamUnpacker is the other side of streamPacker.
type streamUnpacker struct {
	dec     *zstd.Decoder
	running bool
	in      []byte
}

var errMoreWanted = errors.New("packed bytes end early")

// Read implements io.Reader for the decoder: what is there of the batch at work, and not a byte of the next.
func (u *streamUnpacker) Read(p []byte) (int, error) {
	if len(u.in) == 0 {
		return 0, errMoreWanted
	}
	n := copy(p, u.in)
	u.in = u.in[n:]
	return n, nil
}

func (u *streamUnpacker) end() { u.running = false }

func (u *streamUnpacker) close() {
	if u.dec != nil {
		u.dec.Close()
	}
}

// unpack returns the body of n bytes that packed holds, in buf where that has room.
func (u *streamUnpacker) unpack(buf, packed []byte, flags byte, n int) ([]byte, error) {
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if flags&flagPacked == 0 {
		if len(packed) != n {
			return buf, fmt.Errorf("%d bytes instead of %d", len(packed), n)
		}
		copy(buf, packed)
		return buf, nil
	}
	if u.dec == nil {
		var err error
		if u.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(streamWindow), zstd.WithDecoderMaxMemory(1<<62)); err != nil {
			return buf, fmt.Errorf("set up zstd: %w", err)
		}
	}
	u.in = packed
	if flags&flagBegins != 0 {
		if err := u.dec.Reset(u); err != nil {
			u.running = false
			return buf, err
		}
		u.running = true
	}
	if !u.running {
		return buf, errors.New("a piece of a frame that never began")
	}
	_, err := io.ReadFull(u.dec, buf)
	if err == nil && len(u.in) > 0 {
		err = fmt.Errorf("%d packed bytes too many", len(u.in))
	}
	if err != nil {
		u.running = false
	}
	u.in = nil
	return buf, err
}
