package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// super makes a super-packet as the kernel hands it out: count packets of segment bytes each, the last one shorter.
func super(version int, gso byte, segment, count int) (raw, payload []byte) {
	payload = make([]byte, segment*(count-1)+segment/2)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[4:], 1000)
	copy(ip[12:], []byte{10, 77, 0, 1, 10, 77, 0, 2})
	proto := byte(6)
	if gso == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		proto = 17
	}
	ip[9] = proto
	if version == 6 {
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		ip[8], ip[39] = 0xfd, 9
	}
	var th []byte
	place := uint16(6)
	if proto == 17 {
		th = make([]byte, udpLen)
	} else {
		th = make([]byte, 32)
		th[12], th[13] = 8<<4, flagFIN|flagPSH|flagCWR|0x10
		binary.BigEndian.PutUint32(th[tcpSeq:], 0xfffff000) // it wraps
		place = 16
	}
	raw = make([]byte, vnetLen)
	raw[0], raw[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gso
	binary.NativeEndian.PutUint16(raw[2:], uint16(len(ip)+len(th)))
	binary.NativeEndian.PutUint16(raw[4:], uint16(segment))
	binary.NativeEndian.PutUint16(raw[6:], uint16(len(ip)))
	binary.NativeEndian.PutUint16(raw[8:], place)
	return append(append(append(raw, ip...), th...), payload...), payload
}

var supers = []struct {
	version int
	gso     byte
}{
	{4, unix.VIRTIO_NET_HDR_GSO_TCPV4}, {6, unix.VIRTIO_NET_HDR_GSO_TCPV6},
	{4, unix.VIRTIO_NET_HDR_GSO_UDP_L4}, {6, unix.VIRTIO_NET_HDR_GSO_UDP_L4},
}

// TestCut cuts super-packets into all rows that there are, and looks at what comes out as a receiver does.
func TestCut(t *testing.T) {
	const segment, count = 1000, 5
	for _, s := range supers {
		raw, payload := super(s.version, s.gso, segment, count)
		before := bytes.Clone(raw)
		p, err := parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if p.count != count || p.size(0) != p.headers+segment || p.size(count-1) != p.headers+segment/2 {
			t.Fatalf("seen as %d packets, sizes %d … %d", p.count, p.size(0), p.size(count-1))
		}
		for from := range count {
			for to := from + 1; to <= count; to++ {
				name := fmt.Sprintf("IPv%d, type %d, %d to %d", s.version, s.gso, from, to)
				first, rest := p.cut(nil, from, to)
				got := append(bytes.Clone(first), rest...)
				q, err := parse(got)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if q.count != to-from || (q.gso == 0) != (to-from == 1 && count > 1) {
					t.Errorf("%s: %d packets, type %d", name, q.count, q.gso)
				}
				if !bytes.HasSuffix(got, payload[from*segment:min(to*segment, len(payload))]) || len(q.ip) != p.headers+min(to*segment, len(payload))-from*segment {
					t.Errorf("%s: not its payload", name)
				}
				if from > 0 || to < count {
					checkHeaders(t, name, q.ip, &p, from, to)
				}
			}
		}
		if !bytes.Equal(raw, before) {
			t.Error("cutting changes the super-packet")
		}
	}
}

func checkHeaders(t *testing.T, name string, ip []byte, p *packet, from, to int) {
	t.Helper()
	length := int(binary.BigEndian.Uint16(ip[4:])) + 40
	if ip[0]>>4 == 4 {
		length = int(binary.BigEndian.Uint16(ip[2:]))
		if id := binary.BigEndian.Uint16(ip[4:]); id != uint16(1000+from) {
			t.Errorf("%s: identification %d", name, id)
		}
		if fold(sum(0, ip[:20])) != 0xffff {
			t.Errorf("%s: header checksum is wrong", name)
		}
	}
	if length != len(ip) {
		t.Errorf("%s: length %d, is %d", name, length, len(ip))
	}
	th := ip[p.transport:]
	if p.gso == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		if n := int(binary.BigEndian.Uint16(th[udpLength:])); n != len(th) {
			t.Errorf("%s: UDP length %d, is %d", name, n, len(th))
		}
	} else {
		if seq := binary.BigEndian.Uint32(th[tcpSeq:]); seq != uint32(0xfffff000)+uint32(from*p.segment) {
			t.Errorf("%s: sequence number %#x", name, seq)
		}
		if last, first := th[tcpFlags]&flagFIN != 0, th[tcpFlags]&flagCWR != 0; last != (to == p.count) || first != (from == 0) {
			t.Errorf("%s: flags %#x", name, th[tcpFlags])
		}
	}
	whole := bytes.Clone(ip)
	finish(whole, p.transport, p.checksum)
	if !sound(whole, p.transport) {
		t.Errorf("%s: the finished checksum is wrong", name)
	}
}

// sound checks a transport checksum as a receiver does.
func sound(ip []byte, transport int) bool {
	return fold(pseudoHeader(ip, len(ip)-transport)+sum(0, ip[transport:])) == 0xffff
}

func TestSpoil(t *testing.T) {
	for _, s := range supers {
		raw, _ := super(s.version, s.gso, 999, 4)
		p, err := parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, forge := range []bool{false, true} {
			for i := range p.count {
				first, rest := p.cut(nil, i, i+1)
				good := append(bytes.Clone(first), rest...)
				if !forge {
					finish(good[vnetLen:], p.transport, p.checksum)
				}
				bad := p.spoil(nil, i, forge, rand.IntN)
				flipped := 0
				for j := range good[vnetLen:] {
					x := good[vnetLen+j] ^ bad[vnetLen+j]
					for ; x != 0; x &= x - 1 {
						flipped++
						if j < p.transport || forge && j < p.headers {
							t.Errorf("a bit of a header is wrong: byte %d", j)
						}
					}
				}
				trusted := bad[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
				if len(good) != len(bad) || flipped != 1 || trusted != forge || !forge && sound(bad[vnetLen:], p.transport) {
					t.Errorf("IPv%d, type %d, forge %v: %d bits flipped, checksum taken on trust: %v", s.version, s.gso, forge, flipped, trusted)
				}
			}
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range supers {
		raw, _ := super(s.version, s.gso, 100, 3)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > maxPacket {
			return
		}
		p, err := parse(raw)
		if err != nil {
			return
		}
		total := 0
		for i := range p.count {
			total += p.size(i)
			first, rest := p.cut(nil, i, i+1)
			if n := len(first) + len(rest); n != p.size(i)+vnetLen {
				t.Fatalf("packet %d has %d bytes, wants %d", i, n, p.size(i)+vnetLen)
			}
			p.spoil(nil, i, i%2 == 0, rand.IntN)
		}
		if want := len(p.ip) + (p.count-1)*p.headers; total != want {
			t.Fatalf("%d bytes on the wire, want %d", total, want)
		}
	})
}
