package wan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
)

// flood sends batches of that size until ctx ends, and returns how many were sent.
func flood(ctx context.Context, s *Session, size int) <-chan uint64 {
	sent := make(chan uint64, 1)
	go func() {
		var i uint64
		payload := make([]byte, size)
		for s.Send(ctx, batch(i, payload)) == nil {
			i++
		}
		sent <- i
	}()
	return sent
}

// collect receives batches for a span and returns how many bytes they held. They come in order.
func collect(t *testing.T, s *Session, next *uint64, span time.Duration) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	for {
		m, err := s.Recv(ctx, frame.Data)
		if ctx.Err() != nil && err != nil {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		b := m.(*frame.Batch)
		if b.Prev.Num != *next {
			t.Fatalf("batch %d where %d is due", b.Prev.Num, *next)
		}
		*next++
		n += len(b.Payload)
	}
}

// On a line that loses packets a session carries much more than a single connection does, whoever dialled.
func TestStripesCarryMore(t *testing.T) {
	const repeats, repeatsFree = 4, 1 << 20 // of what is delivered, and beside that
	carried := map[string]int{}
	for _, c := range []struct {
		name    string
		stripes int
		dialler bool
	}{{"one connection", 1, true}, {"the dialler sends", 0, true}, {"the listener sends", 0, false}} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, 25*time.Millisecond, 0, func(t *testing.T, w *world) {
				w.stripes, w.rate = c.stripes, 16
				_, _, from, to := w.connected()
				if from.Dialled() != c.dialler {
					from, to = to, from
				}
				w.set(false, 0.01)
				ctx, cancel := context.WithCancel(t.Context())
				sent := flood(ctx, from, 200_000)
				next := uint64(0)
				collect(t, to, &next, 12*time.Second)
				carried[c.name] = collect(t, to, &next, 3*time.Second)
				st := from.Stats()
				t.Logf("%d kbit/s, %d stripes, %d bytes sent twice", carried[c.name]*8/3000, st.Stripes, st.Resent)
				if st.Resent > st.Delivered/repeats+repeatsFree {
					t.Errorf("%d bytes were sent twice, %d delivered", st.Resent, st.Delivered)
				}
				if most := uint64(w.rate) << 20 / 8 * 3; st.Rate > most {
					t.Errorf("a rate of %d bytes a second, the line carries a third of %d", st.Rate, most)
				}
				w.set(false, 0)
				cancel()
				for n := <-sent; next < n; next++ { // everything that was taken arrives
					if _, err := to.Recv(t.Context(), frame.Data); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
	for _, name := range []string{"the dialler sends", "the listener sends"} {
		if carried[name] < 2*carried["one connection"] {
			t.Errorf("%s: %d bytes, a single connection carries %d", name, carried[name], carried["one connection"])
		}
	}
}

// Stripes end one after another, in the middle of what they carry: nothing is lost, nothing comes twice, the order
// stays, and others take their place.
func TestStripesEnd(t *testing.T) {
	simulate(t, 20*time.Millisecond, 5*time.Millisecond, func(t *testing.T, w *world) {
		w.rate = 20
		_, _, a, b := w.connected()
		ctx, cancel := context.WithCancel(t.Context())
		sent := flood(ctx, a, 150_000)
		next := uint64(0)
		for range 20 {
			collect(t, b, &next, 200*time.Millisecond)
			x := []*spread{a.spread, b.spread}[rand.IntN(2)]
			x.mu.Lock()
			if len(x.stripes) > 0 {
				c := x.stripes[rand.IntN(len(x.stripes))]
				go closeConn(c.conn, ErrClosed, true)
			}
			x.mu.Unlock()
		}
		cancel()
		for n := <-sent; next < n; next++ {
			m, err := b.Recv(t.Context(), frame.Data)
			if err != nil || m.(*frame.Batch).Prev.Num != next {
				t.Fatalf("%+v, %v where %d is due", m, err, next)
			}
		}
		if st := a.Stats(); st.Resent == 0 || a.Err() != nil {
			t.Errorf("%d bytes sent twice, %v", st.Resent, a.Err())
		}
		time.Sleep(5 * time.Second)
		if st := a.Stats(); st.Stripes < firstStripes {
			t.Errorf("%d stripes are left", st.Stripes)
		}
	})
}

// One stripe's packets vanish while the others get through: it is not waited for.
func TestStripeStalls(t *testing.T) {
	simulate(t, 20*time.Millisecond, 0, func(t *testing.T, w *world) {
		w.own, w.rate = true, 20
		_, _, a, b := w.connected()
		for a.Stats().Stripes < firstStripes {
			time.Sleep(50 * time.Millisecond)
		}
		dialler := a
		if b.Dialled() {
			dialler = b
		}
		dialler.spread.mu.Lock()
		victim := dialler.spread.stripes[0].socket.LocalAddr()
		dialler.spread.mu.Unlock()
		next := uint64(0)
		ctx, cancel := context.WithCancel(t.Context())
		sent := flood(ctx, a, 150_000)
		collect(t, b, &next, time.Second)
		w.mu.Lock()
		w.victim = victim
		w.mu.Unlock()
		got := collect(t, b, &next, 3*time.Second)
		if got < 2_500_000 { // the line could carry 7.5 MB; nothing comes where it is waited for
			t.Errorf("%d bytes in 3 s while a stripe is dead", got)
		}
		cancel()
		for n := <-sent; next < n; next++ {
			if _, err := b.Recv(t.Context(), frame.Data); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A LAN needs no stripes; where one connection is all that is allowed there are none either.
func TestNoStripes(t *testing.T) {
	for _, c := range []struct {
		delay   time.Duration
		stripes int
	}{{200 * time.Microsecond, 0}, {20 * time.Millisecond, 1}} {
		simulate(t, c.delay, 0, func(t *testing.T, w *world) {
			w.stripes = c.stripes
			_, _, a, b := w.connected()
			next := uint64(0)
			ctx, cancel := context.WithCancel(t.Context())
			sent := flood(ctx, a, 100_000)
			collect(t, b, &next, 2*time.Second)
			cancel()
			<-sent
			if n := max(a.Stats().Stripes, b.Stats().Stripes); n != 0 {
				t.Errorf("%v one way: %d stripes", c.delay, n)
			}
		})
	}
}

// outsider dials alice's socket from an address of its own, certificate and all.
func outsider(t *testing.T, w *world, e *Endpoint) (*quic.Conn, [numStripeStreams]*quic.Stream) {
	t.Helper()
	pc, err := w.listen(t.Context(), "1.0.0.9:99")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: pc}
	conn, err := tr.Dial(t.Context(), e.Addr(), e.cfg.Trust.dialConfig("alice"), &quic.Config{MaxIdleTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.CloseWithError(0, "")
		_ = tr.Close()
		_ = pc.Close()
	})
	var st [numStripeStreams]*quic.Stream
	for i := range st {
		if st[i], err = conn.OpenStreamSync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st[streamFragments].Write([]byte{streamFragments}); err != nil {
		t.Fatal(err)
	}
	return conn, st
}

// Only the other end of a session can join it: neither who knows its name, nor who repeats what was said when a stripe
// joined, nor who makes a key up.
func TestJoinIsRefused(t *testing.T) {
	for name, join := range map[string]func(x *spread, recorded []byte) []byte{
		"a Join that was recorded": func(_ *spread, recorded []byte) []byte { return recorded },
		"a key that is made up": func(x *spread, _ []byte) []byte {
			head := append(binary.BigEndian.AppendUint16(bytes.Clone(x.id[:]), 77), joinParity)
			return append(head, joinMAC(make([]byte, 32), labelJoin, head, make([]byte, 32))...)
		},
		"a session that there is not": func(_ *spread, _ []byte) []byte { return make([]byte, joinSize) },
		"the key without this connection's exporter": func(x *spread, _ []byte) []byte {
			head := append(binary.BigEndian.AppendUint16(bytes.Clone(x.id[:]), 77), joinParity)
			return append(head, joinMAC(x.key, labelJoin, head, make([]byte, 32))...)
		},
		"too short": func(_ *spread, _ []byte) []byte { return []byte("DRSH") },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 10*time.Millisecond, 0, func(t *testing.T, w *world) {
				alice, _, a, b := w.connected()
				if a.Dialled() { // alice is to be the one who is joined
					w.t.Skip("alice dialled")
				}
				for a.Stats().Stripes < firstStripes {
					time.Sleep(50 * time.Millisecond)
				}
				before := a.Stats().Stripes
				// What the dialler said for a stripe that is up, as it would be seen inside of its connection.
				b.spread.mu.Lock()
				c := b.spread.stripes[0]
				b.spread.mu.Unlock()
				ekm, err := exporter(c.conn.ConnectionState().TLS, exporterLabel)
				if err != nil {
					t.Fatal(err)
				}
				head := append(binary.BigEndian.AppendUint16(bytes.Clone(b.spread.id[:]), uint16(c.id)), joinParity)
				recorded := append(head, joinMAC(b.spread.key, labelJoin, head, ekm)...)

				conn, st := outsider(t, w, alice.Endpoint)
				if err := writeMessage(st[streamAcks], kindJoin, join(b.spread, recorded)); err != nil {
					t.Fatal(err)
				}
				<-conn.Context().Done()
				var app *quic.ApplicationError
				if cause := context.Cause(conn.Context()); !errors.As(cause, &app) || app.ErrorCode != codeAuth && name != "too short" {
					t.Errorf("ended with %v", cause)
				}
				synctest.Wait()
				if n := a.Stats().Stripes; n != before {
					t.Errorf("%d stripes, there were %d", n, before)
				}
				exchange(t, a, b)
			})
		})
	}
}

// A ceiling is kept within 2 %, whatever the number of stripes and whatever is lost, and the line behind it is not needed.
func TestCeiling(t *testing.T) {
	const ceiling = 1_250_000 // bytes a second, 10 Mbit/s of a line of 30
	for _, c := range []struct {
		name    string
		stripes int
		loss    float64
		least   float64
	}{{"one connection", 1, 0, 0.98}, {"stripes", 0, 0, 0.98}, {"stripes, 1 % lost", 0, 0.01, 0.8}} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, 15*time.Millisecond, 0, func(t *testing.T, w *world) {
				w.stripes, w.rate = c.stripes, 30
				_, _, a, b := w.connected()
				a.SetCeiling(ceiling)
				w.set(false, c.loss)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				sent := flood(ctx, a, 100_000)
				next := uint64(0)
				collect(t, b, &next, 8*time.Second)
				before, arrived := a.Stats(), b.Stats().WireReceived
				const span = 10 * time.Second
				n := collect(t, b, &next, span)
				after := a.Stats()
				arrived = b.Stats().WireReceived - arrived
				const headers = 28 // of IP and UDP, for each packet
				// What was sent is reckoned from what came: QUIC counts a packet before it has waited for the ceiling.
				rate := (float64(arrived)/(1-c.loss) + float64(headers*(after.PacketsSent-before.PacketsSent))) / span.Seconds()
				t.Logf("%.0f bytes a second on the wire, %d of data, %d stripes", rate, n/int(span/time.Second), after.Stripes)
				if rate < c.least*ceiling || rate > 1.02*ceiling {
					t.Errorf("%.0f bytes a second, the ceiling is %d", rate, ceiling)
				}
				cancel()
				for n := <-sent; next < n; next++ {
					if _, err := b.Recv(t.Context(), frame.Data); err != nil {
						return // a single connection is cut off in the middle of a message
					}
				}
			})
		})
	}
}

