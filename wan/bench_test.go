package wan

import (
	"syscall"
	"testing"
	"time"

	"drship/wan/frame"
)

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkThroughput sends batches of 1 MiB over loopback, both ends in this process.
func BenchmarkThroughput(b *testing.B) {
	_, _, to, from := pair(b)
	m := batch(1, make([]byte, 1<<20))
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	cpu := cpuTime(b)
	received := make(chan error, 1)
	n := 0
	next := make(chan struct{}, 1<<16)
	go func() {
		for range next {
			if _, err := to.Recv(b.Context(), frame.Data); err != nil {
				received <- err
				return
			}
		}
		received <- nil
	}()
	for b.Loop() {
		n++
		next <- struct{}{}
		if err := from.Send(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	close(next)
	if err := <-received; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((cpuTime(b)-cpu).Seconds()*1024/float64(n), "cpu-s/GiB")
	b.ReportMetric(float64(from.Stats().PacketsLost), "lost-packets")
}

// BenchmarkRoundTrip is the time of a small batch and its acknowledgement, one at a time.
func BenchmarkRoundTrip(b *testing.B) {
	_, _, to, from := pair(b)
	go func() {
		for {
			if _, err := to.Recv(b.Context(), frame.Data); err != nil {
				return
			}
			if to.Send(b.Context(), ack(1)) != nil {
				return
			}
		}
	}()
	m := batch(1, make([]byte, 4096))
	b.ReportAllocs()
	for b.Loop() {
		if err := from.Send(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		if _, err := from.Recv(b.Context(), frame.Control); err != nil {
			b.Fatal(err)
		}
	}
}
