package wan

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
	"drship/wan/packet"
	"drship/wan/stripe"
)

// lineStats are counters of connections, summed up.
type lineStats struct {
	sent, received, packetsSent, packetsReceived, lost uint64
}

func (l *lineStats) add(c quic.ConnectionStats) {
	l.sent += c.BytesSent
	l.received += c.BytesReceived
	l.packetsSent += c.PacketsSent
	l.packetsReceived += c.PacketsReceived
	l.lost += c.PacketsLost
}

// rateMeter measures what is delivered.
type rateMeter struct {
	begin     time.Time
	bytes     uint64
	perSecond float64 // mean of the last few intervals, weighted towards the newest
}

const (
	rateSpan     = 100 * time.Millisecond
	payloadShare = 0.95 // of what is sent, about: the rest is headers
)

func (m *rateMeter) add(now time.Time, n uint64) {
	if m.begin.IsZero() {
		m.begin = now
	}
	m.bytes += n
	if took := now.Sub(m.begin); took >= rateSpan {
		m.perSecond += (float64(m.bytes)/took.Seconds() - m.perSecond) / 4
		m.begin, m.bytes = now, 0
	}
}

// tend looks after the stripes until the session ends.
func (x *spread) tend() {
	t := tending{x: x, ticker: time.NewTimer(0)}
	defer t.ticker.Stop()
	for {
		select {
		case <-x.s.done:
			return
		case <-x.nudge:
		case <-t.ticker.C:
		}
		t.step(time.Now())
	}
}

// tending is what tend remembers from step to step.
type tending struct {
	x       *spread
	ticker  *time.Timer
	count   *stripe.Count
	looked  time.Time
	near    nearest
	asked   int       // what the other side was last told to dial
	direct  uint64    // bytes that the data lane had sent on the session's own connection at the last step
	scouted time.Time // when the last scout set out
	heard   uint64    // packets that stripes had received at the last step
	flowed  time.Time // when much was received
	quiet   time.Time // when anything was received
	rows    int       // of parity
	stuck   time.Time // since when no stripe gets on though something is on its way
}

func (t *tending) step(now time.Time) {
	x := t.x
	rtt := x.s.rtt()
	x.mu.Lock()
	x.follow(&x.to, x.sock.tr.Conn, x.s.RemoteAddr())
	for _, c := range x.stripes {
		x.attend(c)
		x.out.SetRTT(c.id, c.conn.ConnectionStats().SmoothedRTT)
	}
	up, news := x.out.Tick(now)
	news = x.rank() || news
	if news {
		x.work.Broadcast()
	}
	under := x.out.Unacknowledged()
	direct := x.s.lanes[frame.Data].bytesSent.Load() - uint64(x.out.Edge())
	x.rate.add(now, direct-min(t.direct, direct))
	t.direct = direct
	if n := len(x.stripes); n > 0 {
		x.out.SetPiece(int(x.rate.perSecond * pieceTime.Seconds() / float64(n)))
	}
	teller := t.tells()
	x.mu.Unlock()

	t.tellLimit(teller)
	t.resolve(now, rtt, up == 0 && under)
	t.askPeer()
	if x.s.dialled {
		t.scout(now, rtt, up == 0 && under)
		t.dial(now)
		t.prune(now, rtt)
	}
	if t.isStuck(now, up, under) {
		x.peer.avoidStripes(x.e, now)
		x.s.fail(fmt.Errorf("%w: no stripe gets through", ErrPingTimeout))
	}
	tick := idleTick
	if under {
		tick = max(minTick, min(busyTick, rtt/4))
	}
	t.ticker.Reset(tick)
}

// rank puts the stripes that get on first, and reports whether that changed anything. mu is held.
func (x *spread) rank() (changed bool) {
	n := 0
	for _, wanted := range []bool{false, true} { // stalled
		for _, c := range x.stripes {
			if _, stalled := x.out.Stalled(c.id); stalled == wanted {
				changed = changed || c.rank != n
				c.rank = n
				n++
			}
		}
	}
	return changed
}

// isStuck reports whether what is on its way has no stripe that gets on, for so long that a peer would be given up. The session's own
// connection lives, or the pulse would have ended it.
func (t *tending) isStuck(now time.Time, up int, under bool) bool {
	if up > 0 || !under {
		t.stuck = time.Time{}
		return false
	}
	if t.stuck.IsZero() {
		t.stuck = now
	}
	return now.Sub(t.stuck) > 2*t.x.s.timing.Timeout
}

// tells returns a stripe on which to say how much room there is, where that is overdue. mu is held.
func (t *tending) tells() *stripeConn {
	x := t.x
	if x.in.Limit()-x.told < spreadWindow/4 || len(x.stripes) == 0 {
		return nil
	}
	return x.stripes[0]
}

func (t *tending) tellLimit(c *stripeConn) {
	if c == nil {
		return
	}
	t.x.mu.Lock()
	a := t.x.acknowledge(c)
	t.x.mu.Unlock()
	if c.acks.TryWriteAll(a.Append(nil)) != nil {
		t.x.mu.Lock()
		t.x.told = 0 // again with the next step
		t.x.mu.Unlock()
	}
}

