package wan

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drship/internal/block"
	"drship/wan/frame"
	"drship/wan/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is an Endpoint under test with the events it reported.
type node struct {
	*Endpoint
	t      testing.TB
	cancel context.CancelFunc
	ran    chan error

	mu     sync.Mutex
	events []Event
	news   chan struct{}
}

// start runs an endpoint until the test ends or stop is called.
func start(t testing.TB, cfg Config) *node {
	t.Helper()
	n := &node{t: t, ran: make(chan error, 1), news: make(chan struct{}, 1)}
	cfg.Observe = n.observe
	e, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Endpoint = e
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.ran <- e.Run(ctx) }()
	n.await(func(ev Event) bool { return ev.Kind == EventListening })
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.cancel()
	if err, ok := <-n.ran; ok {
		close(n.ran)
		if err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}
}

func (n *node) observe(ev Event) {
	n.mu.Lock()
	n.events = append(n.events, ev)
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

const patience = 10 * time.Second

// await returns the first event reported so far, or from now on, that match accepts.
func (n *node) await(match func(Event) bool) Event {
	n.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	seen := 0
	for {
		n.mu.Lock()
		for ; seen < len(n.events); seen++ {
			if ev := n.events[seen]; match(ev) {
				n.mu.Unlock()
				return ev
			}
		}
		n.mu.Unlock()
		select {
		case <-n.news:
		case <-timeout.C:
			n.t.Fatalf("%s: waited in vain; events: %v", n.cfg.Node, n.events)
		}
	}
}

func (n *node) awaitErr(kind EventKind, want error) Event {
	n.t.Helper()
	return n.await(func(ev Event) bool { return ev.Kind == kind && errors.Is(ev.Err, want) })
}

func (n *node) accept() *Session {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := n.Accept(ctx)
	if err != nil {
		n.t.Fatalf("%s: Accept: %v; last error %v", n.cfg.Node, err, n.LastError(n.cfg.Peers[0].Name))
	}
	return s
}

// quick is for tests in real time, on a machine that may be busy; those that are about timers run in virtual time.
var quick = Timing{ConnectInt: 200 * time.Millisecond, PingInt: 3 * time.Second, PingTimeout: 3 * time.Second, Timeout: 6 * time.Second}

// config is for a node on loopback with one peer, authenticated by a secret.
func config(name, peer, peerAddr string) Config {
	return Config{Resource: "r0", Node: name, Listen: "127.0.0.1:0", Peers: []Peer{{Name: peer, Addr: peerAddr}},
		Trust: Trust{HMACAlg: "sha256", Secret: "FooFunFactory"}, Timing: quick}
}

// pair connects alice, who listens, and bob, who dials.
func pair(t testing.TB) (alice, bob *node, a, b *Session) {
	t.Helper()
	alice = start(t, config("alice", "bob", ""))
	bob = start(t, config("bob", "alice", alice.Addr().String()))
	alice.Want("bob", true)
	bob.Want("alice", true)
	return alice, bob, alice.accept(), bob.accept()
}

func done(t testing.TB, s *Session) error {
	t.Helper()
	select {
	case <-s.Done():
		return s.Err()
	case <-time.After(patience):
		t.Fatal("session does not end")
		return nil
	}
}

func ack(n uint64) *frame.Ack { return &frame.Ack{Received: block.Seq{Epoch: 1, Num: n}} }

func batch(n uint64, payload []byte) *frame.Batch {
	return &frame.Batch{Prev: block.Seq{Epoch: 1, Num: n}, Last: block.Seq{Epoch: 1, Num: n + 1}, RawLen: uint32(len(payload)), Payload: payload}
}

func TestConnectExchangeClose(t *testing.T) {
	alice, bob, a, b := pair(t)
	if a.Peer() != "bob" || b.Peer() != "alice" || a.Dialled() || !b.Dialled() {
		t.Errorf("peers %s, %s; dialled %v, %v", a.Peer(), b.Peer(), a.Dialled(), b.Dialled())
	}
	ctx := t.Context()
	for i := range uint64(10) {
		if err := a.Send(ctx, ack(i)); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(ctx, batch(i, make([]byte, i*20_000))); err != nil {
			t.Fatal(err)
		}
		m, err := b.Recv(ctx, frame.Control)
		if err != nil || m.(*frame.Ack).Received.Num != i {
			t.Fatalf("%+v, %v", m, err)
		}
		if m, err = a.Recv(ctx, frame.Data); err != nil || len(m.(*frame.Batch).Payload) != int(i)*20_000 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	st := b.Stats()
	if st.MessagesSent != 10 || st.MessagesReceived != 10 || st.PayloadSent < 900_000 || st.WireSent < st.PayloadSent || st.RTT <= 0 || st.Since.IsZero() {
		t.Errorf("stats %+v", st)
	}
	if alice.LastError("bob") != nil || bob.LastError("alice") != nil {
		t.Errorf("last errors %v, %v", alice.LastError("bob"), bob.LastError("alice"))
	}
	bob.Want("alice", false)
	if err := done(t, a); !errors.Is(err, ErrNotWanted) {
		t.Errorf("alice's session ended with %v", err)
	}
	if err := done(t, b); !errors.Is(err, ErrNotWanted) {
		t.Errorf("bob's session ended with %v", err)
	}
	if err := b.Send(ctx, ack(1)); !errors.Is(err, ErrNotWanted) {
		t.Errorf("Send after the end: %v", err)
	}
	if _, err := a.Recv(ctx, frame.Control); !errors.Is(err, ErrNotWanted) {
		t.Errorf("Recv after the end: %v", err)
	}
	bob.Want("alice", true)
	alice.accept()
	bob.accept().Close(errors.New("had enough"))
	ev := alice.awaitErr(EventEnded, ErrPeerClosed)
	if got := ev.Err.Error(); got != "closed by the peer (told by the peer: had enough)" {
		t.Errorf("alice was told %q", got)
	}
}

func TestPinsOnly(t *testing.T) {
	id := func(name string) (tls.Certificate, string) {
		certPEM, keyPEM, fp, err := GenerateIdentity(name)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if Fingerprint(cert) != fp {
			t.Fatalf("fingerprints %s and %s", Fingerprint(cert), fp)
		}
		return cert, fp
	}
	certA, fpA := id("alice")
	certB, fpB := id("bob")
	certM, _ := id("bob") // somebody else of that name

	ca, cb := config("alice", "bob", ""), config("bob", "alice", "")
	ca.Trust = Trust{Certificate: certA, Pins: map[string][]string{"bob": {fpB}}}
	alice := start(t, ca)
	alice.Want("bob", true)
	cb.Peers[0].Addr = alice.Addr().String()
	cb.Trust = Trust{Certificate: certB, Pins: map[string][]string{"alice": {fpA}}}

	wrong := cb
	wrong.Trust.Certificate = certM
	mallory := start(t, wrong)
	mallory.Want("alice", true)
	mallory.awaitErr(EventDialFailed, ErrAuth)
	alice.awaitErr(EventRejected, ErrAuth)
	mallory.stop()

	wrong = cb
	wrong.Trust.Pins = map[string][]string{"alice": {fpB}}
	confused := start(t, wrong)
	confused.Want("alice", true)
	confused.awaitErr(EventDialFailed, ErrAuth)
	confused.stop()

	bob := start(t, cb)
	bob.Want("alice", true)
	alice.accept()
	bob.accept()
}

// What differs is named on both sides, by the right error.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *Config)
		want   error
	}{
		"secret":    {func(c *Config) { c.Trust.Secret = "guess" }, ErrAuth},
		"algorithm": {func(c *Config) { c.Trust.HMACAlg = "sha1" }, ErrAuth},
		"no secret": {func(c *Config) { c.Trust = Trust{AllowUnauthenticated: true} }, ErrAuth},
		"resource":  {func(c *Config) { c.Resource = "r1" }, ErrResource},
		"own name":  {func(c *Config) { c.Node = "carol" }, ErrName},
		"peer name": {func(c *Config) { c.Peers[0].Name = "alicia" }, ErrName},
		"unwanted":  {func(*Config) {}, ErrNotWanted},
	} {
		t.Run(name, func(t *testing.T) {
			alice := start(t, config("alice", "bob", ""))
			cfg := config("bob", "alice", alice.Addr().String())
			c.change(&cfg)
			bob := start(t, cfg)
			alice.Want("bob", name != "unwanted")
			bob.Want(cfg.Peers[0].Name, true)
			ev := alice.awaitErr(EventRejected, c.want)
			t.Logf("listener: %v", ev.Err)
			ev = bob.awaitErr(EventDialFailed, c.want)
			t.Logf("dialler:  %v", ev.Err)
			if err := bob.LastError(cfg.Peers[0].Name); !errors.Is(err, c.want) {
				t.Errorf("last error %v", err)
			}
			select {
			case <-alice.arrived:
				t.Error("a session came up")
			default:
			}
		})
	}
}

