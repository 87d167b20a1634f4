package wan

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
)

// stranger is a raw QUIC socket that speaks our ALPN and whatever a test makes it say.
type stranger struct {
	t  *testing.T
	tr *quic.Transport
	e  *Endpoint // for its configuration; never run
}

func newStranger(t *testing.T, cfg Config) *stranger {
	t.Helper()
	e, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := e.cfg.ListenPacket(t.Context(), cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{t: t, tr: &quic.Transport{Conn: pc}, e: e}
	t.Cleanup(func() {
		_ = s.tr.Close()
		_ = pc.Close()
	})
	return s
}

// dial opens a connection and its first stream, without a word.
func (s *stranger) dial(to string) (*quic.Conn, *quic.Stream) {
	s.t.Helper()
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		s.t.Fatal(err)
	}
	if v4 := addr.IP.To4(); v4 != nil {
		addr.IP = v4
	}
	conn, err := s.tr.Dial(s.t.Context(), addr, s.e.cfg.Trust.dialConfig("alice"), &quic.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	st, err := conn.OpenStreamSync(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn, st
}

// closedWith waits until the other side closes the connection and checks the code.
func closedWith(t *testing.T, conn *quic.Conn, want quic.ApplicationErrorCode) {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(patience):
		t.Fatal("the connection stays open")
	}
	var app *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != want {
		t.Errorf("closed with %v, want code %d", err, want)
	}
}

// bobCalls runs the dialler's side of a handshake as bob would, recording what it sent.
func (s *stranger) bobCalls(to string) (conn *quic.Conn, helloSent, proofSent []byte) {
	s.t.Helper()
	conn, st := s.dial(to)
	h := &handshake{e: s.e, conn: conn, peer: s.e.peers["alice"], dialled: true}
	h.streams[streamPulse] = st
	if err := h.sendHello(); err != nil {
		s.t.Fatal(err)
	}
	s.e.Want("alice", true)
	if err := h.receiveHello(); err != nil {
		s.t.Fatal(err)
	}
	ours, theirs, err := h.proofs(labelDialler, labelListener, h.mine, h.theirs)
	if err != nil {
		s.t.Fatal(err)
	}
	p := proof{mac: ours}
	proofSent = p.append(nil)
	if err := writeMessage(st, kindProof, proofSent); err != nil {
		s.t.Fatal(err)
	}
	for i := streamControl; i < numStreams; i++ {
		lane, err := conn.OpenStreamSync(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := lane.Write([]byte{byte(i)}); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := h.receiveProof(theirs); err != nil {
		s.t.Fatal(err)
	}
	return conn, h.mine, proofSent
}

// A handshake that was right once is worth nothing the second time.
func TestReplayedHandshake(t *testing.T) {
	alice := start(t, config("alice", "bob", ""))
	alice.Want("bob", true)
	addr := alice.Addr().String()
	bob := newStranger(t, config("bob", "alice", addr))
	conn, helloSent, proofSent := bob.bobCalls(addr)
	session := alice.accept()
	closeQuietly(conn)
	done(t, session)

	mallory := newStranger(t, config("bob", "alice", addr))
	conn, st := mallory.dial(addr)
	for _, m := range []struct {
		kind byte
		body []byte
	}{{kindHello, helloSent}, {kindProof, proofSent}} {
		if err := writeMessage(st, m.kind, m.body); err != nil {
			t.Fatal(err)
		}
	}
	closedWith(t, conn, codeAuth)
	alice.awaitErr(EventRejected, ErrAuth)
}

func closeQuietly(c *quic.Conn) { _ = c.CloseWithError(0, "") }

// A man in the middle terminates TLS on both sides and passes every byte of the handshake on. Both sides see it.
func TestManInTheMiddle(t *testing.T) {
	alice := start(t, config("alice", "bob", ""))
	alice.Want("bob", true)
	mallory := newStranger(t, config("mallory", "alice", ""))
	ln, err := mallory.tr.Listen(mallory.e.cfg.Trust.listenConfig(func(string, error) {}), &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		in, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		fromBob, err := in.AcceptStream(ctx)
		if err != nil {
			return
		}
		out, toAlice := mallory.dial(alice.Addr().String())
		context.AfterFunc(ctx, func() { closeQuietly(in); closeQuietly(out) })
		wg.Go(func() { _, _ = io.Copy(toAlice, fromBob) })
		wg.Go(func() { _, _ = io.Copy(fromBob, toAlice) })
		<-out.Context().Done()
	})
	bob := start(t, config("bob", "alice", mallory.tr.Conn.LocalAddr().String()))
	bob.Want("alice", true)
	alice.awaitErr(EventRejected, ErrAuth)
	select {
	case <-alice.arrived:
		t.Error("alice took the middle man for bob")
	case <-bob.arrived:
		t.Error("bob took the middle man for alice")
	default:
	}
}

// Sending back what one received proves nothing: the two directions have different labels.
func TestProofsAreNotReflected(t *testing.T) {
	tr := Trust{HMACAlg: "sha1", Secret: "s"}
	d, l, ekm := []byte("dialler"), []byte("listener"), []byte("exporter")
	seen := map[string]string{}
	for name, mac := range map[string][]byte{
		"dialler":          tr.proof(labelDialler, d, l, ekm),
		"listener":         tr.proof(labelListener, d, l, ekm),
		"other connection": tr.proof(labelDialler, d, l, []byte("another")),
		"other hello":      tr.proof(labelDialler, d, []byte("another"), ekm),
		"shifted":          tr.proof(labelDialler, []byte("diallerl"), []byte("istener"), ekm),
		"other secret":     Trust{HMACAlg: "sha1", Secret: "t"}.proof(labelDialler, d, l, ekm),
		"other algorithm":  Trust{HMACAlg: "md5", Secret: "s"}.proof(labelDialler, d, l, ekm),
	} {
		if other, ok := seen[string(mac)]; ok || len(mac) == 0 {
			t.Errorf("%s and %s have the same proof", name, other)
		}
		seen[string(mac)] = name
	}
}

// A peer that takes the connection and hangs is given up after timeout, on either side; bob tries again and finds
// alice once she is back.
func TestHangingPeer(t *testing.T) {
	simulate(t, time.Millisecond, 0, func(t *testing.T, w *world) {
		hung := newStranger(t, w.config("alice", "bob", aliceAddr, ""))
		ln, err := hung.tr.Listen(hung.e.cfg.Trust.listenConfig(func(string, error) {}), &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		bob := start(t, w.config("bob", "alice", bobAddr, aliceAddr))
		began := time.Now()
		bob.Want("alice", true)
		if _, err := ln.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}
		bob.awaitErr(EventDialFailed, ErrTimeout)
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("noticed after %v", took)
		}
		conn, _ := hung.dial(bobAddr) // and says nothing
		bob.awaitErr(EventRejected, ErrTimeout)
		closedWith(t, conn, codeTimeout)
	})
}

// Garbage in the place of each message of the handshake closes the connection and leaves nothing behind.
func TestGarbageInHandshake(t *testing.T) {
	alice := start(t, config("alice", "bob", ""))
	alice.Want("bob", true)
	s := newStranger(t, config("bob", "alice", ""))
	good := hello{minVersion: frame.Version, maxVersion: frame.Version, resource: "r0", node: "bob", peer: "alice", alg: "sha256"}
	future := good
	future.minVersion, future.maxVersion = frame.Version+1, 9
	tooLong := append([]byte{kindHello, 0xff, 0xff}, make([]byte, 3000)...)
	message := func(kind byte, body []byte) []byte {
		return append([]byte{kind, byte(len(body) >> 8), byte(len(body))}, body...)
	}
	for name, c := range map[string]struct {
		say  []byte
		want quic.ApplicationErrorCode
	}{
		"noise":            {bytes.Repeat([]byte("noise"), 1000), codeProtocol},
		"length":           {tooLong, codeProtocol},
		"empty hello":      {message(kindHello, nil), codeProtocol},
		"proof first":      {message(kindProof, (&proof{}).append(nil)), codeProtocol},
		"version":          {message(kindHello, future.append(nil)), codeVersion},
		"no proof":         {append(message(kindHello, good.append(nil)), message(kindProof, (&proof{}).append(nil))...), codeAuth},
		"garbage proof":    {append(message(kindHello, good.append(nil)), message(kindProof, []byte("x"))...), codeProtocol},
		"go without proof": {append(message(kindHello, good.append(nil)), message(kindGo, make([]byte, 8))...), codeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			conn, st := s.dial(alice.Addr().String())
			var closed *quic.ApplicationError // alice may have heard enough before all of it was said
			if _, err := st.Write(c.say); err != nil && !errors.As(err, &closed) {
				t.Fatal(err)
			}
			closedWith(t, conn, c.want)
		})
	}
	select {
	case <-alice.arrived:
		t.Error("a session came up")
	default:
	}
}

