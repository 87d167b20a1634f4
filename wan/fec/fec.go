// Package fec repairs below QUIC what a line loses, before QUIC takes it for a sign to slow down.
//
// Packets pass unchanged. Some of them, in the order in which they go out whatever their connection, make a group; behind a group
// follow rows of parity (Reed-Solomon), and any packets of the group, as many as there are rows, may be lost: the other side makes
// them anew from what it has. A group's parity names its packets by their last four bytes, which QUIC's authentication makes random.
// What is made anew is checked by QUIC like every packet: nobody has to trust this package with data.
//
// Datagrams of its own are none of QUIC's, by their first byte (RFC 9443), and are authenticated: who does not know the session's key
// cannot have memory filled or packets made. A Report, from the repairing side, says how much the line loses.
package fec

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"time"

	"github.com/klauspost/reedsolomon"
)

// Bounds of a group.
const (
	GroupSize = 20 // packets
	MaxRows   = 3  // of parity
)

const (
	kindParity = 0x20 // first bytes: neither of QUIC's two forms of header begins like that
	kindReport = 0x21

	macSize     = 8
	nameSize    = 6 // tag and lane of a packet
	parityHead  = 1 + macSize + 4 + 3 + 4
	reportSize  = 1 + macSize + 3*8
	lengthSize  = 2
	smallestOne = 200  // bytes; what is shorter is acknowledgements, which the next one makes good
	largestOne  = 1500 // bytes of a packet that is protected
	shardSize   = lengthSize + largestOne
	pieceSize   = 1100 // bytes of a row in one datagram, at most: with its head it passes wherever QUIC's packets do
)

var errForged = errors.New("datagram is not authentic")

// Own reports whether a packet is one of this package's rather than QUIC's.
func Own(b []byte) bool { return len(b) > macSize && (b[0] == kindParity || b[0] == kindReport) }

// parity is one piece of one row of a group's parity.
type parity struct {
	group uint32
	k, m  uint8 // packets in the group, rows behind it
	row   uint8
	from  uint16 // the piece's place in the row
	width uint16 // length of the whole row: of the longest packet, with the two bytes of its length
	names []byte // k times tag and lane
	data  []byte
}

// seal authenticates a datagram whose head ends at n.
func seal(mac hash.Hash, b []byte, n int) { copy(b[1:], sum(mac, b, n)) }

func sum(mac hash.Hash, b []byte, n int) []byte {
	mac.Reset()
	mac.Write(b[:1])
	mac.Write(b[1+macSize : n])
	var out [sha256.Size]byte
	return mac.Sum(out[:0])[:macSize]
}

func authentic(mac hash.Hash, b []byte, n int) bool {
	return hmac.Equal(b[1:1+macSize], sum(mac, b, n))
}

// append writes the datagram, sealed.
func (p *parity) append(b []byte, mac hash.Hash) []byte {
	start := len(b)
	b = append(b, kindParity)
	b = append(b, make([]byte, macSize)...)
	b = binary.BigEndian.AppendUint32(b, p.group)
	b = append(b, p.k, p.m, p.row)
	b = binary.BigEndian.AppendUint16(b, p.from)
	b = binary.BigEndian.AppendUint16(b, p.width)
	b = append(b, p.names...)
	seal(mac, b[start:], len(b)-start)
	return append(b, p.data...)
}

// readParity takes a datagram apart; what it returns points into it.
func readParity(b []byte, mac hash.Hash) (p parity, err error) {
	if len(b) < parityHead || b[0] != kindParity {
		return p, errForged
	}
	p.k = b[1+macSize+4]
	head := parityHead + nameSize*int(p.k)
	if p.k == 0 || p.k > GroupSize || len(b) <= head || !authentic(mac, b, head) {
		return p, errForged
	}
	r := b[1+macSize:]
	p.group, p.m, p.row = binary.BigEndian.Uint32(r), r[5], r[6]
	p.from, p.width = binary.BigEndian.Uint16(r[7:]), binary.BigEndian.Uint16(r[9:])
	p.names, p.data = b[parityHead:head], b[head:]
	end := int(p.from) + len(p.data)
	if p.m == 0 || p.m > MaxRows || p.row >= p.m || p.width <= lengthSize || p.width > shardSize ||
		p.from%pieceSize != 0 || end != min(int(p.from)+pieceSize, int(p.width)) {
		return p, errForged // by a peer that knows the key
	}
	return p, nil
}

// name returns the tag and the lane of the group's packet i.
func (p *parity) name(i int) (tag uint32, lane uint16) {
	n := p.names[i*nameSize:]
	return binary.BigEndian.Uint32(n), binary.BigEndian.Uint16(n[4:])
}

// tagOf names a packet.
func tagOf(packet []byte) uint32 { return binary.BigEndian.Uint32(packet[len(packet)-4:]) }

// protects reports whether a packet takes part.
func protects(packet []byte) bool { return len(packet) >= smallestOne && len(packet) <= largestOne }

// Counts are what the repairing side has seen since the beginning, but for the newest groups: what these lack may be late.
type Counts struct {
	Covered  uint64 // packets in groups whose parity came
	Missing  uint64 // of them, that never came
	Repaired uint64 // of them, that were made anew
}

func (c Counts) append(b []byte, mac hash.Hash) []byte {
	start := len(b)
	b = append(b, kindReport)
	b = append(b, make([]byte, macSize)...)
	for _, n := range []uint64{c.Covered, c.Missing, c.Repaired} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	seal(mac, b[start:], reportSize)
	return b
}

func readCounts(b []byte, mac hash.Hash) (c Counts, err error) {
	if len(b) != reportSize || b[0] != kindReport || !authentic(mac, b, reportSize) {
		return c, errForged
	}
	r := b[1+macSize:]
	c = Counts{Covered: binary.BigEndian.Uint64(r), Missing: binary.BigEndian.Uint64(r[8:]), Repaired: binary.BigEndian.Uint64(r[16:])}
	if c.Missing > c.Covered || c.Repaired > c.Missing {
		return c, errForged
	}
	return c, nil
}

// coders are made when they are first needed.
type coders [GroupSize + 1][MaxRows + 1]reedsolomon.Encoder

func (c *coders) get(k, m int) (reedsolomon.Encoder, error) {
	if c[k][m] == nil {
		enc, err := reedsolomon.New(k, m, reedsolomon.WithMaxGoroutines(1))
		if err != nil {
			return nil, err
		}
		c[k][m] = enc
	}
	return c[k][m], nil
}

func newMAC(key []byte) hash.Hash { return hmac.New(sha256.New, key) }

// flushAfter is how long a group may wait for its last packet. A tail that is lost has nobody behind it that shows its loss to QUIC.
const flushAfter = 3 * time.Millisecond
