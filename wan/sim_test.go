package wan

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marcopolo/simnet"

	"drship/wan/fec"
	"drship/wan/frame"
)

// world is a simulated network in virtual time, with a line that can be cut and that loses packets.
type world struct {
	t   *testing.T
	net *simnet.Simnet

	stripes int  // MaxStripes of the nodes
	own     bool // stripes have sockets of their own
	fec     fec.Mode
	rate    int // of each node's line, Mibit/s; 0: 100

	mu   sync.Mutex
	rng  *rand.Rand
	cut  bool
	loss float64

	victim net.Addr                // a socket whose packets vanish, both ways
	names  map[string]*net.UDPAddr // of sockets, as others see them, where it is not their own
	ports  uint16                  // of stripes' sockets, given away
	plugs  sync.Mutex              // simnet takes one new endpoint at a time
}

// simulate runs fn in virtual time, on a network with that delay one way and up to as much jitter.
func simulate(t *testing.T, delay, jitter time.Duration, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2))}
		w.net = &simnet.Simnet{Logger: slog.New(slog.DiscardHandler), LatencyFunc: func(*simnet.Packet) time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			return delay + time.Duration(w.rng.Int64N(int64(jitter)+1))
		}}
		w.net.Start()
		t.Cleanup(w.net.Close) // after the endpoints, which are started later
		fn(t, w)
	})
}

func (w *world) set(cut bool, loss float64) {
	w.mu.Lock()
	w.cut, w.loss = cut, loss
	w.mu.Unlock()
}

func (w *world) drops() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut || w.loss > 0 && w.rng.Float64() < w.loss
}

func (w *world) lost(a net.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.victim != nil && w.victim.String() == a.String()
}

// rename has the others see a socket's packets come from another host, and no more from its own.
func (w *world) rename(socket net.Addr, host string) {
	own := socket.(*net.UDPAddr)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = map[string]*net.UDPAddr{own.String(): {IP: net.ParseIP(host).To4(), Port: own.Port}}
}

// seen is the address that others see for a socket's; meant is the way back.
func (w *world) seen(a net.Addr) net.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.names[a.String()]; n != nil {
		return n
	}
	return a
}

func (w *world) meant(a net.Addr) net.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	for own, n := range w.names {
		switch a.String() {
		case n.String():
			return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(own))
		case own:
			return nil // nobody is there any more
		}
	}
	return a
}

// listenAny opens a socket for a stripe.
func (w *world) listenAny(ctx context.Context, addr string) (net.PacketConn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.ports++
	port := 10_000 + w.ports
	w.mu.Unlock()
	return w.listen(ctx, net.JoinHostPort(host, strconv.Itoa(int(port))))
}

// listen is a ListenPacket for ip:port addresses.
func (w *world) listen(_ context.Context, addr string) (net.PacketConn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	udp := net.UDPAddrFromAddrPort(ap) // in four bytes, as the dialler has it: simnet tells the forms apart
	rate := w.rate
	if rate == 0 {
		rate = 100
	}
	link := simnet.LinkSettings{BitsPerSecond: rate * simnet.Mibps}
	w.plugs.Lock()
	defer w.plugs.Unlock()
	return &simConn{SimConn: w.net.NewEndpoint(udp, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}), w: w}, nil
}

type simConn struct {
	*simnet.SimConn
	w *world
}

func (c *simConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.w.drops() || c.w.lost(c.LocalAddr()) || c.w.lost(to) {
		return len(b), nil
	}
	if to = c.w.meant(to); to == nil {
		return len(b), nil
	}
	return c.SimConn.WriteTo(b, to)
}

func (c *simConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.SimConn.ReadFrom(b)
	if err == nil {
		from = c.w.seen(from)
	}
	if errors.Is(err, simnet.ErrDeadlineExceeded) {
		err = os.ErrDeadlineExceeded // as net.PacketConn promises
	}
	return n, from, err
}

const (
	aliceAddr = "1.0.0.1:7788"
	bobAddr   = "1.0.0.2:7788"
)

// config is for a node that dials its peer, with DRBD's timers.
func (w *world) config(name, peer, addr, peerAddr string) Config {
	c := config(name, peer, peerAddr)
	c.Listen, c.ListenPacket, c.Timing, c.MaxStripes = addr, w.listen, Timing{}, w.stripes
	c.FEC = w.fec
	if w.own {
		c.stripeSocket = w.listenAny
	}
	return c
}

// pair starts alice and bob, both dialling.
func (w *world) pair() (alice, bob *node) {
	return start(w.t, w.config("alice", "bob", aliceAddr, bobAddr)), start(w.t, w.config("bob", "alice", bobAddr, aliceAddr))
}

func (w *world) connected() (alice, bob *node, a, b *Session) {
	alice, bob = w.pair()
	alice.Want("bob", true)
	bob.Want("alice", true)
	a, b = settled(w.t, alice, bob)
	return alice, bob, a, b
}

