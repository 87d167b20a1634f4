package tun

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// A packet as it is read from and written to a TUN device:
//
//	flags u8 | gso type u8 | header length u16 | gso size u16 | checksum start u16 | checksum offset u16 | IP packet
//
// The integers of the first ten bytes are the machine's own. With a gso type the packet is a super-packet: it
// stands for a row of packets on the wire, all with its headers, each with gso size bytes of its payload. With
// VIRTIO_NET_HDR_F_NEEDS_CSUM the transport checksum holds only the sum of the pseudo-header yet, and covers all from checksum start.
const vnetLen = 10

// Offsets in TCP and UDP headers, and TCP flags.
const (
	tcpSeq, tcpFlags = 4, 13
	tcpMinLen        = 20
	udpLength        = 4
	udpLen           = 8

	flagFIN, flagPSH, flagCWR = 0x01, 0x08, 0x80
)

var errMalformed = errors.New("malformed packet")

// packet is one that was read, seen as the row of packets that it is on the wire.
type packet struct {
	raw       []byte // all of it
	ip        []byte // the IP packet
	headers   int    // length of IP and transport header of a super-packet, in bytes
	segment   int    // payload of each but the last, in bytes; 0: not a super-packet
	count     int    // packets on the wire
	gso       byte   // gso type
	partial   bool   // the checksum is to be finished
	transport int    // where the transport header starts in ip: checksum start
	checksum  int    // where the checksum is in ip
}

// parse looks at raw and keeps it.
func parse(raw []byte) (packet, error) {
	if len(raw) < vnetLen+20 {
		return packet{}, errMalformed
	}
	p := packet{raw: raw, ip: raw[vnetLen:], count: 1, gso: raw[1]}
	network := headerLen(p.ip)
	if network < 20 || network > len(p.ip) {
		return packet{}, errMalformed
	}
	if raw[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
		p.partial = true
		p.transport = int(binary.NativeEndian.Uint16(raw[6:]))
		p.checksum = p.transport + int(binary.NativeEndian.Uint16(raw[8:]))
		if p.transport < network || p.checksum+2 > len(p.ip) {
			return packet{}, errMalformed
		}
	}
	if p.gso == unix.VIRTIO_NET_HDR_GSO_NONE {
		return p, nil
	}
	p.segment = int(binary.NativeEndian.Uint16(raw[4:]))
	switch p.gso {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
		if p.transport+tcpMinLen > len(p.ip) {
			return packet{}, errMalformed
		}
		p.headers = p.transport + max(int(p.ip[p.transport+12]>>4)*4, tcpMinLen)
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		p.headers = p.transport + udpLen
	default:
		return packet{}, errMalformed
	}
	payload := len(p.ip) - p.headers
	if !p.partial || p.segment == 0 || payload <= 0 || p.headers < p.transport+udpLen || p.checksum+2 > p.headers {
		return packet{}, errMalformed
	}
	p.count = (payload + p.segment - 1) / p.segment
	return p, nil
}

// headerLen is the length of the IP header without extensions, 0 where it is none.
func headerLen(ip []byte) int {
	switch ip[0] >> 4 {
	case 4:
		return int(ip[0]&15) * 4
	case 6:
		return 40
	}
	return 0
}

// payload is where packets from up to to (exclusive) have theirs, as a range of ip.
func (p *packet) payload(from, to int) (int, int) {
	return p.headers + from*p.segment, min(p.headers+to*p.segment, len(p.ip))
}

// size is the length of packet i on the wire, in bytes.
func (p *packet) size(i int) int {
	if p.segment == 0 {
		return len(p.ip)
	}
	begin, end := p.payload(i, i+1)
	return p.headers + end - begin
}

// cut writes packets from up to to (exclusive) as one, in two parts: what it appends to head, and a part of p that
// follows it.
func (p *packet) cut(head []byte, from, to int) (first, rest []byte) {
	if p.segment == 0 || from == 0 && to == p.count {
		return head, p.raw
	}
	begin, end := p.payload(from, to)
	head = append(head, p.raw[:vnetLen+p.headers]...)
	if to-from == 1 {
		head[1] = unix.VIRTIO_NET_HDR_GSO_NONE
		binary.NativeEndian.PutUint16(head[4:], 0)
	}
	ip := head[vnetLen:]
	p.renumber(ip, from, p.headers+end-begin)
	th := ip[p.transport:]
	if p.gso == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		binary.BigEndian.PutUint16(th[udpLength:], uint16(udpLen+end-begin))
	} else {
		seq := binary.BigEndian.Uint32(th[tcpSeq:])
		binary.BigEndian.PutUint32(th[tcpSeq:], seq+uint32(from*p.segment))
		if to < p.count {
			th[tcpFlags] &^= flagFIN | flagPSH
		}
		if from > 0 {
			th[tcpFlags] &^= flagCWR
		}
	}
	sum := pseudoHeader(ip, len(th)+end-begin)
	binary.BigEndian.PutUint16(ip[p.checksum:], fold(sum))
	return head, p.ip[begin:end]
}

// renumber makes the IP header that of the packets from on, length bytes in all.
func (p *packet) renumber(ip []byte, from, length int) {
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(length-40))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(length))
	binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(from))
	binary.BigEndian.PutUint16(ip[10:], 0)
	header := ip[:headerLen(ip)]
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, header)))
}

// spoil appends packet i to head with one bit flipped, which draw picks. Its checksum is finished before, so that it no longer
// fits; with forge it is left to the receiver, who will take it for good.
func (p *packet) spoil(head []byte, i int, forge bool, draw func(n int) int) []byte {
	first, rest := p.cut(head, i, i+1)
	whole := append(first, rest...)
	ip := whole[vnetLen:]
	low := min(p.lowest(ip, forge), len(ip)-1)
	if p.partial && !forge {
		finish(ip, p.transport, p.checksum)
		whole[0] &^= unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	}
	bit := draw(8 * (len(ip) - low))
	ip[low+bit/8] ^= 1 << (bit % 8)
	return whole
}

// lowest is the first byte that may be spoilt: behind the IP header, or behind all headers where the checksum will be good.
func (p *packet) lowest(ip []byte, forge bool) int {
	switch {
	case !p.partial:
		return headerLen(ip)
	case !forge:
		return p.transport
	case p.checksum-p.transport == 6: // UDP's place of it
		return p.transport + udpLen
	}
	if p.transport+tcpMinLen > len(ip) {
		return p.transport
	}
	return p.transport + int(ip[p.transport+12]>>4)*4
}

// finish computes a checksum whose place holds the sum of the pseudo-header.
func finish(ip []byte, transport, checksum int) {
	c := ^fold(sum(0, ip[transport:]))
	if c == 0 {
		c = 0xffff // in UDP, 0 would say that there is none
	}
	binary.BigEndian.PutUint16(ip[checksum:], c)
}

// pseudoHeader is the sum over addresses, protocol and length that TCP and UDP put before their own.
func pseudoHeader(ip []byte, length int) uint64 {
	if ip[0]>>4 == 6 {
		// The transport header may stand behind extension headers; super-packets have none.
		return sum(uint64(length)+uint64(ip[6]), ip[8:40])
	}
	return sum(uint64(length)+uint64(ip[9]), ip[12:20])
}

// sum adds b to a ones' complement sum, as 16-bit words.
func sum(start uint64, b []byte) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		start += uint64(binary.BigEndian.Uint32(b)) // its halves are folded together later
	}
	if len(b) >= 2 {
		start += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		start += uint64(b[0]) << 8
	}
	return start
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}
