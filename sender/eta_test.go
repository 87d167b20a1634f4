package sender

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/disk"
	"drship/internal/ship"
	"drship/wan/frame"
)

// slowLine takes so many bytes a second and has every chunk answered a round trip later.
type slowLine struct {
	line
	rate   float64 // bytes a second
	rtt    time.Duration
	stream atomic.Pointer[Stream]
	work   sync.WaitGroup
	sent   int64 // bytes of chunks
}

// Send implements Link.
func (l *slowLine) Send(ctx context.Context, m frame.Message) error {
	c, ok := m.(*frame.Chunk)
	if !ok {
		return l.line.Send(ctx, m)
	}
	n := len(c.Data) + 100
	l.mu.Lock()
	l.sent += int64(n)
	l.mu.Unlock()
	time.Sleep(time.Duration(float64(n) / l.rate * float64(time.Second)))
	id := c.ID
	l.work.Go(func() {
		time.Sleep(l.rtt)
		_ = l.stream.Load().Handle(context.Background(), &frame.ChunkAck{IDs: []uint64{id}}) // the stream may have ended
	})
	return nil
}

// sparse is a disk of which only the first part is allocated.
type sparse struct {
	disk.Disk
	data int64
}

// Segments implements disk.Disk.
func (d sparse) Segments(off, n int64) ([]disk.Segment, error) {
	switch {
	case off >= d.data:
		return []disk.Segment{{Off: off, Len: n, Hole: true}}, nil
	case off+n <= d.data:
		return []disk.Segment{{Off: off, Len: n}}, nil
	}
	return []disk.Segment{{Off: off, Len: d.data - off}, {Off: d.data, Len: off + n - d.data, Hole: true}}, nil
}

// From the first tenth on the end of a resync is foretold within 20 %, whatever sets its rate.
func TestTheEndIsForetold(t *testing.T) {
	const size = 64 << 20
	for _, c := range []struct {
		name string
		data int64 // allocated
		line float64
		pace func(since time.Duration) ship.Pace
	}{
		{"at its pace", size, 100e6, func(time.Duration) ship.Pace { return ship.Pace{Rate: 1e6} }},
		{"as the line lets it", size, 1e6, func(time.Duration) ship.Pace { return ship.Pace{} }},
		{"a tenth of the disk is data", size / 10, 100e6, func(time.Duration) ship.Pace { return ship.Pace{Rate: 100e3} }},
		{"the line is measured now and then", size, 8e6, func(since time.Duration) ship.Pace {
			if since%time.Minute < 600*time.Millisecond {
				return ship.Pace{Why: "measuring"}
			}
			return ship.Pace{Rate: 2400e3}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				foretell(t, sparse{disk.NewMem(size, 1), c.data}, c.line, c.pace)
			})
		})
	}
}

func foretell(t *testing.T, d sparse, rate float64, pace func(time.Duration) ship.Pace) {
	content := bytes.Repeat([]byte{7}, 1<<20)
	for off := int64(0); off < d.data; off += int64(len(content)) {
		if err := d.WriteAt(content[:min(int64(len(content)), d.data-off)], off); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	line := &slowLine{rate: rate, rtt: 30 * time.Millisecond}
	b := setUpWith(t, 'A', 1<<30, PullAhead, d, func(p *Peer, cfg *StreamConfig) {
		if err := p.SetAll(); err != nil {
			t.Fatal(err)
		}
		cfg.Link, cfg.Pace = line, func() ship.Pace { return pace(time.Since(start)) }
		cfg.Reduce.Digest = 0
	})
	line.stream.Store(b.stream)
	defer line.work.Wait()
	type guess struct{ at, eta time.Duration }
	var guesses []guess
	for {
		p, ok := b.stream.Resync()
		if !ok || p.Left == 0 {
			break
		}
		guesses = append(guesses, guess{time.Since(start), p.ETA})
		time.Sleep(500 * time.Millisecond)
	}
	total := time.Since(start)
	for _, g := range guesses {
		rest := total - g.at
		if g.at < total/10 || rest < 2*time.Second {
			continue
		}
		if g.eta < rest*8/10-time.Second || g.eta > rest*12/10+time.Second {
			t.Fatalf("%v after the start %v were said to be left, it was %v", g.at, g.eta, rest)
		}
	}
	if total < 20*time.Second || len(guesses) < 30 {
		t.Fatalf("%v and %d guesses prove nothing", total, len(guesses))
	}
}
