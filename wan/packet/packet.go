// Package packet is the layer between QUIC and the UDP socket.
//
// quic-go writes many packets with one system call where the socket is a *net.UDPConn (UDP_SEGMENT), but reads them one
// by one. Conn adds the other half: the kernel hands over a run of packets of one flow as a single piece (UDP_GRO), and
// Conn takes it apart. On loopback and on fast lines this is where a third of the processor time goes.
package packet

import (
	"context"
	"fmt"
	"net"
)

// socketBuffer is what a socket may hold in the kernel, in bytes, each way: 60 ms of 1 Gbit/s. It is more than quic-go
// asks for by itself; the kernel gives less where net.core.rmem_max says so and the process may not pass it.
const socketBuffer = 8 << 20

// Listen opens a UDP socket at host:port. The result is what quic.Transport is to be given.
func Listen(ctx context.Context, addr string) (net.PacketConn, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	udp, ok := pc.(*net.UDPConn)
	if !ok {
		return pc, nil
	}
	c, err := wrap(udp)
	if err != nil {
		_ = udp.Close() // the first error counts
		return nil, fmt.Errorf("prepare socket %s: %w", addr, err)
	}
	return c, nil
}
