package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"drship/bench/pair"
	"drship/wan"
)

// stranger reaches the link's port of a node, and knows no secret.
type stranger struct {
	t  *testing.T
	to string
	tr *quic.Transport

	certificate tls.Certificate // his own, which nobody has signed
}

// gate of the link: how long a stranger may stay (the timeouts of pair.QuickTiming, with room for a busy machine), and how much he may say meanwhile.
const (
	strangerTime  = 15 * time.Second
	strangerBytes = 4 << 20
)

func newStranger(t *testing.T, n *pair.Node, p *pair.Pair) *stranger {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, _, err := wan.GenerateIdentity("alice")
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{t: t, to: p.Address(n.Name).String(), tr: &quic.Transport{Conn: c}, certificate: own}
	t.Cleanup(func() {
		_ = s.tr.Close()
		_ = c.Close()
	})
	return s
}

// dial makes a connection with the link's protocol name, or another.
func (s *stranger) dial(ctx context.Context, protocol string) (*quic.Conn, error) {
	to, err := net.ResolveUDPAddr("udp4", s.to)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, ServerName: "drship",
		Certificates: []tls.Certificate{s.certificate}},
		&quic.Config{EnableDatagrams: true, MaxIdleTimeout: time.Minute, KeepAlivePeriod: time.Second})
}

// ended wants the node to end the connection.
func (s *stranger) ended(c *quic.Conn) {
	s.t.Helper()
	select {
	case <-c.Context().Done():
	case <-time.After(strangerTime):
		s.t.Error("the stranger is still there")
	}
	_ = c.CloseWithError(0, "")
}

// attacks of strangers. Each returns when the node has ended it, or has had enough.
var attacks = []struct {
	name string
	play func(s *stranger)
}{
	{"noise", func(s *stranger) { s.noise(20_000, false) }},
	{"beginnings of connections that lead nowhere", func(s *stranger) { s.noise(20_000, true) }},
	{"another protocol", func(s *stranger) {
		if c, err := s.dial(s.t.Context(), "h3"); err == nil {
			s.t.Error("a connection with another protocol was made")
			_ = c.CloseWithError(0, "")
		}
	}},
	{"silence", func(s *stranger) { s.ended(s.must()) }},
	{"a byte now and then", slowly},
	{"a stream without end", func(s *stranger) { s.pour(0) }},
	{"messages without end", func(s *stranger) { s.pour(200) }},
	{"a message that claims 64 KiB", func(s *stranger) {
		c := s.must()
		st, err := c.OpenStreamSync(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		_, _ = st.Write([]byte{1, 0xff, 0xff})
		s.ended(c)
	}},
	{"streams without end", streams},
	{"a crowd", crowd},
}

func (s *stranger) must() *quic.Conn {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), strangerTime)
	defer cancel()
	for {
		c, err := s.dial(ctx, "drship/1")
		if err == nil {
			return c
		}
		var refused *quic.TransportError
		if ctx.Err() != nil || !errors.As(err, &refused) { // those before may still be leaving
			s.t.Fatal(err)
		}
	}
}

// noise sends datagrams: random ones, or such that begin as a first packet of QUIC 1 does.
func (s *stranger) noise(count int, initial bool) {
	c, err := net.Dial("udp4", s.to)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	rng := rand.NewChaCha8([32]byte{1})
	p := make([]byte, 1252)
	for i := range count {
		_, _ = rng.Read(p)
		if initial {
			p[0] = 0xc3
			binary.BigEndian.PutUint32(p[1:], 1)
			p[5], p[14], p[23] = 8, 8, 0               // lengths of the identifiers and of the token
			binary.BigEndian.PutUint16(p[24:], 0x44c0) // length of what follows
		}
		n := len(p)
		if !initial {
			n = 1 + i%len(p)
		}
		_, _ = c.Write(p[:n]) // what the system refuses is not an attack
	}
}

// slowly dribbles; no byte may buy more time.
func slowly(s *stranger) {
	c := s.must()
	st, err := c.OpenStreamSync(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for _, b := range append([]byte{1, 2, 88}, make([]byte, 600)...) {
			if _, err := st.Write([]byte{b}); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-c.Context().Done():
				return
			}
		}
	})
	s.ended(c)
	writer.Wait()
}

// pour writes until the node hangs up: zeroes, or messages of a length.
func (s *stranger) pour(length int) {
	c := s.must()
	st, err := c.OpenStreamSync(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	piece := make([]byte, 64<<10)
	if length > 0 {
		message := append([]byte{1, byte(length >> 8), byte(length)}, make([]byte, length)...)
		piece = bytes.Repeat(message, 300)
	}
	sent := 0
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			n, err := st.Write(piece)
			if sent += n; err != nil || sent > 1<<30 {
				return
			}
		}
	})
	s.ended(c)
	writer.Wait()
	if sent > strangerBytes {
		s.t.Errorf("the node took %d bytes of a stranger", sent)
	}
}

// streams opens as many as it gets.
func streams(s *stranger) {
	c := s.must()
	opened := 0
	for range 10_000 {
		st, err := c.OpenStream()
		if err != nil {
			break
		}
		_, _ = st.Write([]byte{1})
		opened++
	}
	if opened > 16 {
		s.t.Errorf("a stranger may open %d streams", opened)
	}
	if _, err := c.OpenUniStream(); err == nil {
		s.t.Error("a stranger may open a stream of one direction")
	}
	if err := c.SendDatagram([]byte("x")); err == nil {
		s.t.Error("a stranger may send datagrams")
	}
	s.ended(c)
}

// crowd comes with 200 at once, who say nothing.
func crowd(s *stranger) {
	var all sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 200 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(s.t.Context(), strangerTime)
			defer cancel()
			c, err := s.dial(ctx, "drship/1")
			if err != nil {
				return
			}
			mu.Lock()
			in++
			mu.Unlock()
			<-c.Context().Done()
		})
	}
	all.Wait()
	s.t.Logf("%d of 200 were let in, for a while", in)
}

// TestStrangers: whoever reaches the link's port may try what he likes. The session goes on, and a new one can be made at once.
func TestStrangers(t *testing.T) {
	v := newVictim(t, pair.Options{})
	if err := v.pair.WaitUpToDate(v.ctx); err != nil {
		t.Fatal(err)
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			a.play(newStranger(t, v.alice, v.pair))
			v.unharmed(t)
			if s, err := v.alice.Status(v.ctx); err != nil || !s.Connected() {
				t.Errorf("the peer is gone: %v, %v", s, err)
			}
		})
	}
	bob := v.pair.Node("bob")
	for _, verb := range []string{"disconnect", "connect"} {
		if _, err := bob.Verb(v.ctx, verb, pair.Resource); err != nil {
			t.Fatal(err)
		}
	}
	v.equal()
}
