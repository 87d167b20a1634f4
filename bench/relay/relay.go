// Package relay is a small emulated line between two nodes: it forwards UDP datagrams and can delay, shape, lose, corrupt,
// duplicate and cut them, each direction apart.
//
// A node's configuration names the relay as its peer's address. Each peer has a front, the socket that the other node
// sends to; each sender at a front gets a flow with a socket of its own towards the real node, so that answers
// find their way back:
//
//	alice ──> front of bob ──> flow ──> bob
//	bob ──> front of alice ──> flow ──> alice
//
// All datagrams of one direction share one pipe, whichever front they came through.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// maxFlows bounds the senders that one front remembers; the one that was silent longest goes first.
const maxFlows = 64

// maxDatagram is the largest datagram that is forwarded, in bytes: what UDP can carry.
const maxDatagram = 65535

// Direction of a datagram.
type Direction int

// The two directions.
const (
	AtoB Direction = iota
	BtoA
)

func (d Direction) reverse() Direction { return 1 - d }

// Config says what a relay stands between.
type Config struct {
	A, B           netip.AddrPort // where the nodes really listen
	FrontA, FrontB netip.AddrPort // where the relay listens for them; port 0 picks a free one
	Link           Link           // how both directions start
	Seed           uint64         // of loss, corruption and duplication
	// Tap, if set, sees every datagram before the line treats it. It must not keep the slice.
	Tap func(Direction, []byte)
}

// Relay is a running line.
type Relay struct {
	pipes  [2]*pipe
	fronts [2]*front // index: direction of what arrives at the front
	tap    func(Direction, []byte)
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Start opens the fronts and forwards until Close.
func Start(c Config) (*Relay, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{tap: c.Tap, cancel: cancel}
	for d := range r.pipes {
		r.pipes[d] = newPipe(c.Link, c.Seed+uint64(d))
		r.wg.Go(func() { r.pipes[d].run(ctx) })
	}
	targets := [2]netip.AddrPort{AtoB: c.B, BtoA: c.A}
	listen := [2]netip.AddrPort{AtoB: c.FrontB, BtoA: c.FrontA}
	for d := range r.fronts {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen[d]))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open relay front: %w", err), r.Close())
		}
		grow(conn)
		f := &front{relay: r, dir: Direction(d), conn: conn, target: targets[d], flows: map[netip.AddrPort]*flow{}}
		r.fronts[d] = f
		r.wg.Go(f.read)
	}
	return r, nil
}

// FrontA is the address that B uses for A.
func (r *Relay) FrontA() netip.AddrPort { return r.fronts[BtoA].addr() }

// FrontB is the address that A uses for B.
func (r *Relay) FrontB() netip.AddrPort { return r.fronts[AtoB].addr() }

// Set changes both directions at once. What is already on its way keeps its time of arrival.
func (r *Relay) Set(l Link) {
	r.SetDirection(AtoB, l)
	r.SetDirection(BtoA, l)
}

// SetDirection changes one direction.
func (r *Relay) SetDirection(d Direction, l Link) { r.pipes[d].set(l) }

// Cut drops everything, in both directions, what is on its way included, until Heal.
func (r *Relay) Cut() {
	r.CutDirection(AtoB, true)
	r.CutDirection(BtoA, true)
}

// Heal ends a Cut.
func (r *Relay) Heal() {
	r.CutDirection(AtoB, false)
	r.CutDirection(BtoA, false)
}

// CutDirection cuts or heals one direction.
func (r *Relay) CutDirection(d Direction, cut bool) { r.pipes[d].setCut(cut) }

// Counters returns what one direction has carried and dropped since Start.
func (r *Relay) Counters(d Direction) Counters { return r.pipes[d].snapshot() }

// Close stops forwarding and waits for the relay's goroutines.
func (r *Relay) Close() error {
	r.cancel()
	var errs []error
	for _, f := range r.fronts {
		if f != nil {
			errs = append(errs, f.close())
		}
	}
	r.wg.Wait()
	return errors.Join(errs...)
}

// grow enlarges a socket's buffers as far as the system lets it: a burst must be lost on the line or not at all.
func grow(c *net.UDPConn) {
	const want = 4 << 20
	_ = c.SetReadBuffer(want)
	_ = c.SetWriteBuffer(want)
}
