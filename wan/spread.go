package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"drship/wan/fec"
	"drship/wan/frame"
	"drship/wan/packet"
	"drship/wan/stripe"
)

// A session's data lane is one stream of its connection where that carries enough, as on a LAN: nothing is faster. On a
// longer way it is spread over stripes, connections of their own, since a single one gives up half of its speed at each
// packet lost. A Switch in the lane tells the other side where it goes on. Each side decides for what it sends.
//
// In the order in which a message passes them:
//
//	send     Session.Send: cuts the message into fragments (stripe.Schedule)
//	write    one goroutine a stripe: takes the next fragment as soon as its connection has room
//	read     one goroutine a stripe, on the other side: puts it into its place (stripe.Assembly), acknowledges
//	receive  Session.Recv: hands over whole messages in order
//	heed     one goroutine a stripe: takes acknowledgements; what they free lets others send
//	tend     one goroutine a session: clock of the schedule, number of stripes, dials
const (
	spreadWindow = 32 << 20               // bytes that a lane may be ahead of its reader, on each side: 500 Mbit/s at 500 ms, 1 Gbit/s at 250
	farRTT       = 3 * time.Millisecond   // from here on stripes are worth their while
	lowWater     = 64 << 10               // bytes: the next message is asked for when no more wait for a stripe
	highWater    = 4 << 20                // the same on a fast line
	waterTime    = 20 * time.Millisecond  // of what the line delivers
	pieceTime    = 10 * time.Millisecond  // of what a stripe delivers, in one fragment
	busyTick     = 20 * time.Millisecond  // of tend, at most, while something is on its way
	idleTick     = 250 * time.Millisecond // else
	firstStripes = 4                      // where nothing is known of the line yet
)

// spread is the part of a session that has to do with stripes.
type spread struct {
	s    *Session
	e    *Endpoint
	sock *socket
	peer *peer
	key  []byte // what a connection has to know to join
	id   [sessionIDSize]byte
	max  int            // stripes, 0: never
	to   net.Addr       // where the session's own connection sends to; guarded by mu
	pace packet.Limiter // of everything that this side sends to the peer

	forward *forward // nil: nothing is repaired

	nudge   chan struct{} // wakes tend, capacity 1
	room    chan struct{} // wakes the sender on the data lane, capacity 1
	arrived chan struct{} // wakes the reader of the data lane, capacity 1
	running sync.WaitGroup
	ended   context.Context // ends with the session
	finish  context.CancelFunc

	active   bool // what is sent goes over stripes; the holder of the data lane's turn owns it
	receives bool // what is received comes over stripes; the reader of the data lane owns it

	mu      sync.Mutex
	work    *sync.Cond // stripes wait here for something to send
	out     *stripe.Schedule
	in      *stripe.Assembly
	told    int64         // the limit that the other side knows of
	stripes []*stripeConn // that are up, in the order of their numbers
	next    int           // number of the next stripe that this side dials
	joining int
	scouts  int
	fresh   time.Time // until then there are twice as many stripes: a line was healed
	closed  bool
	failed  int       // dials in a row
	retry   time.Time // no dial before
	since   time.Time // when the session came up
	want    int       // stripes for what this side sends
	rows    int       // of parity behind a group of packets
	asked   int       // stripes that the other side wants
	waits   time.Time // since when there is more to send than stripes take, zero while there is not
	waited  time.Duration
	rate    rateMeter
	gone    lineStats // of stripes that have ended
	spare   time.Time // since when there are more stripes than anybody wants
}

func newSpread(s *Session, e *Endpoint, sock *socket, p *peer, key []byte) *spread {
	x := &spread{s: s, e: e, sock: sock, peer: p, key: key, id: sessionID(key), max: e.cfg.MaxStripes,
		nudge: make(chan struct{}, 1), room: make(chan struct{}, 1), arrived: make(chan struct{}, 1),
		out: stripe.NewSchedule(spreadWindow), in: stripe.NewAssembly(spreadWindow), told: spreadWindow, since: time.Now()}
	x.work = sync.NewCond(&x.mu)
	x.ended, x.finish = context.WithCancel(context.Background())
	if x.max == 1 {
		x.max = 0 // the session's own connection is the one
	}
	if e.cfg.FEC != fec.Off {
		x.forward = newForward(e.cfg.FEC, key, s.dialled)
	}
	return x
}

// begin has the session's own connection keep to the ceiling.
func (x *spread) begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.follow(&x.to, x.sock.tr.Conn, x.s.RemoteAddr())
}

