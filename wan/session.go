package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
)

// Session is an authenticated connection with a peer. It is over once Done is closed; Err then says why.
type Session struct {
	conn         *quic.Conn
	peer         string
	peerInstance instanceID
	dialled      bool
	timing       Timing
	serial       uint64    // the arbiter's decision; set when installed
	since        time.Time // set when installed

	lanes   [2]lane // by frame.Lane
	spread  *spread // the data lane over several connections
	pulse   *quic.Stream
	pongs   atomic.Pointer[chan int64] // of the probe that runs
	started chan struct{}              // closed when the handshake has left the pulse stream
	stopped chan struct{}              // closed when watch, which owns the session's goroutines, has ended

	mu   sync.Mutex
	err  error
	done chan struct{} // closed when err is set
}

func newSession(conn *quic.Conn, streams [numStreams]*quic.Stream, peer string, dialled bool, instance instanceID, t Timing) *Session {
	s := &Session{conn: conn, peer: peer, peerInstance: instance, dialled: dialled, timing: t, pulse: streams[streamPulse],
		started: make(chan struct{}), stopped: make(chan struct{}), done: make(chan struct{})}
	for i, st := range []*quic.Stream{frame.Control: streams[streamControl], frame.Data: streams[streamData]} {
		s.lanes[i].init(st)
	}
	return s
}

// Peer is the peer's node name.
func (s *Session) Peer() string { return s.peer }

// Dialled is true on exactly one side: the one that dialled.
func (s *Session) Dialled() bool { return s.dialled }

// RemoteAddr is the address that the peer's packets come from.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// LocalAddr is the address of the socket.
func (s *Session) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil until the session has ended, then one of this package's errors, wrapped.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session, tells the peer the reason, and returns when the session's goroutines have ended. A nil
// reason is ErrClosed, which the peer sees as ErrPeerClosed; so is every reason that is not an error of this package,
// with its text. What was sent and not received by the peer may be lost. It must not be called from Observe.
func (s *Session) Close(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	s.fail(reason)
	<-s.stopped
}

// fail ends the session with err, unless it has ended already. It does not wait; watch does the rest.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.done)
	}
}

// Send sends m on the lane of its type and returns when the transport has taken it; m and its slices are not kept.
// It waits for flow control and for other callers on the lane, who go first come, first served. If ctx ends before any
// of m was sent, its error is returned and the session goes on; if it ends in the middle of m, the session ends.
// Invalid messages are refused with frame.ErrFrame and do no harm.
func (s *Session) Send(ctx context.Context, m frame.Message) error {
	if err := frame.Validate(m); err != nil {
		return fmt.Errorf("send to %s: %w", s.peer, err)
	}
	t := m.Type()
	if isOwn(t) {
		return fmt.Errorf("send to %s: %w: %v is the session's own", s.peer, frame.ErrFrame, t)
	}
	l := &s.lanes[t.Lane()]
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return s.ended("send to")
	}
	defer func() { <-l.turn }()
	if err := ctx.Err(); err != nil {
		return err
	}
	begun := false
	var err error
	sent := false
	if t.Lane() == frame.Data {
		sent, err = s.spread.send(ctx, l, m)
		begun = errors.Is(err, errCut)
	}
	if !sent && err == nil {
		begun, err = l.send(ctx, m)
	}
	switch {
	case err == nil:
		return nil
	case !begun && ctx.Err() != nil && s.Err() == nil:
		return ctx.Err()
	case ctx.Err() != nil && errors.Is(err, errDeadline):
		err = fmt.Errorf("%w: %v was cut off in the middle: %w", ErrClosed, t, ctx.Err())
	}
	s.fail(fromQUIC(err))
	return s.ended("send to")
}

// Recv returns the next message of a lane. The message owns its bytes. Each lane has one reader at a time; while it
// does not read, the peer's Send on that lane waits once the window is full. If ctx ends, nothing is lost: the next
// call goes on where this one stopped. What is not a frame of this version ends the session with ErrProtocol.
func (s *Session) Recv(ctx context.Context, from frame.Lane) (frame.Message, error) {
	if from != frame.Control && from != frame.Data {
		return nil, fmt.Errorf("receive from %s: there is no %v", s.peer, from)
	}
	l := &s.lanes[from]
	l.reading.Lock()
	defer l.reading.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	receive := l.receive
	if from == frame.Data {
		receive = func(ctx context.Context) (frame.Message, error) { return s.spread.nextMessage(ctx, l) }
	}
	m, err := receive(ctx)
	switch {
	case err == nil && m.Type().Lane() == from && !isOwn(m.Type()):
		return m, nil
	case err == nil:
		err = fmt.Errorf("%w: %v on the %v lane", ErrProtocol, m.Type(), from)
	case ctx.Err() != nil && errors.Is(err, errDeadline) && s.Err() == nil:
		return nil, ctx.Err()
	}
	s.fail(fromQUIC(err))
	return nil, s.ended("receive from")
}

func (s *Session) ended(doing string) error { return fmt.Errorf("%s %s: %w", doing, s.peer, s.Err()) }

// Stats of a session, its stripes included. Counters grow only, but for PacketsLost: a packet taken for lost may turn up.
type Stats struct {
	Since            time.Time
	RTT, MinRTT      time.Duration // smoothed, and the shortest seen
	Window           uint64        // congestion windows, bytes
	WireSent         uint64        // bytes in UDP datagrams, retransmissions included
	WireReceived     uint64
	PacketsSent      uint64
	PacketsLost      uint64
	PayloadSent      uint64 // bytes of frames, both lanes
	PayloadReceived  uint64
	MessagesSent     uint64
	MessagesReceived uint64

	Stripes   int    // beside the session's own connection
	Wanted    int    // of these, that this side uses for what it sends
	Delivered uint64 // bytes of the data lane that went over stripes and that the peer has
	Resent    uint64 // bytes sent a second time over another stripe
	Rate      uint64 // bytes a second of the data lane of late
	Ceiling   uint64 // bytes a second that may be sent, 0: no ceiling
	DataSent  uint64 // bytes of frames on the data lane
	Waiting   uint64 // bytes that wait for a stripe
	Parity    Parity
}

// Parity is what was done below QUIC about packets that the line lost.
type Parity struct {
	Rows           int    // behind each group of packets now; 0: off
	Sent           uint64 // bytes
	Lost, Repaired uint64 // packets, as the peer reported
}

// Stats returns what was counted since the session came up.
func (s *Session) Stats() Stats {
	c := s.conn.ConnectionStats()
	st := Stats{Since: s.since, RTT: c.SmoothedRTT, MinRTT: c.MinRTT, Window: c.CongestionWindow,
		WireSent: c.BytesSent, WireReceived: c.BytesReceived, PacketsSent: c.PacketsSent, PacketsLost: c.PacketsLost}
	for i := range s.lanes {
		l := &s.lanes[i]
		st.PayloadSent += l.bytesSent.Load()
		st.PayloadReceived += l.bytesReceived.Load()
		st.MessagesSent += l.sent.Load()
		st.MessagesReceived += l.received.Load()
	}
	st.DataSent = s.lanes[frame.Data].bytesSent.Load()
	s.spread.addTo(&st)
	return st
}

// counters of a lane.
type counters struct {
	sent, received, bytesSent, bytesReceived atomic.Uint64
}
