package pair

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
)

// Port is the UDP port of every node; what keeps pairs apart is the address.
const Port = 7788

// freeAddresses finds n loopback addresses on which nobody uses Port. All of 127.0.0.0/8 belongs to the machine, so a random
// one is as good as certain to be free, and stays free while a killed daemon's successor is not up yet.
func freeAddresses(n int) ([]netip.AddrPort, error) {
	const tries = 100
	var out []netip.AddrPort
	for range tries {
		if len(out) == n {
			return out, nil
		}
		ip := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(256)), byte(1 + rand.IntN(250))})
		addr := netip.AddrPortFrom(ip, Port)
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			continue
		}
		if err := c.Close(); err != nil {
			return nil, fmt.Errorf("probe %v: %w", addr, err)
		}
		out = append(out, addr)
	}
	return nil, fmt.Errorf("no free loopback address for UDP port %d in %d tries", Port, tries)
}