// resolve decides how many stripes this side wants for what it sends.
func (t *tending) resolve(now time.Time, rtt time.Duration, held bool) {
	x := t.x
	if now.Sub(t.looked) < max(rtt, 100*time.Millisecond) {
		return
	}
	t.looked = now
	l := x.look(now)
	defer func() { t.reconsider(l) }()
	want := 0
	if x.worthwhile(now, t.near.add(now, x.s.conn.ConnectionStats().LatestRTT)) {
		if t.count == nil {
			t.count = stripe.NewCount(min(firstStripes, x.max), x.max)
		}
		if held || now.Before(l.fresh) {
			t.count.Hold(l.Look)
		}
		want = t.count.Step(l.Look)
	}
	l.want = want
	x.mu.Lock()
	if want != x.want {
		x.e.log.Debug("stripes", "peer", x.s.peer, "want", want, "up", len(x.stripes), "rtt", l.RTT, "rate", x.rate.perSecond)
		x.want = want
		x.work.Broadcast()
		poke(x.room)
	}
	x.mu.Unlock()
}

// worthwhile reports whether the way is long enough for stripes, and they can be had.
func (x *spread) worthwhile(now time.Time, near time.Duration) bool {
	if x.max == 0 || x.peer.avoids(x.e, now) {
		return false
	}
	return near >= farRTT
}

// nearest finds the shortest round trip of late: how long the way is, however busy. A way may become longer for good.
type nearest struct {
	begin     time.Time
	old, this time.Duration
}

const nearSpan = time.Second

func (n *nearest) add(now time.Time, rtt time.Duration) time.Duration {
	if now.Sub(n.begin) > nearSpan {
		n.begin, n.old, n.this = now, n.this, rtt
	}
	n.this = min(n.this, rtt)
	if n.old == 0 {
		return n.this
	}
	return min(n.old, n.this)
}

// looked is a look, and until when it tells more of a line that was healed than of the number of stripes.
type looked struct {
	stripe.Look
	fresh   time.Time
	waiting bool // more to send than stripes take
	want    int
}

// look sums up what the stripes saw.
func (x *spread) look(now time.Time) looked {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := looked{fresh: x.fresh, Look: stripe.Look{Now: now.Sub(x.since), Delivered: x.out.Delivered(), Waited: x.waited, Stripes: len(x.stripes), Ceiling: payloadShare * float64(x.pace.Rate())}}
	if !x.waits.IsZero() {
		l.Waited += now.Sub(x.waits)
		l.waiting = true
	}
	all := x.gone
	for _, c := range x.stripes {
		st := c.conn.ConnectionStats()
		all.add(st)
		l.RTT += st.SmoothedRTT / time.Duration(len(x.stripes))
		if l.MinRTT == 0 || st.MinRTT > 0 && st.MinRTT < l.MinRTT {
			l.MinRTT = st.MinRTT
		}
	}
	l.Sent, l.Lost = all.packetsSent, all.lost
	return l
}

// addTo adds what stripes did to a session's figures.
func (x *spread) addTo(st *Stats) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.gone
	for _, c := range x.stripes {
		now := c.conn.ConnectionStats()
		all.add(now)
		st.Window += now.CongestionWindow
	}
	st.WireSent += all.sent
	st.WireReceived += all.received
	st.PacketsSent += all.packetsSent
	st.PacketsLost += all.lost
	st.Stripes, st.Wanted = len(x.stripes), x.want
	st.Delivered, st.Resent = x.out.Delivered(), x.out.Resent()
	st.Ceiling = uint64(x.pace.Rate())
	st.Rate, st.Waiting = uint64(x.rate.perSecond), uint64(x.out.Queued())
	x.addParity(st)
}

// traffic counts packets that came over stripes, and what was sent over them: an answer is due.
func (x *spread) traffic() (received, sent uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.heard(), x.out.Sent()
}

// heard counts packets that came over stripes. mu is held.
func (x *spread) heard() uint64 {
	n := x.gone.packetsReceived
	for _, c := range x.stripes {
		n += c.conn.ConnectionStats().PacketsReceived
	}
	return n
}

// askPeer tells the other side how many stripes it is to dial for us.
func (t *tending) askPeer() {
	x := t.x
	x.mu.Lock()
	want := x.want
	x.mu.Unlock()
	if x.s.dialled || want == t.asked {
		return
	}
	if x.s.pulse.TryWriteAll(frame.Append(nil, &frame.Stripes{Want: uint16(want)})) == nil {
		t.asked = want
	}
}

// peerWants takes in what the other side asks for.
func (x *spread) peerWants(n int) error {
	if !x.s.dialled {
		return fmt.Errorf("%w: it dialled, and asks for stripes", ErrProtocol)
	}
	x.mu.Lock()
	x.asked = min(n, x.max)
	x.mu.Unlock()
	poke(x.nudge)
	return nil
}

