package wan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/packet"
)

// Endpoint is one resource's end of the link on this node.
type Endpoint struct {
	cfg      Config
	instance instanceID
	resetKey *quic.StatelessResetKey
	log      *slog.Logger
	running  atomic.Bool
	stopped  chan struct{} // closed when Run returns
	arrived  chan struct{} // something was put into ready
	windows  windows

	mu       sync.Mutex
	peers    map[string]*peer // the map itself is fixed
	ready    []*Session       // established and not yet accepted, at most one a peer
	addr     net.Addr         // of the socket, nil while there is none
	rejected time.Time        // when a rejection was last logged
}

// peer is what an Endpoint keeps of a peer; the Endpoint's mu guards it.
type peer struct {
	name      string
	addr      string
	arbiter   bool // this node decides between connections with it
	wanted    bool
	current   *Session
	backoff   backoff
	lastErr   error
	serial    uint64        // arbiter: decisions made; else: the highest heard of from heardOf
	heardOf   instanceID    // not arbiter: the arbiter that serial comes from
	changed   chan struct{} // wakes the dialler; capacity 1
	noStripes time.Time     // until then its sessions go without
}

// socket is the time between opening the UDP socket and losing it. Everything that lives on it ends with it.
type socket struct {
	e       *Endpoint
	ctx     context.Context
	tr      *quic.Transport
	gate    *gate
	running sync.WaitGroup
}

// NewEndpoint checks the configuration. It returns ErrNoAuthentication where a peer has neither pins nor a secret and
// Trust does not allow that in so many words. No peer is wanted at first.
func NewEndpoint(cfg Config) (*Endpoint, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("set up link of %s: %w", cfg.Resource, err)
	}
	var err error
	if cfg.Timing, err = cfg.Timing.withDefaults(); err != nil {
		return nil, fmt.Errorf("set up link of %s: %w", cfg.Resource, err)
	}
	if cfg.Trust, err = cfg.Trust.check(cfg.Node, cfg.Peers); err != nil {
		return nil, fmt.Errorf("set up link of %s: %w", cfg.Resource, err)
	}
	if cfg.MaxStripes == 0 {
		cfg.MaxStripes = defaultStripes
	}
	if cfg.ListenPacket == nil {
		cfg.stripeSocket = packet.Listen
		cfg.ListenPacket = packet.Listen
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{cfg: cfg, log: cfg.Logger.With("resource", cfg.Resource), peers: map[string]*peer{},
		stopped: make(chan struct{}), arrived: make(chan struct{}, 1)}
	if e.resetKey, err = cfg.Trust.resetKey(cfg.Resource, cfg.Node); err != nil {
		return nil, fmt.Errorf("set up link of %s: %w", cfg.Resource, err)
	}
	if _, err := rand.Read(e.instance[:]); err != nil {
		return nil, fmt.Errorf("set up link of %s: %w", cfg.Resource, err)
	}
	for _, p := range cfg.Peers {
		e.peers[p.Name] = &peer{name: p.Name, addr: p.Addr, arbiter: cfg.Node < p.Name,
			backoff: newBackoff(cfg.Timing.ConnectInt), changed: make(chan struct{}, 1)}
	}
	return e, nil
}

// Run listens, and dials the peers that are wanted and not connected, until ctx ends; then it closes every session
// with ErrClosed and returns nil after everything it started has ended. A socket that cannot be opened, or fails, is
// opened again, with pauses. Run may be called once.
func (e *Endpoint) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("run link: it was run before")
	}
	defer close(e.stopped)
	pause := newBackoff(e.cfg.Timing.ConnectInt)
	for ctx.Err() == nil {
		err := e.listen(ctx)
		if ctx.Err() != nil {
			return nil
		}
		err = fmt.Errorf("listen at %s: %w", e.cfg.Listen, err)
		e.listenFailed(err)
		pause.failed(time.Now(), false)
		wait(ctx, time.Until(pause.notBefore))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (e *Endpoint) listenFailed(err error) {
	e.mu.Lock()
	for _, p := range e.peers {
		p.lastErr = err
	}
	e.mu.Unlock()
	e.log.Warn("link cannot listen, trying again", "err", err)
	e.observe(Event{Kind: EventListenFailed, Addr: e.cfg.Listen, Err: err})
}

// listen opens the socket and lives on it until ctx ends or the socket fails.
func (e *Endpoint) listen(ctx context.Context) error {
	pc, err := e.cfg.ListenPacket(ctx, e.cfg.Listen)
	if err != nil {
		return err
	}
	pc = packet.Shape(pc)
	defer pc.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gate := newGate()
	s := &socket{e: e, ctx: ctx, gate: gate, tr: &quic.Transport{
		Conn: pc, ConnectionIDLength: 8, StatelessResetKey: e.resetKey,
		ConnContext: gate.admit, VerifySourceAddress: gate.crowded,
	}}
	// Closing the transport tells nobody; by then every connection was closed and told.
	defer s.tr.Close()
	ln, err := s.tr.Listen(e.cfg.Trust.listenConfig(func(addr string, err error) { e.reject("", addr, err) }), e.quicConfig(true))
	if err != nil {
		return err
	}
	defer ln.Close()
	e.setAddr(pc.LocalAddr())
	defer e.setAddr(nil)
	e.log.Info("link is listening", "addr", pc.LocalAddr().String())
	e.observe(Event{Kind: EventListening, Addr: pc.LocalAddr().String()})
	for _, p := range e.peers {
		if p.addr != "" {
			s.running.Go(func() { s.dialLoop(p) })
		}
	}
	err = s.acceptLoop(ln)
	cancel()
	e.closeSessions(ErrClosed)
	s.running.Wait()
	return err
}

func (e *Endpoint) setAddr(a net.Addr) {
	e.mu.Lock()
	e.addr = a
	e.mu.Unlock()
}

// Addr is the local address of the socket, nil while there is none.
func (e *Endpoint) Addr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addr
}

