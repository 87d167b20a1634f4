package fec

import (
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

const (
	remembered  = 2048 // packets: 25 ms of 1 Gbit/s
	groupsKept  = 32
	reportPause = 200 * time.Millisecond
)

// Repairer is the receiving side: it remembers packets and makes lost ones anew. It may be used by several goroutines.
type Repairer struct {
	deliver func(lane uint16, packet []byte)
	report  func(datagram []byte)

	mu       sync.Mutex
	mac      hash.Hash // of parity
	own      hash.Hash // of reports
	coders   coders
	ring     [][]byte // of remembered packets, as shards; nil until the first parity came
	lens     []int    // of the shards
	tags     []uint32
	made     []bool // anew, and the original has not come
	at       int
	by       map[uint32]int
	groups   [groupsKept]group
	newest   int
	counts   Counts
	reported time.Time
	work     [GroupSize + MaxRows][]byte
}

// group is what is known of a group that has lost packets.
type group struct {
	id    uint32
	known bool
	done  bool
	k, m  uint8
	width uint16
	names []byte
	rows  [MaxRows][]byte
	have  [MaxRows]uint8 // pieces of each, as bits
}

// whole reports whether every piece of a row is there.
func (g *group) whole(row int) bool {
	return g.have[row] == 1<<((int(g.width)+pieceSize-1)/pieceSize)-1
}

// NewRepairer makes a Repairer. deliver is given packets that were made anew, to keep, and report datagrams for the sending side.
// key authenticates parity, own what it reports.
func NewRepairer(key, own []byte, deliver func(lane uint16, packet []byte), report func(datagram []byte)) *Repairer {
	return &Repairer{deliver: deliver, report: report, mac: newMAC(key), own: newMAC(own)}
}

// Received takes a packet that came in.
func (r *Repairer) Received(packet []byte) {
	if !protects(packet) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		return
	}
	if at, ok := r.by[tagOf(packet)]; ok {
		r.made[at] = false // it was late, not lost
		return
	}
	r.remember(packet)
}

// begin makes room for packets. Until a peer sends parity there is none.
func (r *Repairer) begin() {
	flat := make([]byte, remembered*shardSize)
	r.ring, r.lens, r.tags = make([][]byte, remembered), make([]int, remembered), make([]uint32, remembered)
	r.made = make([]bool, remembered)
	for i := range r.ring {
		r.ring[i] = flat[i*shardSize : (i+1)*shardSize]
	}
	r.by = make(map[uint32]int, remembered)
	for i := range r.work {
		r.work[i] = make([]byte, shardSize)
	}
}

// remember keeps a packet. mu is held.
func (r *Repairer) remember(packet []byte) {
	i := r.at
	if r.at++; r.at == len(r.ring) {
		r.at = 0
	}
	if r.by[r.tags[i]] == i {
		delete(r.by, r.tags[i])
	}
	tag := tagOf(packet)
	binary.BigEndian.PutUint16(r.ring[i], uint16(len(packet)))
	r.lens[i] = lengthSize + copy(r.ring[i][lengthSize:], packet)
	r.tags[i], r.made[i] = tag, false
	r.by[tag] = i
}

// settle counts what a group lost, once nothing of it is expected any more: packets that take different ways come late. mu is held.
func (r *Repairer) settle(g *group) {
	named := parity{names: g.names}
	for i := range int(g.k) {
		tag, _ := named.name(i)
		at, ok := r.by[tag]
		if ok && !r.made[at] {
			continue
		}
		r.counts.Missing++
		if ok {
			r.counts.Repaired++
		}
	}
	r.counts.Covered += uint64(g.k)
}

// Parity takes a datagram of the sending side. What is forged is left alone.
func (r *Repairer) Parity(b []byte, now time.Time) {
	r.mu.Lock()
	p, err := readParity(b, r.mac)
	if err != nil {
		r.mu.Unlock()
		return
	}
	if r.ring == nil {
		r.begin()
	}
	made := r.take(&p)
	var report []byte
	if now.Sub(r.reported) >= reportPause {
		r.reported = now
		report = r.counts.append(nil, r.own)
	}
	r.mu.Unlock()
	for _, m := range made {
		r.deliver(m.lane, m.packet)
	}
	if report != nil {
		r.report(report)
	}
}

// repaired is a packet that was made anew.
type repaired struct {
	lane   uint16
	packet []byte
}

// take adds a piece of parity to its group, and repairs the group once there is enough. mu is held.
func (r *Repairer) take(p *parity) []repaired {
	missing := 0
	for i := range int(p.k) {
		if tag, _ := p.name(i); !r.has(tag) {
			missing++
		}
	}
	g := r.groupOf(p)
	if g.done || g.k != p.k || g.m != p.m || g.width != p.width {
		return nil
	}
	row := int(p.row)
	copy(g.rows[row][p.from:], p.data)
	g.have[row] |= 1 << (p.from / pieceSize)
	whole := 0
	for i := range int(g.m) {
		if g.whole(i) {
			whole++
		}
	}
	if missing == 0 || whole < missing {
		return nil
	}
	g.done = true
	return r.repair(g)
}

func (r *Repairer) has(tag uint32) bool {
	_, ok := r.by[tag]
	return ok
}

// groupOf finds a piece's group, or makes it instead of the oldest. mu is held.
func (r *Repairer) groupOf(p *parity) *group {
	for i := range r.groups {
		if g := &r.groups[i]; g.known && g.id == p.group {
			return g
		}
	}
	r.newest = (r.newest + 1) % groupsKept
	g := &r.groups[r.newest]
	if g.known {
		r.settle(g)
	}
	rows := g.rows
	for i := range rows {
		if rows[i] == nil {
			rows[i] = make([]byte, shardSize)
		}
	}
	*g = group{id: p.group, known: true, k: p.k, m: p.m, width: p.width, names: append(g.names[:0], p.names...), rows: rows}
	return g
}

// repair makes the missing packets of a group anew. mu is held.
func (r *Repairer) repair(g *group) []repaired {
	k, m, width := int(g.k), int(g.m), int(g.width)
	enc, err := r.coders.get(k, m)
	if err != nil {
		return nil
	}
	named := parity{names: g.names}
	var shards [GroupSize + MaxRows][]byte
	var lost []int
	for i := range k {
		tag, _ := named.name(i)
		at, ok := r.by[tag]
		if !ok {
			shards[i] = r.work[i][:0]
			lost = append(lost, i)
			continue
		}
		if r.lens[at] > width {
			return nil // another packet of that name
		}
		n := copy(r.work[i], r.ring[at][:r.lens[at]])
		clear(r.work[i][n:width])
		shards[i] = r.work[i][:width]
	}
	for i := range m {
		shards[k+i] = r.work[k+i][:0]
		if g.whole(i) {
			shards[k+i] = g.rows[i][:width]
		}
	}
	if enc.ReconstructData(shards[:k+m]) != nil {
		return nil
	}
	var made []repaired
	for _, i := range lost {
		n := int(binary.BigEndian.Uint16(shards[i]))
		tag, lane := named.name(i)
		if n < smallestOne || n > width-lengthSize {
			continue
		}
		packet := append([]byte(nil), shards[i][lengthSize:lengthSize+n]...)
		if tagOf(packet) != tag {
			continue
		}
		r.remember(packet)
		r.made[r.by[tag]] = true
		made = append(made, repaired{lane, packet})
	}
	return made
}

// Counts are what was seen so far, the newest groups apart.
func (r *Repairer) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}