// A probe finds the round trip, and what it takes to fill a line.
func TestProbe(t *testing.T) {
	simulate(t, 20*time.Millisecond, 0, func(t *testing.T, w *world) {
		_, _, a, b := w.connected()
		for _, s := range []*Session{a, b} {
			p, err := s.Probe(t.Context(), 10, 50*time.Millisecond)
			if err != nil || p.Sent != 10 || p.Answered != 10 {
				t.Fatalf("%+v, %v", p, err)
			}
			if p.Shortest < 40*time.Millisecond || p.Median > 45*time.Millisecond || p.Longest < p.Median {
				t.Errorf("%+v", p)
			}
		}
		w.set(true, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p, err := a.Probe(ctx, 10, 50*time.Millisecond); err != nil || p.Answered != 0 {
			t.Errorf("of a line that is cut: %+v, %v", p, err)
		}
	})
}

// After a cut of three seconds much comes within the first second of healing, whoever dialled: QUIC by itself would not even have
// asked by then.
func TestCutHeals(t *testing.T) {
	for _, c := range []struct {
		dialler bool
		loss    float64
	}{{true, 0}, {false, 0}, {true, 0.01}} {
		simulate(t, 25*time.Millisecond, 0, func(t *testing.T, w *world) {
			w.rate = 16
			_, _, from, to := w.connected()
			if from.Dialled() != c.dialler {
				from, to = to, from
			}
			w.set(false, c.loss)
			ctx, cancel := context.WithCancel(t.Context())
			sent := flood(ctx, from, 50_000)
			next := uint64(0)
			collect(t, to, &next, 6*time.Second)
			before := collect(t, to, &next, 2*time.Second) / 2
			w.set(true, 0)
			collect(t, to, &next, 3*time.Second)
			w.set(false, c.loss)
			after := collect(t, to, &next, time.Second)
			t.Logf("%+v: %d kB/s before, %d in the first second after it healed", c, before/1000, after/1000)
			if after < before/5 {
				t.Errorf("%+v: %d kB/s before, %d in the first second after it healed", c, before/1000, after/1000)
			}
			cancel()
			w.set(false, 0)
			for n := <-sent; next < n; next++ {
				if _, err := to.Recv(t.Context(), frame.Data); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The dialler's address changes, as where a NAT forgets, or a line is taken up by another provider: session and stripes go on.
func TestAddressChanges(t *testing.T) {
	simulate(t, 10*time.Millisecond, 0, func(t *testing.T, w *world) {
		_, _, a, b := w.connected()
		dialler, listener := a, b
		if b.Dialled() {
			dialler, listener = b, a
		}
		next := uint64(0)
		ctx, cancel := context.WithCancel(t.Context())
		sent := flood(ctx, dialler, 20_000)
		collect(t, listener, &next, time.Second)
		before := listener.RemoteAddr().String()
		w.rename(dialler.LocalAddr(), "1.0.0.77")
		n := collect(t, listener, &next, 3*time.Second)
		cancel()
		for n := <-sent; next < n; next++ {
			if _, err := listener.Recv(t.Context(), frame.Data); err != nil {
				t.Fatal(err)
			}
		}
		exchange(t, a, b)
		if a.Err() != nil || b.Err() != nil || n < 1_000_000 {
			t.Fatalf("%d bytes since; %v, %v", n, a.Err(), b.Err())
		}
		if after := listener.RemoteAddr().String(); after == before {
			t.Errorf("the listener still sends to %s", after)
		}
	})
}
