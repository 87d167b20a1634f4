package packet

import (
	"encoding/binary"
	"net"
	"runtime"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	batch     = 2       // pieces taken with one system call; more arrive faster than connections take them
	pieceSize = 1 << 16 // the largest that UDP_GRO makes
	oobSize   = 128     // control messages of a piece: ECN, destination, segment size
)

// Conn is a UDP socket whose packets arrive in runs. It is what quic-go calls an OOBCapablePacketConn with a ReadBatch of
// its own. Reads are for one goroutine at a time; the rest is as safe as a *net.UDPConn.
type Conn struct {
	*net.UDPConn
	limits
	guards
	reader *ipv4.PacketConn // of either family, whatever its name
	pieces [batch]ipv4.Message
	have   int // pieces that are filled
	at     int // the piece that is being taken apart
	off    int // what was taken of it, in bytes
}

// wrap asks the kernel for runs of packets and for large buffers. Where it does not know UDP_GRO, the socket stays as it is.
func wrap(udp *net.UDPConn) (net.PacketConn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var gro error
	err = raw.Control(func(fd uintptr) {
		gro = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		// What is refused to an ordinary user is asked for again in the ordinary way, as far as it is allowed.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
		}
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
		}
	})
	if err != nil {
		return nil, err
	}
	if gro != nil {
		return udp, nil
	}
	c := &Conn{UDPConn: udp, reader: ipv4.NewPacketConn(udp)}
	c.limits.init()
	c.guards.wake = func(t time.Time) { _ = udp.SetReadDeadline(t) } // it fails on a socket that is closed only
	for i := range c.pieces {
		c.pieces[i].Buffers = [][]byte{make([]byte, pieceSize)}
		c.pieces[i].OOB = make([]byte, oobSize)
	}
	return c, nil
}

// ReadBatch fills ms with packets, at least one, and returns how many. It waits only where nothing is left of the pieces
// that were read before.
func (c *Conn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := c.readBatch(ms, flags)
		if n > 0 || err != nil && !c.woken(err) {
			return n, err
		}
	}
}

// readBatch is ReadBatch, and returns nothing where nothing of what it read is for the caller.
func (c *Conn) readBatch(ms []ipv4.Message, flags int) (int, error) {
	if n := c.anew(ms); n > 0 {
		return n, nil
	}
	if c.at == c.have {
		// The connections' goroutines get their turn: quic-go drops silently what a connection has not looked at once more
		// than 256 packets of it wait.
		runtime.Gosched()
		n, err := c.reader.ReadBatch(c.pieces[:], flags)
		if err != nil {
			return 0, err
		}
		c.have, c.at, c.off = n, 0, 0
	}
	n := 0
	for n < len(ms) && c.at < c.have {
		if c.take(&ms[n]); c.passes(ms[n].Buffers[0][:ms[n].N], ms[n].Addr) {
			n++
		}
	}
	return n, nil
}

// anew fills ms with packets that were injected.
func (c *Conn) anew(ms []ipv4.Message) int {
	n := 0
	for n < len(ms) {
		p, ok := c.takeInjected()
		if !ok {
			break
		}
		ms[n].N, ms[n].NN, ms[n].Flags, ms[n].Addr = copy(ms[n].Buffers[0], p.packet), 0, 0, p.addr
		n++
	}
	return n
}

// take copies the next packet of the current piece into m, with the piece's control messages.
func (c *Conn) take(m *ipv4.Message) {
	p := &c.pieces[c.at]
	oob := p.OOB[:p.NN]
	rest := p.Buffers[0][c.off:p.N]
	size := len(rest)
	if s := controlSize(oob, unix.UDP_GRO); s > 0 {
		size = min(s, size)
	}
	m.N = copy(m.Buffers[0], rest[:size]) // what is longer than the reader's buffer is no packet of QUIC's
	m.NN = copy(m.OOB, oob)
	m.Flags = p.Flags
	m.Addr = p.Addr
	c.off += size
	if c.off >= p.N {
		c.at++
		c.off = 0
	}
}

// WriteMsgUDP writes one packet, or a run of them where oob says so. It waits for the limiter of the address.
func (c *Conn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if c.limits.by.Load() == nil && c.guards.by.Load() == nil {
		return c.UDPConn.WriteMsgUDP(b, oob, addr)
	}
	size := controlSize(oob, unix.UDP_SEGMENT)
	c.await(addr, len(b), size)
	n, oobn, err = c.UDPConn.WriteMsgUDP(b, oob, addr)
	c.sent(b, size, addr)
	return n, oobn, err
}

// Aside implements Guarded.
func (c *Conn) Aside(b []byte, addr net.Addr) error {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return net.InvalidAddrError("not of UDP")
	}
	c.await(addr, len(b), 0)
	_, _, err := c.UDPConn.WriteMsgUDP(b, nil, udp)
	return err
}

// SetReadDeadline implements net.PacketConn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.guards.SetReadDeadline(t) }

// Close closes the socket; whoever waits for a limiter goes on.
func (c *Conn) Close() error {
	c.limits.close()
	return c.UDPConn.Close()
}

// controlSize is the length in bytes of the packets that a run is made of, 0 where no control message of that type says it: then it
// is a single packet.
func controlSize(oob []byte, kind int32) int {
	for len(oob) > 0 {
		h, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == kind {
			switch {
			case len(body) >= 4: // received
				return int(binary.NativeEndian.Uint32(body))
			case len(body) >= 2: // sent
				return int(binary.NativeEndian.Uint16(body))
			}
		}
		oob = rest
	}
	return 0
}
