// Package sim runs whole nodes, the product's own code, in one process and in virtual time: their disks and stores lose
// power, their network cuts, delays and loses packets, and everything is drawn from a seed. After each run the promises
// of docs/architecture.md are checked.
//
//	world.go    the network
//	machine.go  a machine: disks, a store's file system, and the node that runs on it
//	store.go    a file system that fails
//	plan.go     what a seed stands for
//	run.go      a run: load, faults, recovery, checks
//	states.go   which states were met, and which changes between them
//	trioplan.go, trio.go  the same with three nodes
package sim

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/marcopolo/simnet"
)

// world is the network between the machines.
type world struct {
	net *simnet.Simnet

	mu     sync.Mutex
	rng    *rand.Rand
	delay  time.Duration // one way
	jitter time.Duration
	noise  noise
	loss   float64
	cut    bool
	oneWay string             // not empty: nothing from that address arrives
	cuts   map[[2]string]bool // lines between two addresses that are cut, both ways
	far    string             // the address of a node across a WAN: each way to and from it takes longer by remote
	remote time.Duration

	bits int // a second, of each end
}

func newWorld(p plan) *world {
	w := &world{cuts: map[[2]string]bool{}, rng: rand.New(rand.NewPCG(p.seed, 0x776f726c64)), bits: int(p.bits)}
	if w.bits == 0 {
		w.bits = 1000 * simnet.Mibps
	}
	w.net = &simnet.Simnet{Logger: slog.New(slog.DiscardHandler), LatencyFunc: w.latency}
	w.net.Start()
	return w
}

func (w *world) latency(p *simnet.Packet) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.delay + time.Duration(w.rng.Int64N(int64(w.jitter)+1))
	if w.noise.late > 0 && w.rng.Float64() < w.noise.late {
		d += time.Duration(w.rng.Int64N(int64(maxLate)))
	}
	if w.far != "" && (host(p.To) == w.far || host(p.From) == w.far) {
		d += w.remote
	}
	return d
}

// host is the address of a socket without its port.
func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}

// setLine cuts the line between two addresses, or mends it.
func (w *world) setLine(a, b string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[[2]string{min(a, b), max(a, b)}] = cut
}

func (w *world) set(p line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay, w.jitter, w.loss, w.noise = p.delay, p.jitter, p.loss, p.noise
}

// mend mends what setCut and setOneWay cut.
func (w *world) mend() {
	w.setCut(false)
	w.setOneWay("")
}

func (w *world) setCut(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
}

// setOneWay lets nothing from an address arrive; from nowhere mends it.
func (w *world) setOneWay(from string) {
	w.mu.Lock()
	w.oneWay = from
	w.mu.Unlock()
}

// fate is what becomes of a packet: how often it goes out, and the bit of it that is turned over, -1 for none.
func (w *world) fate(from, to string, size int) (times, bent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.oneWay == from || w.cuts[[2]string{min(from, to), max(from, to)}] || w.loss > 0 && w.rng.Float64() < w.loss {
		return 0, -1
	}
	times, bent = 1, -1
	if w.noise.twice > 0 && w.rng.Float64() < w.noise.twice {
		times = 2
	}
	if w.noise.bent > 0 && w.rng.Float64() < w.noise.bent {
		bent = w.rng.IntN(8 * size)
	}
	return times, bent
}

// listen opens a socket of a machine.
func (w *world) listen(m *machine, addr string) (net.PacketConn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	link := simnet.LinkSettings{BitsPerSecond: w.bits}
	c := w.net.NewEndpoint(net.UDPAddrFromAddrPort(ap), simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link})
	return &socket{SimConn: c, world: w, alive: m.power()}, nil
}

// socket is a machine's end of the network; it goes silent with the machine's power.
type socket struct {
	*simnet.SimConn
	world *world
	alive context.Context
}

// ReadFrom implements net.PacketConn.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.SimConn.ReadFrom(b)
	if errors.Is(err, simnet.ErrDeadlineExceeded) {
		err = os.ErrDeadlineExceeded // as net.PacketConn promises
	}
	return n, from, err
}

// WriteTo implements net.PacketConn.
func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	if s.alive.Err() != nil || len(b) == 0 {
		return len(b), nil
	}
	times, bent := s.world.fate(host(s.LocalAddr()), host(to), len(b))
	if bent >= 0 {
		b = bytes.Clone(b)
		b[bent/8] ^= 1 << (bent % 8)
	}
	for range times {
		if _, err := s.SimConn.WriteTo(b, to); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
