package reduce

import "encoding/binary"

const (
	denseHashBits = 17
	denseSlide    = 2 * denseWindow // bytes kept from where on the window moves
	denseRestart  = 1 << 30         // bytes after which everything begins anew: places have 32 bits
	niceLength    = 96              // a match of so many bytes is not worth a further look
	sparseNotes   = 64              // of a match this long only every fourth place is noted: it stands elsewhere already
)

// denseEncoder is the end that packs. It holds no goroutine. What is to be packed is gathered first, with begin, show and add, and
// packed by end.
type denseEncoder struct {
	m     denseModel
	rc    rangeEncoder
	buf   []byte   // what went before, and what is gathered
	first uint32   // place of buf[0]
	heads []uint32 // by hash of four bytes: the last place that has it + 1
	parts []densePart
	added int // bytes, since begin
}

// densePart is a run of bytes in buf.
type densePart struct {
	from, to int
	shown    bool // the other end has them already
	hint     bool // what follows is much like them
}

func (e *denseEncoder) reset() {
	e.m.reset()
	if e.heads == nil {
		e.heads = make([]uint32, 1<<denseHashBits)
	}
	clear(e.heads)
	e.buf, e.first = e.buf[:0], 0
}

// spent says that reset is due.
func (e *denseEncoder) spent() bool { return int(e.first)+len(e.buf) > denseRestart }

// place is where the next byte goes, counted from the last reset.
func (e *denseEncoder) place() int { return int(e.first) + len(e.buf) }

// gathered is how much of the batch at work is in buf, shown and added.
func (e *denseEncoder) gathered() int {
	if len(e.parts) == 0 {
		return 0
	}
	return len(e.buf) - e.parts[0].from
}

// begin drops what no match can reach.
func (e *denseEncoder) begin() {
	e.parts, e.added = e.parts[:0], 0
	if len(e.buf) >= denseSlide {
		dropped := len(e.buf) - denseWindow
		e.buf = e.buf[:copy(e.buf, e.buf[dropped:])]
		e.first += uint32(dropped)
	}
}

// show puts bytes that the other end has into the window. With hint set what is added next is foreseen to be like them, byte by byte.
func (e *denseEncoder) show(p []byte, hint bool) {
	e.parts = append(e.parts, densePart{len(e.buf), len(e.buf) + len(p), true, hint})
	e.buf = append(e.buf, p...)
}

// add takes bytes to be packed.
func (e *denseEncoder) add(p []byte) {
	e.parts = append(e.parts, densePart{from: len(e.buf), to: len(e.buf) + len(p)})
	e.buf = append(e.buf, p...)
	e.added += len(p)
}

// end appends what was added, packed, to dst.
func (e *denseEncoder) end(dst []byte) []byte {
	e.rc.begin(dst)
	whole := e.buf
	for _, p := range e.parts {
		e.buf = whole[:p.to] // no match goes on behind a part
		at := p.from
		if p.shown {
			for ; at < p.to; at += 2 {
				e.note(at)
			}
			if p.hint {
				e.m.push(uint32(p.to - p.from - 1))
			}
			continue
		}
		for at < p.to {
			at = e.step(at, uint32(at-p.from)%densePlaces)
		}
	}
	e.buf = whole
	return e.rc.end()
}

// found is a match: n bytes as they stand back bytes before.
type found struct{ n, back int }

// step encodes what comes at a place of buf and returns the place behind it.
func (e *denseEncoder) step(at int, place uint32) int {
	rep, n := e.longestRepeat(at)
	if n >= niceLength {
		e.note(at)
		return e.repeat(at, rep, n, place)
	}
	f := e.peek(at)
	e.note(at)
	if n >= minDense && (n+1 >= f.n || n+2 >= f.n && f.back > 1<<9 || n+3 >= f.n && f.back > 1<<15) {
		return e.repeat(at, rep, n, place)
	}
	if f.n < minDense || f.n == minDense && f.back > 1<<7 || at == 0 {
		return e.literal(at)
	}
	if f.n < niceLength && e.laterIsBetter(at+1, f) {
		return e.literal(at)
	}
	return e.match(at, f, place)
}

// laterIsBetter reports whether a literal byte and then what is found behind it is better than f, which begins at it.
func (e *denseEncoder) laterIsBetter(at int, f found) bool {
	if _, n := e.longestRepeat(at); n >= minDense && n+1 >= f.n {
		return true
	}
	next := e.peek(at)
	return next.n > f.n+1 || next.n == f.n+1 && next.back>>7 <= f.back || next.n == f.n && next.back < f.back>>7
}

// longestRepeat looks how much is as at one of the last distances.
func (e *denseEncoder) longestRepeat(at int) (rep, n int) {
	end := min(len(e.buf), at+maxDense)
	for i, r := range e.m.reps {
		from := at - int(r) - 1
		if from < 0 || from < at-denseWindow {
			continue
		}
		if l := common(e.buf[at:end], e.buf[from:]); l > n {
			rep, n = i, l
		}
	}
	return rep, n
}

