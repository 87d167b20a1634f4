//go:build !linux

package packet

import "net"

// Conn is a UDP socket that can be limited.
type Conn struct {
	*net.UDPConn
	limits
}

func wrap(udp *net.UDPConn) (net.PacketConn, error) {
	c := &Conn{UDPConn: udp}
	c.limits.init()
	return c, nil
}

// WriteMsgUDP writes one packet. It waits for the limiter of the address.
func (c *Conn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	c.await(addr, len(b), 0)
	return c.UDPConn.WriteMsgUDP(b, oob, addr)
}

// Close closes the socket; whoever waits for a limiter goes on.
func (c *Conn) Close() error {
	c.limits.close()
	return c.UDPConn.Close()
}
