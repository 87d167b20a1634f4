package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

var loopback = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)

// wire is a relay between two plain sockets.
type wire struct {
	*Relay
	a, b *net.UDPConn
}

func newWire(t *testing.T, l Link) *wire {
	t.Helper()
	w := &wire{a: listen(t), b: listen(t)}
	var err error
	w.Relay, err = Start(Config{A: addrOf(w.a), B: addrOf(w.b), FrontA: loopback, FrontB: loopback, Link: l, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (w *wire) send(t *testing.T, n uint32, size int) {
	t.Helper()
	p := make([]byte, max(size, 4))
	binary.BigEndian.PutUint32(p, n)
	if _, err := w.a.WriteToUDPAddrPort(p, w.FrontB()); err != nil {
		t.Fatal(err)
	}
}

// receive returns the numbers that reach b until the line has been silent for a while.
func (w *wire) receive(t *testing.T, silence time.Duration) (got []uint32, from netip.AddrPort) {
	t.Helper()
	buf := make([]byte, maxDatagram)
	for {
		if err := w.b.SetReadDeadline(time.Now().Add(silence)); err != nil {
			t.Fatal(err)
		}
		n, src, err := w.b.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got, from
		}
		if err != nil {
			t.Fatal(err)
		}
		from = src
		got = append(got, binary.BigEndian.Uint32(buf[:n]))
	}
}

func TestBothWays(t *testing.T) {
	w := newWire(t, Link{})
	w.send(t, 42, 100)
	got, from := w.receive(t, 200*time.Millisecond)
	if len(got) != 1 || got[0] != 42 {
		t.Fatalf("b received %v, want [42]", got)
	}
	if _, err := w.b.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if err := w.a.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, src, err := w.a.ReadFromUDPAddrPort(buf)
	if err != nil || !bytes.Equal(buf[:n], []byte("answer")) {
		t.Fatalf("a received %q, %v", buf[:n], err)
	}
	if src != w.FrontB() {
		t.Errorf("the answer came from %v, want the front that a knows, %v", src, w.FrontB())
	}
	if c := w.Counters(BtoA); c.Out != 1 || c.OutBytes != 6 {
		t.Errorf("counters back: %+v", c)
	}
}

func TestDelayKeepsOrder(t *testing.T) {
	const delay = 60 * time.Millisecond
	w := newWire(t, Link{Delay: delay})
	start := time.Now()
	for i := range uint32(20) {
		w.send(t, i, 200)
	}
	buf := make([]byte, 256)
	if _, _, err := w.b.ReadFromUDPAddrPort(buf); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < delay {
		t.Errorf("first datagram after %v, before the delay of %v", took, delay)
	}
	got, _ := w.receive(t, 300*time.Millisecond)
	for i, n := range got {
		if n != uint32(i+1) {
			t.Fatalf("order lost: %v", got)
		}
	}
	if len(got) != 19 {
		t.Errorf("%d datagrams behind the first, want 19", len(got))
	}
}

func TestRateAndQueue(t *testing.T) {
	// 100 datagrams of 1,000 bytes at once, room for 20 of them: the tail is dropped, the rest takes its time.
	w := newWire(t, Link{Rate: 100_000, Queue: 20_000})
	start := time.Now()
	for i := range uint32(100) {
		w.send(t, i, 1000)
	}
	got, _ := w.receive(t, 300*time.Millisecond)
	took := time.Since(start)
	c := w.Counters(AtoB)
	if c.DroppedQueue == 0 || c.Out+c.DroppedQueue != 100 || len(got) != int(c.Out) {
		t.Fatalf("%d delivered, counters %+v", len(got), c)
	}
	if least := time.Duration(len(got)) * 10 * time.Millisecond; took < least {
		t.Errorf("%d datagrams in %v: faster than the rate allows (%v)", len(got), took, least)
	}
}

func TestLossAndCorruption(t *testing.T) {
	w := newWire(t, Link{Loss: 0.5})
	for i := range uint32(200) {
		w.send(t, i, 50)
	}
	got, _ := w.receive(t, 200*time.Millisecond)
	c := w.Counters(AtoB)
	if c.DroppedLoss < 60 || c.DroppedLoss > 140 || int(c.Out) != len(got) {
		t.Fatalf("half of 200 should be lost: %+v, received %d", c, len(got))
	}
	w.Set(Link{Corrupt: 1})
	w.send(t, 0, 4)
	got, _ = w.receive(t, 200*time.Millisecond)
	if len(got) != 1 || got[0] == 0 || w.Counters(AtoB).Corrupted != 1 {
		t.Fatalf("one bit should have been flipped: %v, %+v", got, w.Counters(AtoB))
	}
}

func TestCutAndHeal(t *testing.T) {
	w := newWire(t, Link{})
	w.Cut()
	w.send(t, 1, 10)
	if got, _ := w.receive(t, 100*time.Millisecond); len(got) != 0 {
		t.Fatalf("a cut line delivered %v", got)
	}
	w.Heal()
	w.send(t, 2, 10)
	if got, _ := w.receive(t, 200*time.Millisecond); len(got) != 1 || got[0] != 2 {
		t.Fatalf("a healed line delivered %v, want [2]", got)
	}
}

func TestFlowsAreBounded(t *testing.T) {
	w := newWire(t, Link{})
	received := 0
	for i := range maxFlows + 10 {
		c := listen(t)
		if _, err := c.WriteToUDPAddrPort([]byte("0123"), w.FrontB()); err != nil {
			t.Fatal(err)
		}
		got, _ := w.receive(t, 20*time.Millisecond) // on a busy machine one of an earlier round may come along
		if received += len(got); received > i+1 {
			t.Fatalf("received %d of %d", received, i+1)
		}
	}
	f := w.fronts[AtoB]
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flows) > maxFlows {
		t.Errorf("%d flows, bound %d", len(f.flows), maxFlows)
	}
}
