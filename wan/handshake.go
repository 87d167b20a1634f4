package wan

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"
)

// The streams of a connection, in the order in which the dialler opens them.
const (
	streamPulse = iota // the handshake, then pings
	streamControl
	streamData
	numStreams
)

// handshake takes one connection from TLS to a session. call and answer are its two sides.
type handshake struct {
	e       *Endpoint
	sock    *socket
	conn    *quic.Conn
	peer    *peer // known from the start by the dialler, from the Hello by the listener
	dialled bool

	streams      [numStreams]*quic.Stream
	mine, theirs []byte // the Hellos as they went over the wire
	peerHello    *hello
}

// peerName is the configured peer that this is about, or empty.
func (h *handshake) peerName() string {
	if h.peer == nil {
		return ""
	}
	return h.peer.name
}

// call is the dialler's side. When it returns nil, the session is installed.
func (h *handshake) call(ctx context.Context, sock *socket) error {
	if err := h.openStreams(ctx); err != nil {
		return fmt.Errorf("open streams: %w", err)
	}
	s0 := h.streams[streamPulse]
	if err := h.sendHello(); err != nil {
		return err
	}
	for i := streamControl; i < numStreams; i++ { // a stream exists for the other side once something came over it
		if _, err := h.streams[i].Write([]byte{byte(i)}); err != nil {
			return fmt.Errorf("open stream %d: %w", i, err)
		}
	}
	if err := h.receiveHello(); err != nil {
		return err
	}
	ours, theirs, err := h.proofs(labelDialler, labelListener, h.mine, h.theirs)
	if err != nil {
		return err
	}
	if err := h.sendProof(ours); err != nil {
		return err
	}
	heard, err := h.receiveProof(theirs)
	if err != nil {
		return err
	}
	if !h.peer.arbiter {
		return h.awaitGo(sock)
	}
	s, err := h.decide(ctx, sock, heard)
	if err != nil {
		return err
	}
	return h.sendGo(s, s0)
}

// answer is the listener's side. It gives nothing away but its Hello before the dialler has proved itself.
func (h *handshake) answer(ctx context.Context, sock *socket) error {
	if err := h.acceptStream(ctx, streamPulse); err != nil {
		return err
	}
	kind, first, err := readEither(h.streams[streamPulse], kindHello, kindJoin)
	if err != nil {
		return fmt.Errorf("receive Hello: %w", err)
	}
	if kind == kindJoin {
		return h.answerJoin(ctx, first)
	}
	if err := h.takeHello(first); err != nil {
		return err
	}
	if err := h.sendHello(); err != nil {
		return err
	}
	theirs, ours, err := h.proofs(labelDialler, labelListener, h.theirs, h.mine)
	if err != nil {
		return err
	}
	heard, err := h.receiveProof(theirs)
	if err != nil {
		return err
	}
	for i := streamControl; i < numStreams; i++ {
		if err := h.acceptLane(ctx, i); err != nil {
			return err
		}
	}
	if !h.peer.arbiter {
		if err := h.sendProof(ours); err != nil {
			return err
		}
		return h.awaitGo(sock)
	}
	s, err := h.decide(ctx, sock, heard)
	if err != nil {
		return err
	}
	if err := h.sendProof(ours); err != nil {
		s.fail(fromQUIC(err))
		return nil
	}
	return h.sendGo(s, h.streams[streamPulse])
}

func (h *handshake) openStreams(ctx context.Context) error {
	for i := range h.streams {
		st, err := h.conn.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		if err := h.prepare(ctx, i, st); err != nil {
			return err
		}
	}
	return nil
}

func (h *handshake) acceptStream(ctx context.Context, i int) error {
	st, err := h.conn.AcceptStream(ctx)
	if err != nil {
		return fmt.Errorf("accept stream %d: %w", i, err)
	}
	return h.prepare(ctx, i, st)
}

// prepare gives a stream its place before others, and the handshake's deadline.
func (h *handshake) prepare(ctx context.Context, i int, st *quic.Stream) error {
	h.streams[i] = st
	st.SetPriority(int8(i), false)
	deadline, _ := ctx.Deadline()
	if err := st.SetDeadline(deadline); err != nil {
		return fmt.Errorf("set deadline of stream %d: %w", i, err)
	}
	return nil
}

func (h *handshake) acceptLane(ctx context.Context, i int) error {
	if err := h.acceptStream(ctx, i); err != nil {
		return err
	}
	var b [1]byte
	if _, err := h.streams[i].Read(b[:]); err != nil {
		return fmt.Errorf("accept stream %d: %w", i, err)
	}
	if b[0] != byte(i) {
		return fmt.Errorf("%w: stream %d calls itself %d", errHandshake, i, b[0])
	}
	return nil
}

func (h *handshake) sendHello() error {
	me := hello{minVersion: h.e.cfg.version(), maxVersion: h.e.cfg.version(), instance: h.e.instance, resource: h.e.cfg.Resource,
		node: h.e.cfg.Node, peer: h.peer.name, alg: h.e.cfg.Trust.HMACAlg}
	if _, err := rand.Read(me.nonce[:]); err != nil {
		return fmt.Errorf("make nonce: %w", err)
	}
	h.mine = me.append(nil)
	if err := writeMessage(h.streams[streamPulse], kindHello, h.mine); err != nil {
		return fmt.Errorf("send Hello: %w", err)
	}
	return nil
}

func (h *handshake) receiveHello() error {
	b, err := readMessage(h.streams[streamPulse], kindHello)
	if err != nil {
		return fmt.Errorf("receive Hello: %w", err)
	}
	return h.takeHello(b)
}