func (e *denseEncoder) hash(at int) uint32 {
	return binary.LittleEndian.Uint32(e.buf[at:]) * 2654435761 >> (32 - denseHashBits)
}

// note makes a place one that is found.
func (e *denseEncoder) note(at int) {
	if at+4 <= len(e.buf) {
		e.heads[e.hash(at)] = e.first + uint32(at) + 1
	}
}

// peek returns the match at the last place with the same four bytes, or none.
func (e *denseEncoder) peek(at int) found {
	if at+4 > len(e.buf) {
		return found{}
	}
	last := e.heads[e.hash(at)]
	back := int(e.first+uint32(at)+1) - int(last)
	if last <= e.first || back > denseWindow {
		return found{}
	}
	n := common(e.buf[at:min(len(e.buf), at+maxDense)], e.buf[at-back:])
	if n < 4 {
		return found{}
	}
	return found{n, back}
}

func (e *denseEncoder) literal(at int) int {
	m := &e.m
	e.rc.bit(&m.matched[m.state][m.last()], 0)
	probs, b := m.literal(), uint32(e.buf[at])
	from := at - int(m.reps[0]) - 1
	if from < 0 {
		e.rc.tree(probs[:0x100], b, 8)
	} else {
		e.likely(probs, b, uint32(e.buf[from]))
	}
	m.state = afterLiteral(m.state)
	return at + 1
}

// likely encodes a byte that is foreseen by another one, up to where they differ.
func (e *denseEncoder) likely(probs *[0x300]prob, b, by uint32) {
	at, mask := uint32(1), uint32(0x100)
	for n := 7; n >= 0; n-- {
		by <<= 1
		bit := b >> n & 1
		e.rc.bit(&probs[mask+by&mask+at], bit)
		at = at<<1 | bit
		if by>>8&1 != bit {
			mask = 0
		}
	}
}

func (e *denseEncoder) match(at int, f found, place uint32) int {
	m := &e.m
	e.rc.bit(&m.matched[m.state][m.last()], 1)
	e.rc.bit(&m.repeats[m.state][m.last()], 0)
	m.state = afterMatch(m.state)
	e.length(&m.match, f.n, place)
	d := uint32(f.back - 1)
	slot := slotOf(d)
	e.rc.tree(m.slots[lengthKind(f.n)][:], slot, slotBits)
	if slot >= 4 {
		low := int(slot>>1) - 1
		if slot < nearSlots {
			e.rc.reverse(m.nearOf(slot), d, low)
		} else {
			e.rc.direct(d>>alignBits, low-alignBits)
			e.rc.reverse(m.align[:], d, alignBits)
		}
	}
	m.push(d)
	return e.skip(at+1, at+f.n)
}

func (e *denseEncoder) repeat(at, rep, n int, place uint32) int {
	m := &e.m
	e.rc.bit(&m.matched[m.state][m.last()], 1)
	e.rc.bit(&m.repeats[m.state][m.last()], 1)
	if rep == 0 {
		e.rc.bit(&m.rep0[m.state][m.last()], 0)
		if n == 1 {
			e.rc.bit(&m.longer[m.state][place], 0)
			m.state = afterOne(m.state)
			return at + 1
		}
		e.rc.bit(&m.longer[m.state][place], 1)
	} else {
		e.rc.bit(&m.rep0[m.state][m.last()], 1)
		if rep == 1 {
			e.rc.bit(&m.rep1[m.state], 0)
		} else {
			e.rc.bit(&m.rep1[m.state], 1)
			e.rc.bit(&m.rep2[m.state], uint32(rep-2))
		}
		m.again(rep)
	}
	e.length(m.repeatLengths(), n, place)
	m.paced(n)
	m.state = afterRepeat(m.state)
	return e.skip(at+1, at+n)
}

// skip takes note of the places of a match.
func (e *denseEncoder) skip(at, to int) int {
	stride := 1
	if to-at >= sparseNotes {
		stride = 4
	}
	for ; at < to; at += stride {
		e.note(at)
	}
	return to
}

func (e *denseEncoder) length(l *lengths, n int, place uint32) {
	switch n -= minDense; {
	case n < lowLengths:
		e.rc.bit(&l.choice[0], 0)
		e.rc.tree(l.low[place][:], uint32(n), 3)
	case n < 2*lowLengths:
		e.rc.bit(&l.choice[0], 1)
		e.rc.bit(&l.choice[1], 0)
		e.rc.tree(l.mid[place][:], uint32(n-lowLengths), 3)
	default:
		e.rc.bit(&l.choice[0], 1)
		e.rc.bit(&l.choice[1], 1)
		e.rc.tree(l.high[:], uint32(n-2*lowLengths), 8)
	}
}
