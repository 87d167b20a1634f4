package wan

import (
	"time"

	"drship/wan/frame"
)

// QUIC asks less and less often whether a line that was cut is there again: after three seconds it may take three more.
// So, while nothing gets through, the dialler sends scouts: it dials another stripe every moment. The first that joins shows
// that the line is healed; as many fresh stripes as there were follow it, and take over until the old ones have found out
// themselves. The session's own connection is given something to send, which shows its losses at once.
const (
	scoutEvery = 250 * time.Millisecond
	scoutLife  = 1500 * time.Millisecond
	maxScouts  = 6
	freshFor   = 3 * time.Second
	flowBytes  = 64 // packets in a step: something is being received that may not just stop
	flowMemory = 8 * time.Second
)

// scout sends one where it is time. held says that no stripe gets on with what this side sends.
func (t *tending) scout(now time.Time, rtt time.Duration, held bool) {
	x := t.x
	x.mu.Lock()
	defer x.mu.Unlock()
	heard := x.heard()
	if heard != t.heard {
		if heard > t.heard+flowBytes {
			t.flowed = now
		}
		t.heard, t.quiet = heard, now
	}
	stopped := now.Sub(t.flowed) < flowMemory && now.Sub(t.quiet) > 4*rtt+scoutEvery
	if !held && !stopped || x.closed || len(x.stripes) == 0 && x.joining > 0 {
		return
	}
	if now.Sub(t.scouted) < scoutEvery || x.scouts >= maxScouts || len(x.stripes) >= frame.MaxStripes || x.next > 1<<16-1 {
		return
	}
	t.scouted = now
	x.scouts++
	id := x.next
	x.next++
	x.running.Go(func() { x.join(id, true) })
}

// wake has the session's own connection send something: what it lost is noticed by the answer.
func (x *spread) wake() {
	_ = x.s.pulse.TryWriteAll(frame.Append(nil, &frame.Ping{Sent: time.Now().UnixNano()})) // where there is no room, it has enough to send
}
