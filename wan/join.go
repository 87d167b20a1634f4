package wan

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"
)

// A stripe is a connection that joins a session:
//
//	dialler of the session                         the other side
//	   | —— QUIC, TLS 1.3, certificates both ways ——> |   pins are checked here, by both
//	   | —— Join ———————————————————————————————————> |   session, stripe, flags, HMAC
//	   | <————————————————————————————————— Joined —— |   flags, HMAC
//
// The HMACs are keyed by an exporter of the session's first connection, which only its two ends know, and cover an
// exporter of the new one: what was recorded elsewhere proves nothing here, and nobody can stand in between.

// The streams of a stripe, in the order in which the dialler opens them.
const (
	streamAcks = iota // the handshake, then acknowledgements
	streamFragments
	numStripeStreams
)

const (
	labelSession       = "drship/1 stripes of a session"
	labelJoin          = "drship/1 join of a stripe"
	labelJoined        = "drship/1 a stripe has joined"
	sessionIDSize      = 16
	joinSize           = sessionIDSize + 2 + 1 + sha256.Size
	joinedSize         = 1 + sha256.Size
	joinParity         = 1 // flag: what this stripe loses may be repaired; both sides have to say so
	maxJoiningAtOnce   = 8 // dials of stripes under way
	firstJoinPause     = 250 * time.Millisecond
	longestJoinPause   = 30 * time.Second
	hopelessJoins      = 4 // failures in a row, with no stripe up, after which a session goes without
	withoutStripesTime = 10 * time.Minute
)

// joinMAC is the proof of one side, over the parts that both know.
func joinMAC(key []byte, label string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range append([][]byte{[]byte(label)}, parts...) {
		mac.Write([]byte{byte(len(part) >> 8), byte(len(part))})
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// sessionID names a session to its peer. It says nothing of the key.
func sessionID(key []byte) (id [sessionIDSize]byte) {
	copy(id[:], joinMAC(key, labelSession))
	return id
}

// callJoin is the dialler's side. The streams it returns have no deadlines.
func (x *spread) callJoin(ctx context.Context, conn *quic.Conn, stripe uint16) (st [numStripeStreams]*quic.Stream, parity bool, err error) {
	ekm, err := exporter(conn.ConnectionState().TLS, exporterLabel)
	if err != nil {
		return st, false, err
	}
	for i := range st {
		if st[i], err = conn.OpenStreamSync(ctx); err != nil {
			return st, false, fmt.Errorf("open streams: %w", err)
		}
		deadline, _ := ctx.Deadline()
		if err := st[i].SetDeadline(deadline); err != nil {
			return st, false, fmt.Errorf("set deadline of stream %d: %w", i, err)
		}
	}
	head := append(binary.BigEndian.AppendUint16(append(make([]byte, 0, joinSize), x.id[:]...), stripe), x.joinFlags())
	if err := writeMessage(st[streamAcks], kindJoin, append(head, joinMAC(x.key, labelJoin, head, ekm)...)); err != nil {
		return st, false, fmt.Errorf("send Join: %w", err)
	}
	if _, err := st[streamFragments].Write([]byte{streamFragments}); err != nil { // the stream exists for the other side from here on
		return st, false, fmt.Errorf("open stream %d: %w", streamFragments, err)
	}
	b, err := readMessage(st[streamAcks], kindJoined)
	if err != nil {
		return st, false, fmt.Errorf("receive Joined: %w", err)
	}
	if len(b) != joinedSize || !hmac.Equal(b[1:], joinMAC(x.key, labelJoined, head, b[:1], ekm)) {
		return st, false, fmt.Errorf("%w: the other end of a stripe is not that of the session", ErrAuth)
	}
	return st, b[0]&x.joinFlags()&joinParity != 0, clearDeadlines(st)
}

// joinFlags is what this side says of a stripe.
func (x *spread) joinFlags() byte {
	if x.forward == nil {
		return 0
	}
	return joinParity
}

func clearDeadlines(st [numStripeStreams]*quic.Stream) error {
	for i := range st {
		if err := st[i].SetDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear deadline of stream %d: %w", i, err)
		}
	}
	return nil
}

// answerJoin is the listener's side: the connection begins with a Join.
func (h *handshake) answerJoin(ctx context.Context, join []byte) error {
	if len(join) != joinSize {
		return fmt.Errorf("%w: a Join of %d bytes", errHandshake, len(join))
	}
	head, mac := join[:joinSize-sha256.Size], join[joinSize-sha256.Size:]
	x := h.e.sessionOf([sessionIDSize]byte(head))
	if x == nil {
		return refuse(ErrAuth, "there is no such session", "a stripe of a session that is not known here")
	}
	tls := h.conn.ConnectionState().TLS
	ekm, err := exporter(tls, exporterLabel)
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, joinMAC(x.key, labelJoin, head, ekm)) {
		return refuse(ErrAuth, "there is no such session", "a stripe that does not know the key of the session with %s", x.s.peer)
	}
	if err := h.e.cfg.Trust.checkPin(x.s.peer, tls); err != nil {
		return &refusal{err: err, tell: "the certificate is not pinned"}
	}
	if err := h.acceptLane(ctx, streamFragments); err != nil {
		return err
	}
	id := int(binary.BigEndian.Uint16(head[sessionIDSize:]))
	if err := x.admits(id); err != nil {
		return err
	}
	flags := []byte{x.joinFlags()}
	if err := writeMessage(h.streams[streamAcks], kindJoined, append(flags, joinMAC(x.key, labelJoined, head, flags, ekm)...)); err != nil {
		return fmt.Errorf("send Joined: %w", err)
	}
	st := [numStripeStreams]*quic.Stream{h.streams[streamAcks], h.streams[streamFragments]}
	if err := clearDeadlines(st); err != nil {
		return err
	}
	h.leaveGate()
	x.add(&stripeConn{id: id, conn: h.conn, acks: st[streamAcks], fragments: st[streamFragments], parity: flags[0]&head[sessionIDSize+2]&joinParity != 0})
	return nil
}

// sessionOf finds the living session of that name, nil where there is none.
func (e *Endpoint) sessionOf(id [sessionIDSize]byte) *spread {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if s := p.current; s != nil && s.spread.id == id && s.Err() == nil {
			return s.spread
		}
	}
	return nil
}