// Both dial at about the same time, a hundred times over: one session each time, the same one on both sides.
func TestSimultaneousDial(t *testing.T) {
	simulate(t, 5*time.Millisecond, 3*time.Millisecond, func(t *testing.T, w *world) {
		alice, bob := w.pair()
		dialledByAlice := 0
		for i := range 100 {
			var both sync.WaitGroup
			lead := time.Duration(rand.Int64N(int64(60 * time.Millisecond)))
			both.Go(func() { time.Sleep(lead); alice.Want("bob", true) })
			both.Go(func() { time.Sleep(30 * time.Millisecond); bob.Want("alice", true) })
			both.Wait()
			a, b := settled(t, alice, bob)
			if a.Dialled() == b.Dialled() || a.serial != b.serial {
				t.Fatalf("round %d: dialled %v and %v, serials %d and %d", i, a.Dialled(), b.Dialled(), a.serial, b.serial)
			}
			if a.Dialled() {
				dialledByAlice++
			}
			time.Sleep(time.Second) // whatever is under way must not disturb the session
			exchange(t, a, b)
			alice.Want("bob", false)
			bob.Want("alice", false)
			done(t, a)
			done(t, b)
		}
		if dialledByAlice == 0 || dialledByAlice == 100 {
			t.Errorf("alice dialled %d of 100: there was no race", dialledByAlice)
		}
	})
}

// A cut line is noticed after ping-int and ping-timeout by the idle, within about timeout by those who wait.
func TestPingTimeout(t *testing.T) {
	for _, c := range []struct {
		name     string
		busy     bool
		min, max time.Duration
	}{
		{"idle", false, 9 * time.Second, 11500 * time.Millisecond},
		{"busy", true, 5 * time.Second, 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, 0, func(t *testing.T, w *world) {
				alice, _, a, b := w.connected()
				exchange(t, a, b)
				time.Sleep(time.Second)
				synctest.Wait()
				began := time.Now()
				w.set(true, 0)
				if c.busy {
					if err := a.Send(t.Context(), ack(1)); err != nil {
						t.Fatal(err)
					}
				}
				<-a.Done()
				if took := time.Since(began); took < c.min || took > c.max || !errors.Is(a.Err(), ErrPingTimeout) {
					t.Errorf("ended after %v with %v", took, a.Err())
				}
				alice.awaitErr(EventEnded, ErrPingTimeout)
				if err := alice.LastError("bob"); !errors.Is(err, ErrPingTimeout) {
					t.Errorf("last error %v", err)
				}
				<-b.Done()
			})
		})
	}
}

// An idle session stays up for an hour, on a line that loses every tenth packet.
func TestIdleSessionLives(t *testing.T) {
	simulate(t, 100*time.Millisecond, 0, func(t *testing.T, w *world) {
		_, _, a, b := w.connected()
		w.set(false, 0.1)
		time.Sleep(time.Hour)
		if a.Err() != nil || b.Err() != nil {
			t.Fatal(a.Err(), b.Err())
		}
		w.set(false, 0)
		exchange(t, a, b)
	})
}

// Nobody reads the data lane for minutes: control goes through, pings are answered, the sender is held up, and what
// it had the transport take is bounded.
func TestControlPassesBlockedData(t *testing.T) {
	for _, c := range []struct {
		name    string
		stripes int
		bound   uint64
	}{{"one connection", 1, maxStreamWindow}, {"stripes", 0, spreadWindow}} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, 10*time.Millisecond, 0, func(t *testing.T, w *world) {
				w.stripes = c.stripes
				blockedData(t, w, c.bound)
			})
		})
	}
}

func blockedData(t *testing.T, w *world, bound uint64) {
	_, _, a, b := w.connected()
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error, 1)
	go func() {
		for {
			if err := b.Send(ctx, batch(1, make([]byte, 1<<20))); err != nil {
				blocked <- err
				return
			}
		}
	}()
	time.Sleep(10 * time.Minute)
	began := time.Now()
	exchange(t, a, b)
	if took := time.Since(began); took > time.Second {
		t.Errorf("control took %v", took)
	}
	if a.Err() != nil || b.Err() != nil {
		t.Fatal(a.Err(), b.Err())
	}
	if got := b.Stats().PayloadSent; got > bound {
		t.Errorf("%d bytes were taken though nobody reads", got)
	}
	cancel()
	err := <-blocked
	if errors.Is(err, ErrClosed) { // in the middle of a batch; with stripes, too, where the window was full before they were up
		<-a.Done()
		return
	}
	if w.stripes == 1 {
		t.Errorf("the sender that was held up: %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the sender that was held up: %v", err)
	}
	for n := b.lanes[frame.Data].sent.Load() - 1; n > 0; n-- { // what was taken arrives; one was the Switch
		if _, err := a.Recv(t.Context(), frame.Data); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, a, b)
}

// The line is cut and healed at random, a thousand times. After each healing the two find each other again.
func TestLineFlaps(t *testing.T) {
	flaps := 1000
	if testing.Short() {
		flaps = 100
	}
	simulate(t, 20*time.Millisecond, 5*time.Millisecond, func(t *testing.T, w *world) {
		alice, bob, a, b := w.connected()
		for i := range flaps {
			w.set(true, 0)
			time.Sleep(time.Duration(rand.Int64N(int64(40 * time.Second))))
			w.set(false, 0)
			healed := time.Now()
			a, b = reunited(t, alice, bob, a, b)
			if took := time.Since(healed); took > 25*time.Second {
				t.Fatalf("flap %d: %v after the line was healed", i, took)
			}
		}
	})
}

