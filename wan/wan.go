// Package wan is the link between two nodes of a resource: it dials, listens, makes sure of who is at the other end,
// and carries messages over QUIC. It knows nothing of journals and disks.
//
// An Endpoint belongs to one resource on one node. It has one UDP socket, on which it both listens and dials, and at
// most one Session with each peer at any time, whoever dialled. A Session has two ordered lanes, control and data;
// control never waits behind data.
//
// # A session comes up
//
//	dialler                                        listener
//	   | —— QUIC, TLS 1.3, certificates both ways ——> |   pins are checked here, by both
//	   | —— Hello ——————————————————————————————————> |   resource, names, versions, nonce
//	   | <—————————————————————————————————— Hello —— |
//	   | —— Proof ——————————————————————————————————> |   HMAC over both Hellos and the TLS exporter
//	   | <—————————————————————————————————— Proof —— |
//	   | <———————————— Go ——————————————————————————> |   from the arbiter, the node whose name sorts first
//
// Both may dial at the same time. The arbiter alone decides which connection becomes the session and numbers its
// decisions, so that the two sides never disagree, whatever the order in which packets arrive.
//
// The three streams of a connection are opened by the dialler, in this order: the handshake's, which carries pings
// once the session is up; control; data.
package wan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
	"unicode"
	"unicode/utf8"

	"drship/wan/fec"
	"drship/wan/frame"
)

// Peer is the node at the other end.
type Peer struct {
	Name string // its node name, as it calls itself
	Addr string // host:port, resolved again for each dial; empty where only the peer can dial
}

// Timing holds DRBD's timers of a connection. What is zero takes DRBD's default.
type Timing struct {
	ConnectInt  time.Duration // longest pause between attempts to connect; 10 s
	PingInt     time.Duration // silence after which the peer is asked whether it lives; 10 s
	PingTimeout time.Duration // how long it may take to answer, beside three round trips; 0.5 s
	Timeout     time.Duration // for the handshake, and for silence while an answer is due; 6 s
}

const maxTimer = 24 * time.Hour

func (t Timing) withDefaults() (Timing, error) {
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"connect-int", &t.ConnectInt, 10 * time.Second},
		{"ping-int", &t.PingInt, 10 * time.Second},
		{"ping-timeout", &t.PingTimeout, 500 * time.Millisecond},
		{"timeout", &t.Timeout, 6 * time.Second},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 || *f.v > maxTimer {
			return t, fmt.Errorf("%s of %v is not in 0…%v", f.name, *f.v, maxTimer)
		}
	}
	return t, nil
}

// Config describes an Endpoint.
type Config struct {
	Resource string
	Node     string // this node's name
	Listen   string // host:port
	Peers    []Peer // at most MaxPeers
	Trust    Trust
	Timing   Timing
	Logger   *slog.Logger // nil: none

	// ListenPacket opens the socket; nil opens a UDP socket. A simulation gives its own.
	ListenPacket func(ctx context.Context, addr string) (net.PacketConn, error)
	// MaxStripes is how many connections a session may be spread over, 1…frame.MaxStripes; 1 is the session's own alone. 0: 64.
	MaxStripes int
	// FEC says whether what stripes lose is repaired by parity: fec.Auto where stripes alone do not fill the line.
	FEC fec.Mode
	// stripeSocket opens the socket of a stripe at host:0; nil: stripes share the Endpoint's.
	stripeSocket func(ctx context.Context, addr string) (net.PacketConn, error)

	// Version is the wire version that this side says it speaks; 0: this build's. A simulation makes an older peer with it.
	Version uint8

	// Observe is told of what happens, for the status. It may be called by several goroutines and must neither block nor
	// call back. nil: nobody.
	Observe func(Event)
}

func (c *Config) version() uint8 {
	if c.Version != 0 {
		return c.Version
	}
	return frame.Version
}

// MaxPeers bounds the peers of a resource, as in DRBD 9.
const MaxPeers = 31

const defaultStripes = 64

const maxName = 255 // bytes of a resource's or a node's name

func (c *Config) check() error {
	if err := validName("resource", c.Resource); err != nil {
		return err
	}
	if err := validName("node", c.Node); err != nil {
		return err
	}
	if len(c.Peers) == 0 || len(c.Peers) > MaxPeers {
		return fmt.Errorf("%d peers, there may be 1…%d", len(c.Peers), MaxPeers)
	}
	if c.MaxStripes < 0 || c.MaxStripes > frame.MaxStripes {
		return fmt.Errorf("%d stripes, there may be 1…%d", c.MaxStripes, frame.MaxStripes)
	}
	seen := map[string]bool{c.Node: true}
	for _, p := range c.Peers {
		if err := validName("peer", p.Name); err != nil {
			return err
		}
		if seen[p.Name] {
			return fmt.Errorf("two nodes are called %q", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// validName keeps names to what can be printed: they come from the peer too, and end up in logs.
func validName(what, name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("%s name of %d bytes, it takes 1…%d bytes of UTF-8", what, len(name), maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%s name %q holds what cannot be printed", what, name)
		}
	}
	return nil
}

// EventKind tells events apart.
type EventKind uint8

// The kinds of event.
const (
	EventListening    EventKind = iota + 1 // Addr is the socket's
	EventListenFailed                      // the socket could not be opened, or failed; it is tried again
	EventDialFailed
	EventRejected // somebody at Addr was turned away; Peer is the name it gave, if it is a configured one
	EventConnected
	EventEnded // a session ended; Err says why
)

var eventNames = [...]string{"", "listening", "listen failed", "dial failed", "rejected", "connected", "ended"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something that an Endpoint reports.
type Event struct {
	Kind EventKind
	Peer string
	Addr string
	Err  error
}

var errNoAddress = errors.New("no address")
