//go:build !linux

package packet

import "net"

func wrap(udp *net.UDPConn) (net.PacketConn, error) { return udp, nil }