// follow has what a connection sends keep to the session's ceiling, wherever its peer is by now. was is the address that it was
// last seen to have; nil for now forgets it. mu is held.
func (x *spread) follow(was *net.Addr, pc net.PacketConn, now net.Addr) {
	if *was == now {
		return
	}
	if *was != nil {
		x.limit(pc, *was, false)
	}
	if *was = now; now != nil {
		x.limit(pc, now, true)
	}
}

// attend has a stripe's packets keep to the ceiling and, where both sides agreed, be repaired. mu is held.
func (x *spread) attend(c *stripeConn) {
	x.follow(&c.to, x.socketOf(c), c.conn.RemoteAddr())
	if c.parity {
		x.forward.follow(uint16(c.id), x.socketOf(c), c.to)
	}
}

// limit has what a socket sends to an address keep to the session's ceiling, or no longer.
func (x *spread) limit(pc net.PacketConn, to net.Addr, on bool) {
	s, ok := pc.(packet.Shaper)
	switch {
	case !ok:
	case on:
		s.Limit(to, &x.pace)
	default:
		s.Unlimit(to, &x.pace)
	}
}

// SetCeiling bounds what this side sends to the peer, in bytes a second of IP packets, whatever the number of stripes; 0 lifts
// the bound.
func (s *Session) SetCeiling(bytesPerSecond int64) {
	if s.spread.pace.Rate() != bytesPerSecond {
		s.spread.pace.SetRate(bytesPerSecond)
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// send sends m over the stripes if that is the way for it. The caller holds the lane's turn. It reports false where the lane's
// own stream is to be used.
func (x *spread) send(ctx context.Context, l *lane, m frame.Message) (sent bool, err error) {
	use := x.use(ctx)
	if use != x.active {
		if err := x.turn(ctx, l, use); err != nil {
			return true, err
		}
	}
	if !use {
		return false, nil
	}
	return true, x.enqueue(ctx, l, m)
}

// use decides whether to send over stripes. Right after the session came up it waits for the first one: a big message
// that sets out on a single connection holds up everything behind it.
func (x *spread) use(ctx context.Context) bool {
	for {
		x.mu.Lock()
		up, want := len(x.stripes), x.want
		patience := time.Until(x.since.Add(8*x.s.rtt() + 500*time.Millisecond))
		unsent := x.out.Unacknowledged()
		x.mu.Unlock()
		switch {
		case x.active && unsent:
			return want > 0 || up == 0 // what is on its way there comes first
		case want == 0:
			return false
		case up > 0 || x.active:
			return true
		case patience <= 0:
			return false
		}
		if x.wait(ctx, x.room, patience) != nil {
			return false
		}
	}
}

// wait returns nil when woken or after d.
func (x *spread) wait(ctx context.Context, wake <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-x.s.done:
		return x.s.Err()
	}
	return nil
}

// turn tells the other side, where it reads now, where the lane goes on.
func (x *spread) turn(ctx context.Context, l *lane, use bool) error {
	if use {
		x.mu.Lock()
		place := x.out.Edge()
		x.mu.Unlock()
		begun, err := l.send(ctx, &frame.Switch{Place: place})
		if err != nil && (begun || ctx.Err() == nil) {
			return fmt.Errorf("%w: %w", errCut, err)
		}
		if err != nil {
			return err
		}
	} else if err := x.enqueue(ctx, l, &frame.Switch{}); err != nil {
		return err
	}
	x.active = use
	x.e.log.Debug("data lane turns", "peer", x.s.peer, "striped", use)
	return nil
}

// errCut marks the failure of a lane in the middle of a message.
var errCut = errors.New("cut off in the middle")

// enqueue queues m and returns when most of it was taken. An error means that none of it was queued.
func (x *spread) enqueue(ctx context.Context, l *lane, m frame.Message) error {
	b := frame.Append(nil, m)
	for {
		x.mu.Lock()
		if x.out.Room(len(b)) {
			x.out.Add(b)
			l.bytesSent.Add(uint64(len(b))) // together: what tend takes for sent past the stripes is the difference
			x.busy()
			x.work.Broadcast()
			x.mu.Unlock()
			break
		}
		x.mu.Unlock()
		if err := x.wait(ctx, x.room, time.Hour); err != nil {
			return err
		}
	}
	poke(x.nudge)
	l.sent.Add(1)
	for {
		x.mu.Lock()
		low := x.out.Queued() <= x.water()
		x.mu.Unlock()
		if low || x.wait(ctx, x.room, time.Hour) != nil {
			return nil // it is on its way, whether the caller waits or not
		}
	}
}

// water is how many bytes may wait for a stripe before the next message is asked for. mu is held.
func (x *spread) water() int {
	return max(lowWater, min(highWater, int(x.rate.perSecond*waterTime.Seconds())))
}

// busy keeps count of the time during which stripes have more to send than they take. mu is held.
func (x *spread) busy() {
	switch waits := x.out.Queued() > 0; {
	case waits && x.waits.IsZero():
		x.waits = time.Now()
	case !waits && !x.waits.IsZero():
		x.waited += time.Since(x.waits)
		x.waits = time.Time{}
	}
}

// receive returns the next message that came over stripes.
func (x *spread) receive(ctx context.Context, l *lane) (frame.Message, error) {
	for {
		x.mu.Lock()
		b := x.in.Take()
		limit := x.in.Limit()
		news := limit-x.told >= spreadWindow/4
		more := x.in.Done() > limit-spreadWindow
		x.mu.Unlock()
		if news {
			poke(x.nudge)
		}
		if more {
			poke(x.arrived)
		}
		if b != nil {
			l.received.Add(1)
			l.bytesReceived.Add(uint64(len(b)))
			return frame.Parse(b)
		}
		select {
		case <-x.arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errDeadline, ctx.Err())
		case <-x.s.done:
			return nil, x.s.Err()
		}
	}
}

