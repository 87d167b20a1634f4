package packet

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// hole is a socket that counts what is written to it.
type hole struct {
	net.PacketConn
	bytes, packets int
}

func (h *hole) WriteTo(b []byte, _ net.Addr) (int, error) {
	h.bytes += len(b)
	h.packets++
	return len(b), nil
}

func (h *hole) Close() error { return nil }

var (
	there   = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	nowhere = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 2}
)

// Whatever the rate and the length of packets, what passes is the rate, headers included.
func TestLimit(t *testing.T) {
	for _, c := range []struct {
		rate int64
		size int
	}{{1_250_000, 1400}, {125_000, 300}, {25_000_000, 1252}, {50_000, 1400}} {
		synctest.Test(t, func(t *testing.T) {
			h := &hole{}
			s := Shape(h).(*Shaped)
			l := &Limiter{}
			l.SetRate(c.rate)
			s.Limit(there, l)
			b := make([]byte, c.size)
			began := time.Now()
			for time.Since(began) < 8*time.Second {
				if _, err := s.WriteTo(b, there); err != nil {
					t.Fatal(err)
				}
			}
			got := float64(h.bytes+h.packets*headers4) / time.Since(began).Seconds()
			if off := got/float64(c.rate) - 1; off < -0.01 || off > 0.02 {
				t.Errorf("%d bytes a second in packets of %d: %.0f passed", c.rate, c.size, got)
			}
		})
	}
}

// Those who share a limiter share its rate; others, other addresses and small packets do not wait.
func TestLimitIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hole{}
		s := Shape(h).(*Shaped)
		l := &Limiter{}
		l.SetRate(10_000)
		s.Limit(there, l)
		b := make([]byte, 972)
		began := time.Now()
		for range 11 {
			if _, err := s.WriteTo(b, there); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 940*time.Millisecond || took > 1010*time.Millisecond {
			t.Errorf("10 kB, of which a twentieth may be made good, took %v", took)
		}
		began = time.Now()
		for range 100 {
			_, _ = s.WriteTo(b, nowhere)
		}
		_, _ = s.WriteTo(b[:50], there)
		if took := time.Since(began); took > 0 {
			t.Errorf("what is not limited took %v", took)
		}
		done := make(chan struct{})
		go func() {
			_, _ = s.WriteTo(b, there)
			_, _ = s.WriteTo(b, there)
			close(done)
		}()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
		if took := time.Since(began); took > 0 {
			t.Errorf("closing took %v", took)
		}
	})
}
