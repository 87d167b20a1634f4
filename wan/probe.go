package wan

import (
	"context"
	"fmt"
	"slices"
	"time"

	"drship/wan/frame"
	"drship/wan/stripe"
)

// Probed is what a probe found.
type Probed struct {
	Sent, Answered            int
	Shortest, Median, Longest time.Duration // round trips, through both QUIC stacks
	Loss                      float64       // share of this side's packets taken for lost since the session came up
	One                       float64       // bytes a second that one connection carries with that loss; 0: loss does not limit it
}

// Needs is how many connections it takes to carry that many bytes a second.
func (p *Probed) Needs(bytesPerSecond float64, limit int) int {
	return stripe.First(p.Shortest, p.Loss, bytesPerSecond, limit)
}

const maxProbes = 1000

// Probe sends n pings, one in each interval, and waits for their answers, or until ctx ends.
func (s *Session) Probe(ctx context.Context, n int, every time.Duration) (Probed, error) {
	n = max(1, min(n, maxProbes))
	answers := make(chan int64, n)
	if !s.pongs.CompareAndSwap(nil, &answers) {
		return Probed{}, fmt.Errorf("probe link to %s: another probe runs", s.peer)
	}
	defer s.pongs.Store(nil)
	sent := map[int64]time.Time{} // by what the ping says; the clock on the wall may be set meanwhile
	var trips []time.Duration
	tick := time.NewTimer(0)
	defer tick.Stop()
	p := Probed{}
	for len(trips) < n {
		select {
		case <-tick.C:
			if p.Sent == n {
				continue
			}
			now := time.Now()
			if s.pulse.TryWriteAll(frame.Append(nil, &frame.Ping{Sent: now.UnixNano()})) == nil {
				sent[now.UnixNano()] = now
				p.Sent++
			}
			tick.Reset(every)
		case stamp := <-answers:
			if at, ok := sent[stamp]; ok { // else it answers one of the session's own
				delete(sent, stamp)
				trips = append(trips, time.Since(at))
			}
		case <-s.done:
			return p, s.ended("probe link to")
		case <-ctx.Done():
			return p.finish(s, trips), nil
		}
	}
	return p.finish(s, trips), nil
}

func (p Probed) finish(s *Session, trips []time.Duration) Probed {
	p.Answered = len(trips)
	if len(trips) > 0 {
		slices.Sort(trips)
		p.Shortest, p.Median, p.Longest = trips[0], trips[len(trips)/2], trips[len(trips)-1]
	}
	if st := s.Stats(); st.PacketsSent > 0 {
		p.Loss = float64(st.PacketsLost) / float64(st.PacketsSent)
	}
	p.One = stripe.Expect(p.Shortest, p.Loss)
	return p
}

// answered passes the answer to a ping on to a probe that waits for it.
func (s *Session) answered(stamp int64) {
	if answers := s.pongs.Load(); answers != nil {
		select {
		case *answers <- stamp:
		default: // more answers than pings: not ours
		}
	}
}
