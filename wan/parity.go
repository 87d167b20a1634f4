package wan

import (
	"net"
	"sync"
	"time"

	"drship/wan/fec"
	"drship/wan/packet"
)

// labelParity begins the keys of parity, one for each direction, which the exporter of the session's first connection keys.
const labelParity = "drship/1 parity"

// forward repairs what stripes lose, below QUIC: parity for what this side sends, and what is lost of what it receives. Packets of all
// stripes make groups together, so that a group is whole, and what it lost is there again, before QUIC misses it.
//
// Its lock is taken where QUIC sends and receives; nothing else is waited for under it.
type forward struct {
	out    *fec.Protector
	in     *fec.Repairer
	policy *fec.Policy // tend's

	mu    sync.Mutex
	lanes map[uint16]way // by number of the stripe
	last  uint16         // lane that parity came on last
}

// way is where a stripe's packets come and go.
type way struct {
	sock packet.Guarded
	addr net.Addr
	by   *guard
}

// guard is a forward's ear at one way.
type guard struct {
	f    *forward
	lane uint16
}

func newForward(mode fec.Mode, key []byte, dialled bool) *forward {
	f := &forward{policy: fec.NewPolicy(mode), lanes: map[uint16]way{}}
	ours, theirs := joinMAC(key, labelParity, []byte("dialler")), joinMAC(key, labelParity, []byte("listener"))
	if !dialled {
		ours, theirs = theirs, ours
	}
	f.out = fec.NewProtector(ours, theirs, f.send)
	f.in = fec.NewRepairer(theirs, ours, f.deliver, f.report)
	return f
}

// follow has a stripe's packets pass by here. Both ends agreed to it when the stripe joined.
func (f *forward) follow(lane uint16, pc net.PacketConn, addr net.Addr) {
	sock, ok := pc.(packet.Guarded)
	if !ok || addr == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w, known := f.lanes[lane]
	if known && (w.sock != sock || w.addr != addr) {
		f.leaveLocked(lane)
		known = false
	}
	if !known {
		w = way{sock, addr, &guard{f, lane}}
		f.lanes[lane] = w
	}
	if sock.Guards(addr) == nil { // else a stripe that shares the way has set it
		sock.Guard(addr, w.by)
	}
}

// leave ends that.
func (f *forward) leave(lane uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaveLocked(lane)
}

func (f *forward) leaveLocked(lane uint16) {
	w, ok := f.lanes[lane]
	if !ok {
		return
	}
	delete(f.lanes, lane)
	if g, ok := w.sock.Guards(w.addr).(*guard); ok && g == w.by {
		w.sock.Guard(w.addr, nil)
	}
}

func (f *forward) close() { f.out.Close() }

// Sent implements packet.Guard.
func (g *guard) Sent(b []byte) { g.f.out.Sent(g.lane, b) }

// Received implements packet.Guard.
func (g *guard) Received(b []byte) bool {
	if !fec.Own(b) {
		g.f.in.Received(b)
		return true
	}
	g.f.mu.Lock()
	g.f.last = g.lane
	g.f.mu.Unlock()
	g.f.out.Report(b)
	g.f.in.Parity(b, time.Now())
	return false
}

// wayOf finds the way of a lane.
func (f *forward) wayOf(lane uint16) (way, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, ok := f.lanes[lane]
	return w, ok
}

// send sends a datagram the way that the last packet went. What is lost of parity is lost.
func (f *forward) send(lane uint16, b []byte) {
	if w, ok := f.wayOf(lane); ok {
		_ = w.sock.Aside(b, w.addr)
	}
}

// deliver hands QUIC a packet that was lost, where it should have come.
func (f *forward) deliver(lane uint16, b []byte) {
	if w, ok := f.wayOf(lane); ok {
		w.sock.Inject(b, w.addr)
	}
}

// report tells the other side what was lost, the way that its parity came.
func (f *forward) report(b []byte) {
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	f.send(last, b)
}

// reconsider decides how much parity there is.
func (t *tending) reconsider(l looked) {
	x := t.x
	if x.forward == nil {
		return
	}
	reported, _ := x.forward.out.Counts()
	rows := x.forward.policy.Step(fec.Look{Now: l.Now, Sent: l.Sent, Lost: l.Lost, Reported: reported, Delivered: l.Delivered, RTT: l.RTT, MinRTT: l.MinRTT,
		Full: l.waiting && l.want >= x.max*3/4})
	if rows == t.rows {
		return
	}
	x.e.log.Debug("parity", "peer", x.s.peer, "rows", rows, "lost", reported.Missing, "of", reported.Covered)
	t.rows = rows
	x.forward.out.SetRows(rows)
	x.mu.Lock()
	x.rows = rows
	x.mu.Unlock()
}

// addParity adds to a session's figures. mu is held.
func (x *spread) addParity(st *Stats) {
	if x.forward == nil {
		return
	}
	reported, sent := x.forward.out.Counts()
	st.WireSent += sent
	st.Parity = Parity{Rows: x.rows, Sent: sent, Lost: reported.Missing, Repaired: reported.Repaired}
}
