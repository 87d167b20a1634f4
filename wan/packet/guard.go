package packet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Guard sees every packet between a socket and an address. It may be called by several goroutines.
type Guard interface {
	// Sent is told of a packet that went out. It keeps nothing of it.
	Sent(packet []byte)
	// Received is told of a packet that came in, keeps nothing of it, and says whether it is QUIC's.
	Received(packet []byte) bool
}

// Guarded is a socket that can have guards.
type Guarded interface {
	// Guard sets the guard of an address; nil takes it away.
	Guard(addr net.Addr, g Guard)
	// Guards reports which guard an address has.
	Guards(addr net.Addr) Guard
	// Aside sends a packet that no guard is told of. It waits for the limiter of the address like any other.
	Aside(packet []byte, addr net.Addr) error
	// Inject has the socket's reader receive a packet as if it came from addr. It owns the packet from here on.
	Inject(packet []byte, addr net.Addr)
}

const mostInjected = 256 // packets that wait for the reader; what is more was lost on the line anyway

// longAgo is a deadline that wakes a reader.
var longAgo = time.Unix(1, 0)

// guards are a socket's guards, by address, and what was injected.
type guards struct {
	by     atomic.Pointer[map[netip.AddrPort]Guard]
	change sync.Mutex

	mu       sync.Mutex
	injected []injected
	deadline time.Time       // the user's own
	wake     func(time.Time) // sets the socket's deadline
}

type injected struct {
	packet []byte
	addr   net.Addr
}

// Guard implements Guarded.
func (s *guards) Guard(addr net.Addr, g Guard) {
	s.change.Lock()
	defer s.change.Unlock()
	editMap(&s.by, addr, func(by map[netip.AddrPort]Guard, key netip.AddrPort) {
		if g == nil {
			delete(by, key)
			return
		}
		by[key] = g
	})
}

// Guards implements Guarded.
func (s *guards) Guards(addr net.Addr) Guard {
	by := s.by.Load()
	udp, ok := addr.(*net.UDPAddr)
	if by == nil || !ok {
		return nil
	}
	return (*by)[place(udp)]
}

// sent tells the guard of an address of a run of packets of that size; 0: of a single one.
func (s *guards) sent(run []byte, size int, addr net.Addr) {
	g := s.Guards(addr)
	if g == nil {
		return
	}
	if size <= 0 {
		size = max(len(run), 1)
	}
	for len(run) > 0 {
		n := min(size, len(run))
		g.Sent(run[:n])
		run = run[n:]
	}
}

// passes tells the guard of an address of a packet that came, and reports whether it is QUIC's.
func (s *guards) passes(packet []byte, addr net.Addr) bool {
	g := s.Guards(addr)
	return g == nil || g.Received(packet)
}

// Inject implements Guarded.
func (s *guards) Inject(packet []byte, addr net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.injected) < mostInjected {
		s.injected = append(s.injected, injected{packet, addr})
	}
	s.wake(longAgo)
}

// takeInjected returns the oldest packet that was injected.
func (s *guards) takeInjected() (injected, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.injected) == 0 {
		return injected{}, false
	}
	p := s.injected[0]
	s.injected = s.injected[1:]
	return p, true
}

// SetReadDeadline implements net.PacketConn.
func (s *guards) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.wake(t)
	return nil
}

// woken reports whether a reader that failed was only woken: then it goes on.
func (s *guards) woken(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.deadline.IsZero() && !s.deadline.After(time.Now()) {
		return false
	}
	s.wake(s.deadline)
	return true
}
