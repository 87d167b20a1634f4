package reduce

import "math/bits"

// A range coder in binary decisions: each has a probability that learns from what it was used for (G. N. N. Martin, 1979; the
// carry-propagating form that LZMA made known). A decision that was foreseen costs a small part of a bit.
const (
	probBits  = 12 // of a probability: of the decision 0
	probHalf  = 1 << (probBits - 1)
	probShift = 4       // how fast a probability learns
	rangeTop  = 1 << 24 // below it the next byte is due
	rangeHead = 4       // bytes that the decoder takes before the first decision, and the encoder gives behind the last
)

type prob uint16

// rangeEncoder writes decisions to out.
type rangeEncoder struct {
	low   uint64
	width uint32
	held  byte // the last byte that is ready, but for a carry
	full  int  // bytes 0xff behind it
	begun bool // a byte is held
	out   []byte
}

func (e *rangeEncoder) begin(out []byte) { *e = rangeEncoder{width: 1<<32 - 1, out: out} }

// bit encodes a decision by a probability, which learns from it.
func (e *rangeEncoder) bit(p *prob, b uint32) {
	v := *p
	bound := e.width >> probBits * uint32(v)
	if b == 0 {
		e.width = bound
		*p = v + (1<<probBits-v)>>probShift
	} else {
		e.low += uint64(bound)
		e.width -= bound
		*p = v - v>>probShift
	}
	if e.width < rangeTop {
		e.shift()
	}
}

// direct encodes the n lowest bits of v, each as likely as not.
func (e *rangeEncoder) direct(v uint32, n int) {
	for n--; n >= 0; n-- {
		e.width >>= 1
		if v>>n&1 != 0 {
			e.low += uint64(e.width)
		}
		if e.width < rangeTop {
			e.shift()
		}
	}
}

// shift gives the topmost byte away.
func (e *rangeEncoder) shift() {
	carry := byte(e.low >> 32)
	if top := byte(e.low >> 24); carry != 0 || top != 0xff {
		if e.begun {
			e.out = append(e.out, e.held+carry)
		}
		for ; e.full > 0; e.full-- {
			e.out = append(e.out, 0xff+carry)
		}
		e.held, e.begun = top, true
	} else {
		e.full++
	}
	e.low = e.low << 8 & (1<<32 - 1)
	e.width <<= 8
}

// end gives away what is left and returns the output.
func (e *rangeEncoder) end() []byte {
	for range rangeHead + 1 {
		e.shift()
	}
	return e.out
}

// tree encodes the n lowest bits of v, the highest first, each by what came before it.
func (e *rangeEncoder) tree(probs []prob, v uint32, n int) {
	at := uint32(1)
	for n--; n >= 0; n-- {
		b := v >> n & 1
		e.bit(&probs[at], b)
		at = at<<1 | b
	}
}

// reverse is tree with the lowest bit first.
func (e *rangeEncoder) reverse(probs []prob, v uint32, n int) {
	at := uint32(1)
	for range n {
		b := v & 1
		e.bit(&probs[at], b)
		at = at<<1 | b
		v >>= 1
	}
}

// rangeDecoder reads decisions from in. Behind its end it reads zeroes, and takes note.
type rangeDecoder struct {
	code, width uint32
	in          []byte
	short       bool
}

func (d *rangeDecoder) begin(in []byte) {
	*d = rangeDecoder{width: 1<<32 - 1, in: in}
	for range rangeHead {
		d.code = d.code<<8 | uint32(d.next())
	}
}

func (d *rangeDecoder) next() byte {
	if len(d.in) == 0 {
		d.short = true
		return 0
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b
}

func (d *rangeDecoder) bit(p *prob) uint32 {
	v := *p
	bound := d.width >> probBits * uint32(v)
	var b uint32
	if d.code < bound {
		d.width = bound
		*p = v + (1<<probBits-v)>>probShift
	} else {
		d.code -= bound
		d.width -= bound
		*p = v - v>>probShift
		b = 1
	}
	if d.width < rangeTop {
		d.width <<= 8
		d.code = d.code<<8 | uint32(d.next())
	}
	return b
}

func (d *rangeDecoder) direct(n int) uint32 {
	var v uint32
	for range n {
		d.width >>= 1
		b := uint32(0)
		if d.code >= d.width {
			d.code -= d.width
			b = 1
		}
		v = v<<1 | b
		if d.width < rangeTop {
			d.width <<= 8
			d.code = d.code<<8 | uint32(d.next())
		}
	}
	return v
}

func (d *rangeDecoder) tree(probs []prob, n int) uint32 {
	at := uint32(1)
	for range n {
		at = at<<1 | d.bit(&probs[at])
	}
	return at - 1<<n
}

func (d *rangeDecoder) reverse(probs []prob, n int) uint32 {
	at, v := uint32(1), uint32(0)
	for i := range n {
		b := d.bit(&probs[at])
		at = at<<1 | b
		v |= b << i
	}
	return v
}

// whole reports whether the input is what end has made of the decisions that were taken from it.
func (d *rangeDecoder) whole() bool { return !d.short && len(d.in) == 0 && d.code == 0 }

// slotOf is the number of significant bits of a distance, twice, and the one below the highest.
func slotOf(v uint32) uint32 {
	if v < 4 {
		return v
	}
	n := uint32(bits.Len32(v)) - 1
	return n<<1 | v>>(n-1)&1
}