// Datagrams of noise, and truncated and flipped real ones, do not disturb a session.
func TestGarbageDatagrams(t *testing.T) {
	alice, _, a, b := pair(t)
	c, err := net.Dial("udp", alice.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 2000 {
		p := make([]byte, 1+i%1400)
		if _, err := rand.Read(p); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // a long header of QUIC 1
			p[0] |= 0xc0
			if len(p) > 5 {
				binary.BigEndian.PutUint32(p[1:], 1)
			}
		}
		_, _ = c.Write(p) // the kernel may refuse some
	}
	exchange(t, a, b)
}

// A crowd of strangers that say nothing is bounded, and does not keep the peer out for good.
func TestCrowd(t *testing.T) {
	cfg := config("alice", "bob", "")
	cfg.Timing.Timeout = time.Second
	alice := start(t, cfg)
	alice.Want("bob", true)
	s := newStranger(t, config("bob", "alice", ""))
	to, err := net.ResolveUDPAddr("udp", alice.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range maxStrangersFromIP + 5 {
		conn, err := s.tr.Dial(t.Context(), to, s.e.cfg.Trust.dialConfig("alice"), &quic.Config{})
		var transport *quic.TransportError
		switch {
		case err == nil:
			defer closeQuietly(conn)
		case errors.As(err, &transport) && transport.ErrorCode == quic.ConnectionRefused:
			refused++
		default:
			t.Fatal(err)
		}
	}
	if refused != 5 {
		t.Errorf("%d were refused", refused)
	}
	bob := start(t, config("bob", "alice", alice.Addr().String()))
	bob.Want("alice", true)
	alice.accept()
	bob.accept()
}

// An authenticated peer that breaks the rules loses its session; a length that lies costs no memory.
func TestProtocolViolations(t *testing.T) {
	head := func(ty frame.Type) []byte { return frame.Append(nil, &frame.Ping{}) }
	for name, c := range map[string]struct {
		stream int
		say    []byte
		lane   frame.Lane
	}{
		"noise on control":  {streamControl, bytes.Repeat([]byte{7}, 100), frame.Control},
		"noise on data":     {streamData, bytes.Repeat([]byte{7}, 100), frame.Data},
		"data on control":   {streamControl, frame.Append(nil, &frame.ResyncEnd{}), frame.Control},
		"ping on control":   {streamControl, head(frame.TypePing), frame.Control},
		"ack among pings":   {streamPulse, frame.Append(nil, &frame.Ack{}), frame.Control},
		"noise among pings": {streamPulse, bytes.Repeat([]byte{7}, 100), frame.Control},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, a, b := pair(t)
			st := map[int]*quic.Stream{streamPulse: b.pulse, streamControl: b.lanes[frame.Control].stream, streamData: b.lanes[frame.Data].stream}[c.stream]
			if _, err := st.Write(c.say); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Recv(t.Context(), c.lane); !errors.Is(err, ErrProtocol) {
				t.Errorf("Recv: %v", err)
			}
			if err := done(t, b); !errors.Is(err, ErrProtocol) {
				t.Errorf("the other side: %v", err)
			}
		})
	}
}

// Fifty strangers that come and go leave no goroutine behind (TestMain sees to it) and no count in the gate.
func TestGateEmpties(t *testing.T) {
	g := newGate()
	ctx, cancel := context.WithCancel(t.Context())
	addr := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
	for i := range maxStrangersFromIP {
		admitted, err := g.admit(ctx, &quic.ClientInfo{RemoteAddr: addr})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			leave := admitted.Value(gateKey{}).(func())
			leave()
			leave() // leaves once only
		}
	}
	if g.total != maxStrangersFromIP/2 || !g.crowded(addr) {
		t.Errorf("%d inside", g.total)
	}
	cancel()
	for { // the rest leave by themselves
		g.mu.Lock()
		total := g.total
		g.mu.Unlock()
		if total == 0 {
			break
		}
		runtime.Gosched()
	}
	if len(g.from) != 0 {
		t.Errorf("addresses left: %v", g.from)
	}
	for i := range maxStrangers {
		if _, err := g.admit(t.Context(), &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(10, 0, 1, byte(i)), Port: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.admit(t.Context(), &quic.ClientInfo{RemoteAddr: addr}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
}
