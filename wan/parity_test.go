package wan

import (
	"context"
	"testing"
	"time"

	"drship/wan/fec"
	"drship/wan/frame"
)

// Few stripes on a line that loses: with parity they carry more, in both directions, with sockets of their own and with the session's, and
// everything arrives once and in order. Where it is to be found out whether that pays, it is.
func TestParityCarriesMore(t *testing.T) {
	carried := map[string]int{}
	for _, c := range []struct {
		name    string
		mode    fec.Mode
		dialler bool
		own     bool
	}{
		{"off", fec.Off, true, true}, {"on, the dialler sends", fec.On, true, true}, {"on, the listener sends", fec.On, false, true},
		{"on, one socket", fec.On, true, false}, {"auto", fec.Auto, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, 25*time.Millisecond, 0, func(t *testing.T, w *world) {
				w.stripes, w.rate, w.own, w.fec = 3, 32, c.own, c.mode
				_, _, from, to := w.connected()
				if from.Dialled() != c.dialler {
					from, to = to, from
				}
				w.set(false, 0.008)
				ctx, cancel := context.WithCancel(t.Context())
				sent := flood(ctx, from, 200_000)
				next := uint64(0)
				warm := 9 * time.Second
				if c.mode == fec.Auto {
					warm += 11 * time.Second // what a trial takes, and more
				}
				collect(t, to, &next, warm)
				const span = 3 * time.Second
				carried[c.name] = collect(t, to, &next, span)
				st := from.Stats()
				t.Logf("%d kbit/s, %d stripes, %+v, %d of %d packets lost for QUIC", carried[c.name]*8/3000, st.Stripes, st.Parity, st.PacketsLost, st.PacketsSent)
				w.set(false, 0)
				cancel()
				for n := <-sent; next < n; next++ {
					if _, err := to.Recv(t.Context(), frame.Data); err != nil {
						t.Fatal(err)
					}
				}
				if on := st.Parity.Rows > 0; on != (c.mode != fec.Off) {
					t.Errorf("parity: %+v", st.Parity)
				}
				// Sockets of their own have queues of their own on this network, and what is too late for its group counts as lost.
				if !c.own && st.Parity.Repaired*10 < st.Parity.Lost*9 || c.mode != fec.Off && st.Parity.Repaired == 0 {
					t.Errorf("hardly repaired: %+v", st.Parity)
				}
			})
		})
	}
	for name, n := range carried {
		if name != "off" && n < carried["off"]*3/2 {
			t.Errorf("%s: %d bytes, without parity %d", name, n, carried["off"])
		}
	}
}

// Parity only where both sides say so.
func TestParityTakesTwo(t *testing.T) {
	simulate(t, 25*time.Millisecond, 0, func(t *testing.T, w *world) {
		w.own, w.rate, w.fec = true, 10, fec.On
		a := w.config("alice", "bob", aliceAddr, bobAddr)
		b := w.config("bob", "alice", bobAddr, aliceAddr)
		b.FEC = fec.Off
		alice, bob := start(t, a), start(t, b)
		alice.Want("bob", true)
		bob.Want("alice", true)
		from, to := settled(t, alice, bob)
		w.set(false, 0.01)
		ctx, cancel := context.WithCancel(t.Context())
		sent := flood(ctx, from, 200_000)
		next := uint64(0)
		collect(t, to, &next, 3*time.Second)
		if st := from.Stats(); st.Parity.Sent != 0 || st.Stripes == 0 {
			t.Errorf("%d stripes, %+v", st.Stripes, st.Parity)
		}
		w.set(false, 0)
		cancel()
		for n := <-sent; next < n; next++ {
			if _, err := to.Recv(t.Context(), frame.Data); err != nil {
				t.Fatal(err)
			}
		}
	})
}