const (
	maxStreamWindow     = 16 << 20 // bytes a lane may have under way: 1 Gbit/s at 100 ms is 12.5 MB
	maxConnectionWindow = 24 << 20 // so that a full data lane leaves room for the others
	initialWindow       = 512 << 10
	minIdle             = 5 * time.Second // quic-go takes no shorter one from its peer
)

// quicConfig bounds what a peer can make this side hold. A stranger gets the initial windows only: they grow as
// data is read, and before the handshake is over no more than its few messages are.
func (e *Endpoint) quicConfig(listener bool) *quic.Config {
	t := e.cfg.Timing
	c := &quic.Config{
		HandshakeIdleTimeout:           t.Timeout,
		MaxIdleTimeout:                 max(minIdle, t.PingInt+t.PingTimeout+t.Timeout), // the pulse is quicker
		InitialStreamReceiveWindow:     initialWindow,
		InitialConnectionReceiveWindow: initialWindow * 3 / 2,
		MaxStreamReceiveWindow:         maxStreamWindow,
		MaxConnectionReceiveWindow:     maxConnectionWindow,
		AllowConnectionWindowIncrease:  e.windows.allow,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          -1,
	}
	if listener {
		c.MaxIncomingStreams = numStreams
	}
	return c
}

func (s *socket) acceptLoop(ln *quic.Listener) error {
	for {
		conn, err := ln.Accept(s.ctx)
		if err != nil {
			return err
		}
		s.running.Go(func() { s.welcome(conn) })
	}
}

// welcome takes an incoming connection through the handshake.
func (s *socket) welcome(conn *quic.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, s.e.cfg.Timing.Timeout)
	defer cancel()
	h := &handshake{e: s.e, sock: s, conn: conn}
	err := h.answer(ctx, s)
	if err == nil {
		return
	}
	err = s.abort(ctx, conn, err)
	if !errors.Is(err, errDuplicate) && s.ctx.Err() == nil {
		s.e.reject(h.peerName(), conn.RemoteAddr().String(), err)
	}
}

// abort closes a connection whose handshake failed and returns the reason in this package's terms.
func (s *socket) abort(ctx context.Context, conn *quic.Conn, err error) error {
	switch {
	case s.ctx.Err() != nil:
		err = ErrClosed
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %v", ErrTimeout, s.e.cfg.Timing.Timeout)
	default:
		err = fromQUIC(err)
	}
	closeConn(conn, err, false)
	return err
}

const rejectLogPause = time.Second

// reject notes that somebody was turned away. Strangers can make this happen as often as they like, so the log is
// spared.
func (e *Endpoint) reject(name, addr string, err error) {
	now := time.Now()
	e.mu.Lock()
	if p := e.peers[name]; p != nil && p.current == nil {
		p.lastErr = fmt.Errorf("reject connection from %s: %w", addr, err)
	}
	quiet := now.Sub(e.rejected) < rejectLogPause
	if !quiet {
		e.rejected = now
	}
	e.mu.Unlock()
	if !quiet {
		e.log.Warn("link rejected a connection", "peer", name, "addr", addr, "err", err)
	}
	e.observe(Event{Kind: EventRejected, Peer: name, Addr: addr, Err: err})
}

func (e *Endpoint) observe(ev Event) {
	if e.cfg.Observe != nil {
		e.cfg.Observe(ev)
	}
}

// Want says whether to be connected with a peer. While it is wanted, it is dialled and its calls are accepted; when
// it is no longer, its session ends with ErrNotWanted on both sides. Peers that are not configured are ignored.
func (e *Endpoint) Want(name string, on bool) {
	e.mu.Lock()
	p := e.peers[name]
	if p == nil || p.wanted == on {
		e.mu.Unlock()
		return
	}
	p.wanted, p.lastErr = on, nil
	p.backoff.reset()
	s := p.current
	p.wake()
	e.mu.Unlock()
	if s != nil && !on {
		s.fail(fmt.Errorf("%w: told to disconnect", ErrNotWanted))
	}
}

func (p *peer) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// LastError is what last kept this node and the peer apart: a failed dial, a rejected call, the end of a session, or
// a socket that cannot be opened. It is nil while they are connected, and for peers that are not configured.
func (e *Endpoint) LastError(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.peers[name]; p != nil {
		return p.lastErr
	}
	return nil
}

// Accept returns the next session that was established and authenticated, whoever dialled. It returns ErrClosed
// after Run has returned.
func (e *Endpoint) Accept(ctx context.Context) (*Session, error) {
	for {
		if s := e.takeReady(); s != nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.stopped:
			return nil, fmt.Errorf("accept session: %w", ErrClosed)
		case <-e.arrived:
		}
	}
}

func (e *Endpoint) takeReady() *Session {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.ready) > 0 {
		s := e.ready[0]
		e.ready = e.ready[1:]
		if s.Err() == nil {
			if len(e.ready) > 0 {
				e.signal()
			}
			return s
		}
	}
	return nil
}

func (e *Endpoint) signal() {
	select {
	case e.arrived <- struct{}{}:
	default:
	}
}

func (e *Endpoint) closeSessions(err error) {
	e.mu.Lock()
	var open []*Session
	for _, p := range e.peers {
		if p.current != nil {
			open = append(open, p.current)
		}
	}
	e.mu.Unlock()
	for _, s := range open {
		s.fail(err)
	}
}