func TestNoAuthenticationIsRefused(t *testing.T) {
	cfg := config("alice", "bob", "")
	cfg.Trust = Trust{}
	if _, err := NewEndpoint(cfg); !errors.Is(err, ErrNoAuthentication) {
		t.Errorf("without any trust: %v", err)
	}
	cfg.Trust = Trust{Pins: map[string][]string{"carol": {fingerprintOf(nil)}}}
	if _, err := NewEndpoint(cfg); !errors.Is(err, ErrNoAuthentication) {
		t.Errorf("with another peer's pin: %v", err)
	}
	cfg.Trust = Trust{AllowUnauthenticated: true}
	alice := start(t, cfg)
	cfg = config("bob", "alice", alice.Addr().String())
	cfg.Trust = Trust{AllowUnauthenticated: true}
	bob := start(t, cfg)
	alice.Want("bob", true)
	bob.Want("alice", true)
	alice.accept()
	bob.accept()
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"resource":    func(c *Config) { c.Resource = "" },
		"node":        func(c *Config) { c.Node = "a\nb" },
		"no peers":    func(c *Config) { c.Peers = nil },
		"own name":    func(c *Config) { c.Peers[0].Name = "alice" },
		"twice":       func(c *Config) { c.Peers = append(c.Peers, c.Peers[0]) },
		"timing":      func(c *Config) { c.Timing.PingInt = -1 },
		"hmac":        func(c *Config) { c.Trust.HMACAlg = "rot13" },
		"fingerprint": func(c *Config) { c.Trust.Pins = map[string][]string{"bob": {"sha256:12"}} },
	} {
		cfg := config("alice", "bob", "")
		change(&cfg)
		if _, err := NewEndpoint(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// settled accepts until both sides hold a session that works.
func settled(t *testing.T, alice, bob *node) (a, b *Session) {
	t.Helper()
	a, b = alice.accept(), bob.accept()
	for a.serial != b.serial {
		if a.serial < b.serial {
			done(t, a)
			a = alice.accept()
		} else {
			done(t, b)
			b = bob.accept()
		}
	}
	return a, b
}

func exchange(t *testing.T, a, b *Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, way := range [][2]*Session{{a, b}, {b, a}} {
		if err := way[0].Send(ctx, ack(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := way[1].Recv(ctx, frame.Control); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer that was killed and comes back takes the place of its dead session at once, long before a ping would tell.
func TestRestartReplaces(t *testing.T) {
	for _, names := range [][2]string{{"alice", "bob"}, {"bob", "alice"}} { // the arbiter listens, the other one does
		t.Run(names[0]+" listens", func(t *testing.T) {
			ca := config(names[0], names[1], "")
			ca.Timing.PingInt, ca.Timing.Timeout = time.Hour, time.Hour
			listener := start(t, ca)
			listener.Want(names[1], true)
			cb := config(names[1], names[0], listener.Addr().String())
			plug := &plug{}
			cb.ListenPacket = plug.listen
			dialler := start(t, cb)
			dialler.Want(names[0], true)
			old := listener.accept()
			dialler.accept()
			plug.pull() // nothing gets out any more, not even the farewell
			dialler.stop()

			again := start(t, config(names[1], names[0], listener.Addr().String()))
			again.Want(names[0], true)
			if err := done(t, old); !errors.Is(err, ErrReplaced) {
				t.Errorf("the old session ended with %v", err)
			}
			exchange(t, listener.accept(), again.accept())
		})
	}
}

// A dialler that comes back under another address, without having noticed that its session is gone on the other
// side, and one that noticed earlier than the listener.
func TestChangedAddress(t *testing.T) {
	ca := config("alice", "bob", "")
	ca.Timing.PingInt, ca.Timing.Timeout = time.Hour, time.Hour // alice notices nothing by herself
	alice := start(t, ca)
	alice.Want("bob", true)
	cb := config("bob", "alice", alice.Addr().String())
	plug := &plug{}
	cb.ListenPacket = plug.listen
	cb.Timing.PingInt, cb.Timing.PingTimeout = 100*time.Millisecond, 100*time.Millisecond
	bob := start(t, cb)
	bob.Want("alice", true)
	a, b := alice.accept(), bob.accept()
	plug.pull()
	if err := done(t, b); !errors.Is(err, ErrPingTimeout) {
		t.Errorf("bob's session ended with %v", err)
	}
	plug.mend() // new socket in the old one's place: another source address
	bob.awaitErr(EventListenFailed, net.ErrClosed)
	if err := done(t, a); !errors.Is(err, ErrReplaced) {
		t.Errorf("alice's session ended with %v", err)
	}
	exchange(t, alice.accept(), bob.accept())
}

func TestSendAndRecvHeedContexts(t *testing.T) {
	_, _, a, b := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Recv(ctx, frame.Data); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Recv: %v", err)
	}
	if err := b.Send(ctx, batch(1, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send with a context that had ended: %v", err)
	}
	if err := b.Send(t.Context(), batch(2, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if m, err := a.Recv(t.Context(), frame.Data); err != nil || m.(*frame.Batch).Prev.Num != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := b.Send(t.Context(), &frame.Ping{}); !errors.Is(err, frame.ErrFrame) {
		t.Errorf("a ping from outside: %v", err)
	}
	if err := b.Send(t.Context(), &frame.State{}); !errors.Is(err, frame.ErrFrame) {
		t.Errorf("an invalid message: %v", err)
	}
	exchange(t, a, b)
}

// What concurrent senders send arrives whole, each sender's messages in their order.
func TestOrderUnderConcurrentSenders(t *testing.T) {
	_, _, a, b := pair(t)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for k := range uint64(senders) {
		wg.Go(func() {
			for i := range uint64(each) {
				m := &frame.Query{ID: k<<32 | i, Len: 4096, Digest: 1, Sums: []byte("sums")}
				if err := b.Send(t.Context(), m); err != nil {
					t.Errorf("sender %d: %v", k, err)
					return
				}
			}
		})
	}
	var next [senders]uint64
	for range senders * each {
		m, err := a.Recv(t.Context(), frame.Data)
		if err != nil {
			t.Fatal(err)
		}
		id := m.(*frame.Query).ID
		if k := id >> 32; next[k] != id&0xffffffff {
			t.Fatalf("sender %d: %d where %d is due", k, id&0xffffffff, next[k])
		}
		next[id>>32]++
	}
	wg.Wait()
}

// Sessions come and go many times; no goroutine stays (TestMain) and no session is left over.
func TestFlaps(t *testing.T) {
	alice, bob, a, b := pair(t)
	flaps := 300
	if testing.Short() {
		flaps = 50
	}
	for range flaps {
		bob.Want("alice", false)
		done(t, a)
		done(t, b)
		bob.Want("alice", true)
		a, b = settled(t, alice, bob)
	}
	exchange(t, a, b)
}

// A socket that cannot be opened at first, and one that fails later, are opened again.
func TestListenIsRetried(t *testing.T) {
	cfg := config("alice", "bob", "")
	plug := &plug{failures: 2}
	cfg.ListenPacket = plug.listen
	alice := start(t, cfg)
	alice.awaitErr(EventListenFailed, errPlug)
	if err := alice.LastError("bob"); !errors.Is(err, errPlug) {
		t.Errorf("last error %v", err)
	}
}

func TestAcceptAfterRun(t *testing.T) {
	alice := start(t, config("alice", "bob", ""))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := alice.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody came: %v", err)
	}
	alice.stop()
	if _, err := alice.Accept(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
	if err := alice.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

// plug is a socket that can be pulled: what is written vanishes, and nothing arrives.
type plug struct {
	mu       sync.Mutex
	pulled   bool
	failures int // to listen
	conn     net.PacketConn
}

var errPlug = errors.New("no such interface")

func (p *plug) listen(ctx context.Context, addr string) (net.PacketConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures > 0 {
		p.failures--
		return nil, fmt.Errorf("listen: %w", errPlug)
	}
	pc, err := packet.Listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	p.conn, p.pulled = pc, false
	return &plugged{PacketConn: pc, plug: p}, nil
}

func (p *plug) pull() {
	p.mu.Lock()
	p.pulled = true
	p.mu.Unlock()
}

// mend breaks the pulled socket for good, so that another is opened.
func (p *plug) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.conn.Close()
}

type plugged struct {
	net.PacketConn
	plug *plug
}

// The sizes of buffers do not matter here; quic-go asks for these.
func (c *plugged) SetReadBuffer(int) error  { return nil }
func (c *plugged) SetWriteBuffer(int) error { return nil }

func (c *plugged) out() bool {
	c.plug.mu.Lock()
	defer c.plug.mu.Unlock()
	return c.plug.pulled
}

func (c *plugged) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.out() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

func (c *plugged) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || !c.out() {
			return n, from, err
		}
	}
}