// reunited waits until both hold the same session and messages pass.
func reunited(t *testing.T, alice, bob *node, a, b *Session) (*Session, *Session) {
	t.Helper()
	for {
		if a.Err() != nil {
			a = acceptIn(t, alice, time.Minute)
			continue
		}
		if b.Err() != nil {
			b = acceptIn(t, bob, time.Minute)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := a.Send(ctx, ack(1))
		if err == nil {
			_, err = b.Recv(ctx, frame.Control)
		}
		cancel()
		if err == nil {
			return a, b
		}
		if ctx.Err() != nil && a.Err() == nil && b.Err() == nil {
			t.Fatalf("two live sessions, %d and %d, and nothing passes", a.serial, b.serial)
		}
		select {
		case <-a.Done():
		case <-b.Done():
		case <-time.After(time.Minute):
		}
	}
}

func acceptIn(t *testing.T, n *node, d time.Duration) *Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	s, err := n.Accept(ctx)
	if err != nil {
		t.Fatalf("%s: %v; last error %v", n.cfg.Node, err, n.LastError(n.cfg.Peers[0].Name))
	}
	return s
}

// A line that loses a fifth of all packets, duplicates none: everything arrives, in order.
func TestLossyLine(t *testing.T) {
	simulate(t, 10*time.Millisecond, 10*time.Millisecond, func(t *testing.T, w *world) {
		_, _, a, b := w.connected()
		w.set(false, 0.2)
		go func() {
			for i := range uint64(50) {
				if b.Send(t.Context(), batch(i, make([]byte, 20_000))) != nil {
					return
				}
			}
		}()
		for i := range uint64(50) {
			m, err := a.Recv(t.Context(), frame.Data)
			if err != nil || m.(*frame.Batch).Prev.Num != i {
				t.Fatalf("%+v, %v", m, err)
			}
		}
		w.set(false, 0)
	})
}

// While nobody answers, attempts become rare: no busy loop, and none that gives up.
func TestBackOff(t *testing.T) {
	simulate(t, time.Millisecond, 0, func(t *testing.T, w *world) {
		bob := start(t, w.config("bob", "alice", bobAddr, aliceAddr))
		bob.Want("alice", true)
		time.Sleep(10 * time.Minute)
		attempts := 0
		bob.mu.Lock()
		for _, ev := range bob.events {
			if ev.Kind == EventDialFailed {
				attempts++
			}
		}
		bob.mu.Unlock()
		if attempts < 600/16/2 || attempts > 100 { // 6 s until an attempt fails, 10 s between them
			t.Errorf("%d attempts in ten minutes", attempts)
		}
		alice := start(t, w.config("alice", "bob", aliceAddr, ""))
		alice.Want("bob", true)
		acceptIn(t, alice, 20*time.Second)
		acceptIn(t, bob, 20*time.Second)
	})
}

// A wrong secret is tried less and less often.
func TestBackOffOfStrangers(t *testing.T) {
	simulate(t, time.Millisecond, 0, func(t *testing.T, w *world) {
		cfg := w.config("alice", "bob", aliceAddr, "")
		cfg.Trust.Secret = "another"
		alice := start(t, cfg)
		bob := start(t, w.config("bob", "alice", bobAddr, aliceAddr))
		alice.Want("bob", true)
		bob.Want("alice", true)
		time.Sleep(10 * time.Minute)
		alice.mu.Lock()
		defer alice.mu.Unlock()
		rejected := 0
		for _, ev := range alice.events {
			if errors.Is(ev.Err, ErrAuth) {
				rejected++
			}
		}
		if rejected < 8 || rejected > 25 {
			t.Errorf("%d attempts in ten minutes", rejected)
		}
	})
}

// Data in flight is lost with the line, never a part of a message taken for a whole one: a reader sees whole
// messages, then the end.
func TestNothingTornAtTheEnd(t *testing.T) {
	simulate(t, 5*time.Millisecond, 0, func(t *testing.T, w *world) {
		_, _, a, b := w.connected()
		go func() {
			for i := range uint64(1000) {
				if b.Send(t.Context(), batch(i, make([]byte, 300_000))) != nil {
					return
				}
			}
		}()
		for i := uint64(0); ; i++ {
			m, err := a.Recv(t.Context(), frame.Data)
			if err != nil {
				if i < 10 || !errors.Is(err, ErrPeerClosed) && !errors.Is(err, ErrPingTimeout) {
					t.Errorf("after %d: %v", i, err)
				}
				if errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("a torn message was seen: %v", err)
				}
				return
			}
			if got := m.(*frame.Batch); got.Prev.Num != i || len(got.Payload) != 300_000 {
				t.Fatalf("batch %d with %d bytes where %d is due", got.Prev.Num, len(got.Payload), i)
			}
			if i == 10 {
				go b.Close(nil)
			}
		}
	})
}
