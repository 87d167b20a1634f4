package packet

import (
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	headers4 = 28                    // bytes of IPv4 and UDP headers before each packet's own
	headers6 = 48                    // of IPv6 and UDP
	catchUp  = 50 * time.Millisecond // of what a late timer left unused may be made good
	smallest = 256                   // bytes; a packet up to here is control or acknowledgement: it counts, and does not wait
	minRate  = 1000                  // bytes a second; below that nothing would live
)

// Limiter keeps everything that shares it to one rate, in bytes a second, headers of IP and UDP included. The zero value
// limits nothing.
type Limiter struct {
	rate atomic.Int64

	mu   sync.Mutex
	next time.Time // when what was let through so far has passed at that rate
	sent uint64    // bytes, headers included
}

// SetRate sets the rate in bytes a second; 0 lifts the limit.
func (l *Limiter) SetRate(n int64) {
	if n > 0 {
		n = max(n, minRate)
	}
	l.rate.Store(n)
}

// Rate is the limit in bytes a second, 0 for none.
func (l *Limiter) Rate() int64 { return l.rate.Load() }

// reserve counts n bytes and returns how long to wait before they may be sent.
func (l *Limiter) reserve(n int, now time.Time) time.Duration {
	rate := l.rate.Load()
	if rate <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent += uint64(n)
	if earliest := now.Add(-catchUp); l.next.Before(earliest) {
		l.next = earliest
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return wait
}

// limits are the limiters of a socket, by where packets go.
type limits struct {
	by     atomic.Pointer[map[netip.AddrPort]*Limiter]
	change sync.Mutex
	closed chan struct{}
	once   sync.Once
}

func (s *limits) init() { s.closed = make(chan struct{}) }

func (s *limits) close() { s.once.Do(func() { close(s.closed) }) }

// Limit implements Shaper.
func (s *limits) Limit(to net.Addr, l *Limiter) {
	s.edit(to, func(by map[netip.AddrPort]*Limiter, key netip.AddrPort) { by[key] = l })
}

// Unlimit implements Shaper.
func (s *limits) Unlimit(to net.Addr, l *Limiter) {
	s.edit(to, func(by map[netip.AddrPort]*Limiter, key netip.AddrPort) {
		if by[key] == l {
			delete(by, key)
		}
	})
}

func (s *limits) edit(to net.Addr, change func(by map[netip.AddrPort]*Limiter, key netip.AddrPort)) {
	s.change.Lock()
	defer s.change.Unlock()
	editMap(&s.by, to, change)
}

// editMap replaces a map that is read without a lock by a changed one; nil where nothing is left. Changes take turns.
func editMap[V any](p *atomic.Pointer[map[netip.AddrPort]V], to net.Addr, change func(by map[netip.AddrPort]V, key netip.AddrPort)) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return
	}
	next := map[netip.AddrPort]V{}
	if old := p.Load(); old != nil {
		maps.Copy(next, *old)
	}
	change(next, place(udp))
	if len(next) == 0 {
		p.Store(nil)
		return
	}
	p.Store(&next)
}

func place(a *net.UDPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// await returns when n bytes in packets of that size may be sent to an address, or when the socket is closed.
func (s *limits) await(to net.Addr, n, size int) {
	by := s.by.Load()
	if by == nil {
		return
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return
	}
	l := (*by)[place(udp)]
	if l == nil {
		return
	}
	headers := headers4
	if udp.IP.To4() == nil {
		headers = headers6
	}
	packets := 1
	if size > 0 {
		packets = (n + size - 1) / size
	}
	wait := l.reserve(n+packets*headers, time.Now())
	if wait <= 0 || n <= smallest {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closed:
	}
}

// Shaper is a socket that can be limited.
type Shaper interface {
	// Limit has packets to an address share a limiter with all that have it.
	Limit(to net.Addr, l *Limiter)
	// Unlimit ends that, if it is still that limiter.
	Unlimit(to net.Addr, l *Limiter)
}

// Shaped makes a socket of another kind one that can be limited. quic-go uses none of what such a socket can do beside the methods of a
// net.PacketConn.
type Shaped struct {
	net.PacketConn
	limits
	guards
}

// Shape returns pc where it can be limited, else a Shaped around it.
func Shape(pc net.PacketConn) net.PacketConn {
	if _, ok := pc.(Shaper); ok {
		return pc
	}
	s := &Shaped{PacketConn: pc}
	s.limits.init()
	s.guards.wake = func(t time.Time) { _ = pc.SetReadDeadline(t) } // it fails on a socket that is closed only
	return s
}

// WriteTo implements net.PacketConn; it waits for the limiter.
func (s *Shaped) WriteTo(b []byte, to net.Addr) (int, error) {
	s.await(to, len(b), 0)
	n, err := s.PacketConn.WriteTo(b, to)
	s.sent(b, 0, to)
	return n, err
}

// Aside implements Guarded.
func (s *Shaped) Aside(b []byte, to net.Addr) error {
	s.await(to, len(b), 0)
	_, err := s.PacketConn.WriteTo(b, to)
	return err
}

// ReadFrom implements net.PacketConn.
func (s *Shaped) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if p, ok := s.takeInjected(); ok {
			return copy(b, p.packet), p.addr, nil
		}
		n, addr, err := s.PacketConn.ReadFrom(b)
		switch {
		case err != nil && !s.woken(err):
			return n, addr, err
		case err == nil && s.passes(b[:n], addr):
			return n, addr, nil
		}
	}
}

// SetReadDeadline implements net.PacketConn.
func (s *Shaped) SetReadDeadline(t time.Time) error { return s.guards.SetReadDeadline(t) }

// Close implements net.PacketConn.
func (s *Shaped) Close() error {
	s.limits.close()
	return s.PacketConn.Close()
}
