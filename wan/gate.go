package wan

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

const (
	maxStrangers       = 64 // incoming connections that have not proved themselves
	maxStrangersFromIP = 16 // of these, from one address
	crowd              = 8  // from here on, an address has to show that it is not made up
)

// gate counts incoming connections that have not proved themselves, so that strangers cannot use up memory.
type gate struct {
	mu    sync.Mutex
	total int
	from  map[netip.Addr]int
}

type gateKey struct{}

func newGate() *gate { return &gate{from: map[netip.Addr]int{}} }

// admit is quic.Transport's ConnContext: it is asked before anything is kept of a new connection.
func (g *gate) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	ip := ipOf(info.RemoteAddr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= maxStrangers || g.from[ip] >= maxStrangersFromIP {
		return nil, ErrBusy
	}
	g.total++
	g.from[ip]++
	var once sync.Once
	leave := func() { once.Do(func() { g.leave(ip) }) }
	context.AfterFunc(ctx, leave) // the connection ended
	return context.WithValue(ctx, gateKey{}, leave), nil
}

func (g *gate) leave(ip netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.from[ip]--; g.from[ip] == 0 {
		delete(g.from, ip)
	}
}

// crowded is quic.Transport's VerifySourceAddress.
func (g *gate) crowded(net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total >= crowd
}

func ipOf(a net.Addr) netip.Addr {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(udp.IP)
	return ip.Unmap()
}
