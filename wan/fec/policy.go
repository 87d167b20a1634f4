package fec

import "time"

// Mode says when there is parity.
type Mode uint8

// The modes.
const (
	Auto Mode = iota // where connections alone do not fill the line
	On
	Off
)

// Look is what a sender knows of its line. Counters are since the beginning.
type Look struct {
	Now        time.Duration // since the session began
	Sent, Lost uint64        // packets, by QUIC, which does not see what was repaired
	Reported   Counts        // by the repairing side
	Delivered  uint64        // bytes
	RTT        time.Duration // smoothed, and the shortest
	MinRTT     time.Duration
	Full       bool // there are nearly as many connections as there may be, and more to send than they take
}

const (
	lookSpan   = time.Second
	lookLeast  = 500  // packets in a span that tell something
	lossFrom   = 2e-4 // share of packets lost from which on parity is tried
	lossUntil  = 5e-5 // below it parity ends
	twoRows    = 3e-3 // from here on two rows, and then three
	threeRows  = 1.2e-2
	paysFrom   = 1.05            // what it has to bring
	trialSpan  = 6 * time.Second // and eight round trips
	firstRest  = time.Minute     // after a trial that did not pay; doubles
	longestOne = 16 * time.Minute
	lossyLooks = 5  // spans with losses before a trial
	quietLooks = 10 // spans with hardly a loss after which it ends
)

// Policy decides how many rows of parity there are. It is pure: the caller keeps the clock.
type Policy struct {
	mode     Mode
	rows     int
	last     Look
	without  float64 // bytes a second delivered of late without parity, and with it
	with     float64
	on       time.Duration
	proved   bool
	lossy    int // looks in a row at which parity would be worth a trial
	rest     time.Duration
	notUntil time.Duration
	quiet    int
}

// NewPolicy makes a policy of that mode.
func NewPolicy(m Mode) *Policy {
	p := &Policy{mode: m}
	if m == On {
		p.rows = 1
	}
	return p
}

// Step takes a look and returns the number of rows from now on.
func (p *Policy) Step(l Look) int {
	if p.mode == Off {
		return 0
	}
	span := l.Now - p.last.Now
	if span < lookSpan {
		return p.rows
	}
	was := p.last
	p.last = l
	rate := float64(l.Delivered-min(was.Delivered, l.Delivered)) / span.Seconds()
	if p.rows == 0 {
		p.offStep(l, was, rate)
		return p.rows
	}
	covered, missing := l.Reported.Covered-was.Reported.Covered, l.Reported.Missing-was.Reported.Missing
	if covered >= lookLeast {
		p.follow(float64(missing)/float64(covered), l.queues())
	}
	p.with = mean(p.with, rate)
	if p.mode == Auto && p.rows > 0 && !p.proved && l.Now-p.on > trialSpan+8*l.RTT {
		p.judge(l)
	}
	return p.rows
}

// offStep looks whether parity is worth a trial: losses, and no queue, hold the line down.
func (p *Policy) offStep(l, was Look, rate float64) {
	sent, lost := l.Sent-was.Sent, l.Lost-min(was.Lost, l.Lost)
	loss := float64(lost) / float64(max(sent, 1))
	if sent < lookLeast || loss < lossFrom || !l.Full || l.Now < p.notUntil || l.queues() {
		p.lossy = 0
		return
	}
	if p.lossy++; p.lossy == 1 { // before, connections may have been faster than losses let them be for long
		p.without = 0
	}
	p.without = mean(p.without, rate)
	if p.lossy >= lossyLooks {
		p.lossy = 0
		p.rows, p.on, p.proved, p.quiet, p.with = rowsFor(loss), l.Now, false, 0, 0
	}
}

func rowsFor(loss float64) int {
	switch {
	case loss >= threeRows:
		return 3
	case loss >= twoRows:
		return 2
	}
	return 1
}

// queues reports whether packets wait somewhere on the line: then it is full, and more parity would only make it fuller.
func (l Look) queues() bool { return l.RTT > l.MinRTT+l.MinRTT/8+2*time.Millisecond }

// follow takes the share of packets that the line lost.
func (p *Policy) follow(loss float64, queues bool) {
	if want := rowsFor(loss); want > p.rows && !queues || loss < twoRows*0.7 && p.rows == 2 || loss < threeRows*0.7 && p.rows == 3 {
		p.rows = want
	}
	if p.mode != Auto {
		return
	}
	if loss >= lossUntil {
		p.quiet = 0
		return
	}
	if p.quiet++; p.quiet >= quietLooks {
		p.rows = 0
	}
}

// judge ends a trial.
func (p *Policy) judge(l Look) {
	if p.with >= paysFrom*p.without {
		p.proved, p.rest = true, 0
		return
	}
	p.rows = 0
	p.rest = min(max(2*p.rest, firstRest), longestOne)
	p.notUntil = l.Now + p.rest
}

// mean weighs what was measured last by a half, and the first wholly.
func mean(old, now float64) float64 {
	if old == 0 {
		return now
	}
	return (old + now) / 2
}
