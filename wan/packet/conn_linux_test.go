package packet

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// segmentControl is the control message that has the kernel cut one write into packets.
func segmentControl(size uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := unix.Cmsghdr{Level: unix.IPPROTO_UDP, Type: unix.UDP_SEGMENT}
	h.SetLen(unix.CmsgLen(2))
	copy(b, (*[unix.SizeofCmsghdr]byte)(unsafe.Pointer(&h))[:])
	b[unix.CmsgLen(0)], b[unix.CmsgLen(0)+1] = byte(size), byte(size>>8)
	return b
}

func messages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 1452)}
		ms[i].OOB = make([]byte, oobSize)
	}
	return ms
}

// What was written as one run comes out as the packets it was made of, whole, in order, with the sender's address,
// also where the reader takes fewer at a time than the kernel hands over.
func TestRunsComeApart(t *testing.T) {
	pc, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c, ok := pc.(*Conn)
	if !ok {
		t.Skip("this kernel does not know UDP_GRO")
	}
	from, err := net.DialUDP("udp", nil, c.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	const size = 1200
	run := make([]byte, 10*size+17) // ten packets and a short one
	for i := range run {
		run[i] = byte(i / size)
	}
	if _, _, err := from.WriteMsgUDP(run, segmentControl(size), nil); err != nil {
		t.Skipf("this kernel does not know UDP_SEGMENT: %v", err)
	}
	if _, err := from.Write([]byte("alone")); err != nil {
		t.Fatal(err)
	}
	want := append(chunks(run, size), []byte("alone"))
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	reads := 0
	for got := 0; got < len(want); reads++ {
		ms := messages(3)
		n, err := c.ReadBatch(ms, 0)
		if err != nil || n == 0 {
			t.Fatalf("packet %d: %d read, %v", got, n, err)
		}
		for _, m := range ms[:n] {
			if !bytes.Equal(m.Buffers[0][:m.N], want[got]) {
				t.Fatalf("packet %d has %d bytes, %d are due", got, m.N, len(want[got]))
			}
			if a := m.Addr.(*net.UDPAddr).AddrPort(); netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) != from.LocalAddr().(*net.UDPAddr).AddrPort() {
				t.Fatalf("packet %d is from %v", got, m.Addr)
			}
			got++
		}
	}
	if reads < 4 {
		t.Errorf("%d reads for 12 packets by threes", reads)
	}
}

func chunks(b []byte, n int) (out [][]byte) {
	for len(b) > n {
		out, b = append(out, b[:n]), b[n:]
	}
	return append(out, b)
}

// A closed socket says so.
func TestReadOfClosed(t *testing.T) {
	pc, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
	if c, ok := pc.(*Conn); ok {
		if n, err := c.ReadBatch(messages(1), 0); err == nil {
			t.Fatalf("%d packets of a closed socket", n)
		}
	}
}
