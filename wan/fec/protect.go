package fec

import (
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

// Protector is the sending side: it groups packets and makes their parity. It may be used by several goroutines.
type Protector struct {
	send func(lane uint16, datagram []byte)

	mu     sync.Mutex
	mac    hash.Hash // of what goes out
	theirs hash.Hash // of reports
	coders coders
	rows   int // of parity behind each group; 0: none
	group  uint32
	n      int // packets in the group that grows
	width  int // of its longest
	names  [GroupSize * nameSize]byte
	shards [GroupSize + MaxRows][]byte
	lane   uint16 // of the last packet
	timer  *time.Timer
	closed bool
	seen   Counts
	sent   uint64 // bytes of parity
}

// NewProtector makes a Protector that is off. send is called with each datagram and the lane of the last packet before it; it keeps
// nothing of it. key authenticates what goes out, theirs what comes back.
func NewProtector(key, theirs []byte, send func(lane uint16, datagram []byte)) *Protector {
	return &Protector{send: send, mac: newMAC(key), theirs: newMAC(theirs)}
}

// SetRows sets how many packets of a group may be lost, 0…MaxRows. 0 turns it off.
func (p *Protector) SetRows(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = min(max(n, 0), MaxRows)
	if p.rows > 0 && p.shards[0] == nil {
		flat := make([]byte, len(p.shards)*shardSize)
		for i := range p.shards {
			p.shards[i] = flat[i*shardSize : (i+1)*shardSize : (i+1)*shardSize]
		}
	}
	if p.rows == 0 {
		p.n, p.width = 0, 0
	}
}

// Sent takes a packet that went out.
func (p *Protector) Sent(lane uint16, packet []byte) {
	if !protects(packet) {
		return
	}
	p.mu.Lock()
	if p.rows == 0 || p.closed {
		p.mu.Unlock()
		return
	}
	s := p.shards[p.n]
	binary.BigEndian.PutUint16(s, uint16(len(packet)))
	n := lengthSize + copy(s[lengthSize:], packet)
	clear(s[n:])
	name := p.names[p.n*nameSize:]
	binary.BigEndian.PutUint32(name, tagOf(packet))
	binary.BigEndian.PutUint16(name[4:], lane)
	p.n, p.width, p.lane = p.n+1, max(p.width, n), lane
	if p.n < GroupSize {
		if p.n == 1 {
			p.arm()
		}
		p.mu.Unlock()
		return
	}
	out := p.finish()
	p.mu.Unlock()
	p.emit(lane, out)
}

// arm has the group end soon even if it does not fill. mu is held.
func (p *Protector) arm() {
	group := p.group
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(flushAfter, func() { p.flush(group) })
}

// flush ends a group that did not fill.
func (p *Protector) flush(group uint32) {
	p.mu.Lock()
	if p.closed || p.group != group || p.n == 0 {
		p.mu.Unlock()
		return
	}
	lane, out := p.lane, p.finish()
	p.mu.Unlock()
	p.emit(lane, out)
}

// finish makes the group's parity and begins the next. mu is held.
func (p *Protector) finish() [][]byte {
	k, m, width := p.n, p.rows, p.width
	group := p.group
	p.n, p.width, p.group = 0, 0, p.group+1
	enc, err := p.coders.get(k, m)
	if err != nil {
		return nil // 1…GroupSize and 1…MaxRows are valid
	}
	var shards [GroupSize + MaxRows][]byte
	for i := range k {
		shards[i] = p.shards[i][:width]
	}
	for i := range m {
		shards[k+i] = p.shards[GroupSize+i][:width]
	}
	if enc.Encode(shards[:k+m]) != nil {
		return nil
	}
	var out [][]byte
	for row := range m {
		for from := 0; from < width; from += pieceSize {
			d := parity{group: group, k: uint8(k), m: uint8(m), row: uint8(row), from: uint16(from), width: uint16(width),
				names: p.names[:k*nameSize], data: shards[k+row][from:min(from+pieceSize, width)]}
			b := d.append(make([]byte, 0, parityHead+len(d.names)+len(d.data)), p.mac)
			p.sent += uint64(len(b))
			out = append(out, b)
		}
	}
	return out
}

func (p *Protector) emit(lane uint16, out [][]byte) {
	for _, b := range out {
		p.send(lane, b)
	}
}

// Report takes a datagram of the repairing side.
func (p *Protector) Report(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, err := readCounts(b, p.theirs); err == nil && c.Covered >= p.seen.Covered { // else it came late, or was played again
		p.seen = c
	}
}

// Counts are those of the last report, and how many bytes of parity were sent.
func (p *Protector) Counts() (reported Counts, sent uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen, p.sent
}

// Close ends it: nothing is sent any more.
func (p *Protector) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