func (h *handshake) takeHello(b []byte) (err error) {
	if h.peerHello, err = decodeHello(b); err != nil {
		return fmt.Errorf("receive Hello: %w", err)
	}
	h.theirs = b
	return h.checkHello(h.peerHello)
}

// checkHello compares what the peer says with the configuration. What the peer is told holds only what it said itself.
func (h *handshake) checkHello(p *hello) error {
	cfg := &h.e.cfg
	switch {
	case p.minVersion > cfg.version() || p.maxVersion < cfg.version():
		return refuse(ErrVersion, fmt.Sprintf("this side speaks %d", cfg.version()),
			"the peer speaks %d…%d, this side %d", p.minVersion, p.maxVersion, cfg.version())
	case p.resource != cfg.Resource:
		return refuse(ErrResource, fmt.Sprintf("%q is not served here", p.resource),
			"the peer's is %q, this side's %q", p.resource, cfg.Resource)
	case p.peer != cfg.Node:
		return refuse(ErrName, fmt.Sprintf("this node is not %q", p.peer),
			"the peer looks for %q, this is %q", p.peer, cfg.Node)
	case h.peer != nil && p.node != h.peer.name:
		return refuse(ErrName, fmt.Sprintf("%q is not who was dialled", p.node),
			"%q was dialled, the peer is %q", h.peer.name, p.node)
	}
	if h.peer == nil {
		if h.peer = h.e.peers[p.node]; h.peer == nil {
			return refuse(ErrName, fmt.Sprintf("%q is not a peer of this node", p.node),
				"%q is not a peer of this resource", p.node)
		}
	}
	if p.alg != cfg.Trust.HMACAlg {
		return refuse(ErrAuth, "shared-secret or cram-hmac-alg differ",
			"cram-hmac-alg is %q at the peer and %q here", p.alg, cfg.Trust.HMACAlg)
	}
	if err := cfg.Trust.checkPin(h.peer.name, h.conn.ConnectionState().TLS); err != nil {
		return &refusal{err: err, tell: fmt.Sprintf("the certificate is not pinned for %q", p.node)}
	}
	return h.e.checkWanted(h.peer)
}

func (e *Endpoint) checkWanted(p *peer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.wanted {
		return nil
	}
	return refuse(ErrNotWanted, "disconnected by the administrator", "%s is not to be connected", p.name)
}

// proofs computes what each side has to show.
func (h *handshake) proofs(labelD, labelL string, helloD, helloL []byte) (dialler, listener []byte, err error) {
	t := &h.e.cfg.Trust
	ekm, err := exporter(h.conn.ConnectionState().TLS, exporterLabel)
	if err != nil {
		return nil, nil, err
	}
	return t.proof(labelD, helloD, helloL, ekm), t.proof(labelL, helloD, helloL, ekm), nil
}

func (h *handshake) sendProof(mac []byte) error {
	p := proof{mac: mac, held: h.e.held(h.peer)}
	if err := writeMessage(h.streams[streamPulse], kindProof, p.append(nil)); err != nil {
		return fmt.Errorf("send proof: %w", err)
	}
	return nil
}

func (h *handshake) receiveProof(want []byte) (held, error) {
	b, err := readMessage(h.streams[streamPulse], kindProof)
	if err != nil {
		return held{}, fmt.Errorf("receive proof: %w", err)
	}
	p, err := decodeProof(b)
	if err != nil {
		return held{}, fmt.Errorf("receive proof: %w", err)
	}
	if !hmac.Equal(p.mac, want) {
		return held{}, refuse(ErrAuth, "shared-secret or cram-hmac-alg differ", "%s does not know the shared-secret", h.peer.name)
	}
	return p.held, nil
}

// decide puts the arbiter's question and makes the session.
func (h *handshake) decide(ctx context.Context, sock *socket, heard held) (*Session, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s, err := h.session()
	if err != nil {
		return nil, err
	}
	return s, h.e.decide(sock, h.peer, s, heard)
}

// sendGo tells the other side of the decision. The session is installed by now: what fails here ends it.
func (h *handshake) sendGo(s *Session, st *quic.Stream) error {
	if err := writeMessage(st, kindGo, binary.BigEndian.AppendUint64(nil, s.serial)); err != nil {
		s.fail(fmt.Errorf("send Go: %w", fromQUIC(err)))
		return nil
	}
	s.startPulse()
	return nil
}

// awaitGo waits for the arbiter's decision and obeys it.
func (h *handshake) awaitGo(sock *socket) error {
	b, err := readMessage(h.streams[streamPulse], kindGo)
	if err != nil {
		return fmt.Errorf("receive Go: %w", err)
	}
	serial, err := decodeGo(b)
	if err != nil {
		return fmt.Errorf("receive Go: %w", err)
	}
	s, err := h.session()
	if err != nil {
		return err
	}
	if err := h.e.obey(sock, h.peer, s, serial); err != nil {
		return err
	}
	s.startPulse()
	return nil
}

// session makes a session of the connection; it is nobody's yet.
func (h *handshake) session() (*Session, error) {
	for i, st := range h.streams {
		if err := st.SetDeadline(time.Time{}); err != nil {
			return nil, fmt.Errorf("clear deadline of stream %d: %w", i, err)
		}
	}
	h.leaveGate()
	s := newSession(h.conn, h.streams, h.peer.name, h.dialled, h.peerHello.instance, h.e.cfg.Timing)
	key, err := exporter(h.conn.ConnectionState().TLS, exporterJoin)
	if err != nil {
		return nil, err
	}
	s.spread = newSpread(s, h.e, h.sock, h.peer, key)
	return s, nil
}

// leaveGate makes room for the next stranger.
func (h *handshake) leaveGate() {
	if leave, ok := h.conn.Context().Value(gateKey{}).(func()); ok {
		leave()
	}
}
