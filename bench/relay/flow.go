package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// front is the socket where one node's peer is believed to be.
type front struct {
	relay  *Relay
	dir    Direction
	conn   *net.UDPConn
	target netip.AddrPort

	mu     sync.Mutex
	flows  map[netip.AddrPort]*flow
	tick   uint64 // counts datagrams: the age of flows
	closed bool
}

// flow is one sender at a front, with the socket that stands for it towards the target.
type flow struct {
	front *front
	from  netip.AddrPort
	conn  *net.UDPConn // connected to front.target
	used  uint64       // front.tick of its last datagram, guarded by front.mu
}

func (f *front) addr() netip.AddrPort { return f.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (f *front) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier send; UDP has no broken connections
		}
		fl, err := f.flow(from)
		if err != nil {
			continue // no socket to be had: the datagram is lost, as on any line
		}
		f.relay.forward(f.dir, buf[:n], fl.toTarget)
	}
}

// flow returns the flow of a sender, opening it at its first datagram.
func (f *front) flow(from netip.AddrPort) (*flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, net.ErrClosed
	}
	f.tick++
	if fl := f.flows[from]; fl != nil {
		fl.used = f.tick
		return fl, nil
	}
	if len(f.flows) >= maxFlows {
		f.evict()
	}
	local := netip.AddrPortFrom(f.addr().Addr(), 0)
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(f.target))
	if err != nil {
		return nil, fmt.Errorf("open relay flow: %w", err)
	}
	grow(conn)
	fl := &flow{front: f, from: from, conn: conn, used: f.tick}
	f.flows[from] = fl
	f.relay.wg.Go(fl.read)
	return fl, nil
}

// evict closes the flow that was silent longest; f.mu is held.
func (f *front) evict() {
	var oldest *flow
	for _, fl := range f.flows {
		if oldest == nil || fl.used < oldest.used {
			oldest = fl
		}
	}
	delete(f.flows, oldest.from)
	_ = oldest.conn.Close()
}

func (f *front) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	err := f.conn.Close()
	for _, fl := range f.flows {
		_ = fl.conn.Close()
	}
	return err
}

// read carries the target's answers back until the flow's socket closes.
func (fl *flow) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, err := fl.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the target is down just now (connection refused)
		}
		fl.front.relay.forward(fl.front.dir.reverse(), buf[:n], fl.toSender)
	}
}

func (fl *flow) toTarget(p []byte) { _, _ = fl.conn.Write(p) }
func (fl *flow) toSender(p []byte) { _, _ = fl.front.conn.WriteToUDPAddrPort(p, fl.from) }

func (r *Relay) forward(d Direction, p []byte, deliver func([]byte)) {
	if r.tap != nil {
		r.tap(d, p)
	}
	r.pipes[d].send(p, deliver)
}
