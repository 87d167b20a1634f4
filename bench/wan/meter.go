package main

import "time"

// manySteps is from how many on the slope through all samples is truer than the way from the first step to the last: stripes release
// several batches at once, and a sync takes its time, so that one step may be far off.
const manySteps = 6

// meter finds the rate at which a peer stages, which it does a batch at a time: from samples of how much it has staged.
type meter struct {
	begin   time.Time
	arrived uint64 // bytes that had reached the peer at begin

	origin int64 // bytes staged at the first sample
	n      float64
	// Sums over the samples, of seconds since begin and bytes since origin.
	t, b, tt, tb float64

	steps       int // times at which something was newly staged
	first, last time.Time
	low, top    int64 // bytes staged at these
}

// sample tells that bytes of all that was written are staged, or up to unsure more: what is being written just now.
func (m *meter) sample(now time.Time, bytes, unsure int64) {
	if m.n == 0 {
		m.origin, m.top = bytes, bytes+unsure
	}
	t, b := now.Sub(m.begin).Seconds(), float64(bytes-m.origin)+float64(unsure)/2
	m.n++
	m.t, m.b, m.tt, m.tb = m.t+t, m.b+b, m.tt+t*t, m.tb+t*b
	if bytes <= m.top {
		return
	}
	m.last, m.top = now, bytes+unsure
	if m.steps++; m.steps == 1 {
		m.first, m.low = m.last, m.top
	}
}

// rate is in bits a second. Where no whole batch was staged, it is what has reached the peer: arrived bytes by now.
func (m *meter) rate(now time.Time, arrived uint64) float64 {
	switch {
	case m.steps >= manySteps:
		return 8 * (m.n*m.tb - m.t*m.b) / (m.n*m.tt - m.t*m.t) // least squares
	case m.steps >= 2:
		return 8 * float64(m.top-m.low) / m.last.Sub(m.first).Seconds()
	}
	return 8 * float64(arrived-m.arrived) / now.Sub(m.begin).Seconds()
}
