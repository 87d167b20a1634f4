package reduce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// denseDecoder is the end that unpacks. It believes nothing: whatever it reads, it writes no more than it was asked for and reads
// nothing but what it has written.
type denseDecoder struct {
	m   denseModel
	rc  rangeDecoder
	buf []byte // what went before: all that a match can reach, at least
}

func (d *denseDecoder) reset() {
	d.m.reset()
	d.buf = d.buf[:0]
}

// begin takes what end of the other end has made.
func (d *denseDecoder) begin(packed []byte) { d.rc.begin(packed) }

// room makes room for n bytes and returns where they go.
func (d *denseDecoder) room(n int) int {
	if len(d.buf)+n > denseSlide && len(d.buf) > denseWindow {
		d.buf = d.buf[:copy(d.buf, d.buf[len(d.buf)-denseWindow:])]
	}
	at := len(d.buf)
	d.buf = slices.Grow(d.buf, n)[:at+n]
	return at
}

// show is what the other end has shown.
func (d *denseDecoder) show(p []byte, hint bool) {
	copy(d.buf[d.room(len(p)):], p)
	if hint {
		d.m.push(uint32(len(p) - 1))
	}
}

// read fills to with what was added in one piece.
func (d *denseDecoder) read(to []byte) error {
	at := d.room(len(to))
	from := at
	for at < len(d.buf) && !d.rc.short {
		next, err := d.step(at, uint32(at-from)%densePlaces)
		if err != nil {
			return err
		}
		at = next
	}
	if d.rc.short {
		return errShort
	}
	copy(to, d.buf[from:])
	return nil
}

var errShort = errors.New("packed bytes end early")

// end checks that nothing is left.
func (d *denseDecoder) end() error {
	if !d.rc.whole() {
		return errors.New("packed bytes that end elsewhere than what they hold")
	}
	return nil
}

func (d *denseDecoder) step(at int, place uint32) (int, error) {
	m := &d.m
	if d.rc.bit(&m.matched[m.state][m.last()]) == 0 {
		d.literal(at)
		return at + 1, nil
	}
	var n int
	if d.rc.bit(&m.repeats[m.state][m.last()]) == 0 {
		n = d.match(place)
	} else {
		n = d.repeat(place)
	}
	back := int(m.reps[0]) + 1
	if n > len(d.buf)-at || back > at || back > denseWindow {
		return 0, fmt.Errorf("%d bytes from %d bytes back at %d of %d", n, back, at, len(d.buf))
	}
	if back >= n {
		copy(d.buf[at:at+n], d.buf[at-back:])
	} else {
		for i := at; i < at+n; i++ {
			d.buf[i] = d.buf[i-back]
		}
	}
	return at + n, nil
}

func (d *denseDecoder) literal(at int) {
	m := &d.m
	probs := m.literal()
	from := at - int(m.reps[0]) - 1
	if from < 0 {
		d.buf[at] = byte(d.rc.tree(probs[:0x100], 8))
	} else {
		d.buf[at] = byte(d.likely(probs, uint32(d.buf[from])))
	}
	m.state = afterLiteral(m.state)
}

func (d *denseDecoder) likely(probs *[0x300]prob, by uint32) uint32 {
	at, mask := uint32(1), uint32(0x100)
	for range 8 {
		by <<= 1
		bit := d.rc.bit(&probs[mask+by&mask+at])
		at = at<<1 | bit
		if by>>8&1 != bit {
			mask = 0
		}
	}
	return at & 0xff
}

func (d *denseDecoder) match(place uint32) int {
	m := &d.m
	m.state = afterMatch(m.state)
	n := d.length(&m.match, place)
	slot := d.rc.tree(m.slots[lengthKind(n)][:], slotBits)
	dist := slot
	if slot >= 4 {
		low := int(slot>>1) - 1
		dist = (2 | slot&1) << low
		if slot < nearSlots {
			dist += d.rc.reverse(m.nearOf(slot), low)
		} else {
			dist += d.rc.direct(low-alignBits) << alignBits
			dist += d.rc.reverse(m.align[:], alignBits)
		}
	}
	m.push(dist)
	return n
}

func (d *denseDecoder) repeat(place uint32) int {
	m := &d.m
	if d.rc.bit(&m.rep0[m.state][m.last()]) == 0 {
		if d.rc.bit(&m.longer[m.state][place]) == 0 {
			m.state = afterOne(m.state)
			return 1
		}
	} else {
		rep := 1
		if d.rc.bit(&m.rep1[m.state]) != 0 {
			rep = 2 + int(d.rc.bit(&m.rep2[m.state]))
		}
		m.again(rep)
	}
	n := d.length(m.repeatLengths(), place)
	m.paced(n)
	m.state = afterRepeat(m.state)
	return n
}

func (d *denseDecoder) length(l *lengths, place uint32) int {
	if d.rc.bit(&l.choice[0]) == 0 {
		return minDense + int(d.rc.tree(l.low[place][:], 3))
	}
	if d.rc.bit(&l.choice[1]) == 0 {
		return minDense + lowLengths + int(d.rc.tree(l.mid[place][:], 3))
	}
	return minDense + 2*lowLengths + int(d.rc.tree(l.high[:], 8))
}

// denseRestorer is the decoder's half of dense packing.
type denseRestorer struct {
	data, head denseDecoder
	ready      bool
}

// begin returns the n bytes of table and operations of a batch, in buf where that has room, and makes data ready for the rest.
func (r *denseRestorer) begin(buf, packed []byte, flags byte, n int) ([]byte, error) {
	if flags&flagPacked != 0 {
		return buf, errors.New("packed twice")
	}
	if flags&flagBegins != 0 {
		r.data.reset()
		r.head.reset()
		r.ready = true
	}
	if !r.ready {
		return buf, errors.New("a piece of a run that never began")
	}
	r.ready = false // until all of it was unpacked
	size, k := binary.Uvarint(packed)
	if k <= 0 || size > uint64(len(packed)-k) {
		return buf, errShort
	}
	packed = packed[k:]
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	r.head.begin(packed[:size])
	if err := errors.Join(r.head.read(buf), r.head.end()); err != nil {
		return buf, err
	}
	r.data.begin(packed[size:])
	r.ready = true
	return buf, nil
}