// nextMessage returns the next message of the data lane, whichever way it comes.
func (x *spread) nextMessage(ctx context.Context, l *lane) (frame.Message, error) {
	for {
		var m frame.Message
		var err error
		if x.receives {
			m, err = x.receive(ctx, l)
		} else {
			m, err = l.receive(ctx)
		}
		if err != nil {
			return nil, err
		}
		turn, ok := m.(*frame.Switch)
		if !ok {
			return m, nil
		}
		if !x.receives {
			x.mu.Lock()
			here := x.in.Limit() - spreadWindow
			x.mu.Unlock()
			if turn.Place != here {
				return nil, fmt.Errorf("%w: the lane goes on at %d, not at %d", ErrProtocol, turn.Place, here)
			}
		}
		x.receives = !x.receives
	}
}

// admits says whether a stripe of that number may join.
func (x *spread) admits(id int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	taken := slices.ContainsFunc(x.stripes, func(c *stripeConn) bool { return c.id == id })
	if x.s.dialled || len(x.stripes) >= frame.MaxStripes || taken {
		return refuse(ErrAuth, "there is no such session", "stripe %d of %s, which has %d", id, x.s.peer, len(x.stripes))
	}
	return nil
}

// add makes a connection that has joined one of the stripes, and owns it from here on.
func (x *spread) add(c *stripeConn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		closeConn(c.conn, ErrClosed, true)
		c.release()
		return
	}
	x.stripes = append(x.stripes, c)
	slices.SortFunc(x.stripes, func(a, b *stripeConn) int { return a.id - b.id })
	x.attend(c)
	x.out.Open(c.id, time.Now(), c.conn.ConnectionStats().SmoothedRTT)
	x.failed = 0
	if x.stalledAll() {
		x.wake()
	}
	x.running.Go(func() { x.run(c) })
	poke(x.room)
	poke(x.nudge)
}

// stalledAll reports whether no stripe but the newest gets on. mu is held.
func (x *spread) stalledAll() bool {
	running := 0
	for _, c := range x.stripes {
		if _, stalled := x.out.Stalled(c.id); !stalled {
			running++
		}
	}
	return running <= 1 && len(x.stripes) > 1
}

// remove takes a stripe that has ended away.
func (x *spread) remove(c *stripeConn) {
	x.mu.Lock()
	x.stripes = slices.DeleteFunc(x.stripes, func(o *stripeConn) bool { return o == c })
	x.out.Close(c.id)
	x.busy()
	x.gone.add(c.conn.ConnectionStats())
	x.work.Broadcast()
	if c.parity {
		x.forward.leave(uint16(c.id))
	}
	if c.tr != nil || x.to == nil || c.to.String() != x.to.String() { // else they share it
		x.follow(&c.to, x.socketOf(c), nil)
	}
	x.mu.Unlock()
	poke(x.nudge)
}

// socketOf is the socket that a stripe sends from.
func (x *spread) socketOf(c *stripeConn) net.PacketConn {
	if c.socket != nil {
		return c.socket
	}
	return x.sock.tr.Conn
}

// close ends every stripe and waits for what runs. The session has ended.
func (x *spread) close() {
	x.finish()
	x.mu.Lock()
	x.closed = true
	open := slices.Clone(x.stripes)
	x.work.Broadcast()
	x.mu.Unlock()
	for _, c := range open {
		closeConn(c.conn, ErrClosed, true)
	}
	x.running.Wait()
	if x.forward != nil {
		x.forward.close()
	}
	x.mu.Lock()
	x.follow(&x.to, x.sock.tr.Conn, nil)
	x.mu.Unlock()
}
