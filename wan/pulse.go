package wan

import (
	"context"
	"fmt"
	"sync"
	"time"

	"drship/wan/frame"
)

// watch owns a session from its installation to its end: it pings the peer, notices when it is gone, and closes the
// connection. It returns when nothing of the session runs any more.
func (s *Session) watch() {
	defer close(s.stopped)
	s.spread.begin()
	var reader sync.WaitGroup
	select {
	case <-s.started:
		reader.Go(s.readPulse)
		reader.Go(s.spread.tend)
		s.beat()
	case <-s.done:
	case <-s.conn.Context().Done():
		s.fail(fromQUIC(context.Cause(s.conn.Context())))
	}
	closeConn(s.conn, s.Err(), true)
	s.spread.close()
	reader.Wait()
}

// startPulse says that the handshake has left the pulse stream.
func (s *Session) startPulse() { close(s.started) }

// beat asks the pulse what to do, until the session has ended.
func (s *Session) beat() {
	p := newPulse(s.timing, time.Now())
	timer := time.NewTimer(p.tick)
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.conn.Context().Done():
			s.fail(fromQUIC(context.Cause(s.conn.Context())))
			return
		case <-timer.C:
		}
		c := s.conn.ConnectionStats()
		now := time.Now()
		striped, bytes := s.spread.traffic()
		ask, silent := p.step(now, c.PacketsReceived, striped, c.PacketsSent+bytes, c.SmoothedRTT)
		if silent > 0 {
			s.fail(fmt.Errorf("%w: nothing heard for %v", ErrPingTimeout, silent.Round(time.Millisecond)))
			return
		}
		if ask {
			// It must not wait: where there is no room for a ping, something else already waits for an answer.
			_ = s.pulse.TryWriteAll(frame.Append(nil, &frame.Ping{Sent: now.UnixNano()}))
		}
		timer.Reset(p.tick)
	}
}

// readPulse answers pings. It has a stream of its own, so that a lane that nobody reads does not hold it up.
func (s *Session) readPulse() {
	var l lane
	l.init(s.pulse)
	for {
		m, err := l.receive(context.Background())
		if err != nil {
			s.fail(fromQUIC(err))
			return
		}
		switch m := m.(type) {
		case *frame.Ping:
			if _, err := l.send(context.Background(), &frame.Pong{Sent: m.Sent}); err != nil {
				s.fail(fromQUIC(err))
				return
			}
		case *frame.Pong: // its packet was counted
			s.answered(m.Sent)
		case *frame.Stripes:
			if err := s.spread.peerWants(int(m.Want)); err != nil {
				s.fail(err)
				return
			}
		default:
			s.fail(fmt.Errorf("%w: %v among the pings", ErrProtocol, m.Type()))
			return
		}
	}
}

// pulse decides when to ask a peer whether it lives, and when it does not. Any packet from the peer is a sign of
// life: behind a full line its answer may come late, but something comes, perhaps over a stripe. Should the session's own connection
// be dead while stripes live, QUIC's idle timeout ends it. It does no I/O and reads no clock.
type pulse struct {
	timing   Timing
	tick     time.Duration
	heard    time.Time // when a packet was last seen to have come
	received uint64    // packets, then
	sent     uint64    // packets, then: more were sent since means that an answer is due
	asked    time.Time // when the ping that is not answered was sent, or zero
	striped  uint64    // packets that had come over stripes at the last step
}

const (
	minTick = 5 * time.Millisecond
	maxTick = 250 * time.Millisecond
)

func newPulse(t Timing, now time.Time) *pulse {
	tick := min(t.PingInt, t.PingTimeout, t.Timeout) / 4
	return &pulse{timing: t, tick: max(minTick, min(maxTick, tick)), heard: now}
}

// step is called every tick with the connection's counters, and the packets received over stripes. ask: send a ping. silent, if not
// 0: give the peer up, it has not been heard for so long.
func (p *pulse) step(now time.Time, received, striped, sent uint64, rtt time.Duration) (ask bool, silent time.Duration) {
	lives := striped != p.striped
	p.striped = striped
	if received != p.received {
		p.heard, p.received, p.sent, p.asked = now, received, sent, time.Time{}
		return false, 0
	}
	quiet := now.Sub(p.heard)
	if !p.asked.IsZero() {
		if lives {
			p.asked = now // the answer is late: what was measured of the way is from before the line was full
		}
		if now.Sub(p.asked) >= p.timing.PingTimeout+3*rtt {
			return false, quiet
		}
		return false, 0
	}
	limit := p.timing.PingInt
	if sent != p.sent { // something was sent that QUIC on the other side would have acknowledged
		limit = min(limit, max(p.timing.Timeout-p.timing.PingTimeout, p.timing.Timeout/2))
	}
	if quiet < limit {
		return false, 0
	}
	p.asked = now
	return true, 0
}