// dial has stripes dialled until there are as many as either side wants.
func (t *tending) dial(now time.Time) {
	x := t.x
	x.mu.Lock()
	defer x.mu.Unlock()
	want := x.target()
	for len(x.stripes)+x.joining < want && x.joining < maxJoiningAtOnce && !x.closed && !now.Before(x.retry) {
		if x.next+x.joining > 1<<16-1 {
			return // its numbers are used up; the session goes on with what it has
		}
		x.joining++
		id := x.next
		x.next++
		x.running.Go(func() { x.join(id, false) })
	}
}

// target is how many stripes there are to be, of those that this side dials. mu is held.
func (x *spread) target() int {
	want := max(x.want, x.asked)
	if time.Now().Before(x.fresh) {
		want = min(2*want, frame.MaxStripes)
	}
	return want
}

// join dials one stripe; a scout does so while nothing gets through.
func (x *spread) join(id int, scout bool) {
	limit := x.e.cfg.Timing.Timeout
	if scout {
		limit = min(limit, scoutLife)
	}
	ctx, cancel := context.WithTimeout(x.sock.ctx, limit)
	defer cancel()
	stop := context.AfterFunc(x.ended, cancel)
	defer stop()
	c, err := x.connect(ctx, id)
	x.mu.Lock()
	if scout {
		x.scouts--
		if err == nil { // it gets through again
			x.fresh = time.Now().Add(freshFor)
		}
	} else {
		x.joining--
	}
	if err != nil && !scout {
		x.failed++
		x.retry = time.Now().Add(min(longestJoinPause, firstJoinPause<<min(x.failed-1, 10)))
	}
	hopeless := x.failed >= hopelessJoins && len(x.stripes) == 0
	x.mu.Unlock()
	if err == nil {
		x.add(c)
		return
	}
	if x.s.Err() == nil {
		x.e.log.Debug("stripe cannot join", "peer", x.s.peer, "stripe", id, "err", err)
		if hopeless {
			x.e.log.Warn("link goes without stripes for a while", "peer", x.s.peer, "err", err)
			x.peer.avoidStripes(x.e, time.Now())
		}
	}
	poke(x.nudge)
}

// connect dials a connection and has it join.
func (x *spread) connect(ctx context.Context, id int) (*stripeConn, error) {
	c := &stripeConn{id: id}
	tr, err := x.transport(ctx, c)
	if err != nil {
		return nil, err
	}
	cfg := x.e.quicConfig(false)
	cfg.KeepAlivePeriod = cfg.MaxIdleTimeout / 3
	c.conn, err = tr.Dial(ctx, x.s.RemoteAddr(), x.e.cfg.Trust.dialConfig(x.s.peer), cfg)
	if err != nil {
		c.release()
		return nil, fromQUIC(err)
	}
	st, parity, err := x.callJoin(ctx, c.conn, uint16(id))
	if err != nil {
		err = fromQUIC(err)
		closeConn(c.conn, err, false)
		c.release()
		return nil, err
	}
	c.acks, c.fragments, c.parity = st[streamAcks], st[streamFragments], parity
	return c, nil
}

// transport gives a stripe a socket of its own, or, in a simulation, the session's.
func (x *spread) transport(ctx context.Context, c *stripeConn) (*quic.Transport, error) {
	if x.e.cfg.stripeSocket == nil {
		return x.sock.tr, nil
	}
	local, ok := x.sock.tr.Conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return x.sock.tr, nil
	}
	pc, err := x.e.cfg.stripeSocket(ctx, (&net.UDPAddr{IP: local.IP, Zone: local.Zone}).String())
	if err != nil {
		return nil, fmt.Errorf("open socket of a stripe: %w", err)
	}
	c.socket = packet.Shape(pc)
	c.tr = &quic.Transport{Conn: c.socket, ConnectionIDLength: 4}
	return c.tr, nil
}

// prune ends stripes that neither side has wanted for a while, the newest first.
func (t *tending) prune(now time.Time, rtt time.Duration) {
	x := t.x
	x.mu.Lock()
	want := x.target()
	var ending []*stripeConn
	switch {
	case len(x.stripes) <= want:
		x.spare = time.Time{}
	case x.spare.IsZero():
		x.spare = now
	case now.Sub(x.spare) > time.Second+4*rtt:
		for _, c := range x.stripes {
			if c.rank >= want && x.out.Idle(c.id) {
				ending = append(ending, c)
			}
		}
	}
	x.mu.Unlock()
	for _, c := range ending {
		x.end(c, nil)
	}
}

// avoidStripes has sessions with a peer go without stripes for a while: something on the way does not let them through.
func (p *peer) avoidStripes(e *Endpoint, now time.Time) {
	e.mu.Lock()
	p.noStripes = now.Add(withoutStripesTime)
	e.mu.Unlock()
}

func (p *peer) avoids(e *Endpoint, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Before(p.noStripes)
}

// rtt is the session's round trip time, as its own connection sees it.
func (s *Session) rtt() time.Duration { return s.conn.ConnectionStats().SmoothedRTT }

// isOwn reports whether messages of a type are the session's own.
func isOwn(t frame.Type) bool {
	return t == frame.TypePing || t == frame.TypePong || t == frame.TypeSwitch || t == frame.TypeStripes
}
