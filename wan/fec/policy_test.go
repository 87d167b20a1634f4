package fec

import (
	"testing"
	"time"
)

// line drives a Policy over a line that loses, and gives so many bytes a second without and with parity.
type line struct {
	loss          float64
	without, with float64
	rtt           time.Duration // shortest 100 ms
	full          bool
}

func run(p *Policy, l *Look, by line, looks int) (rows []int) {
	for range looks {
		const packets = 50_000
		lost := uint64(by.loss * packets)
		rate := by.without
		if p.rows > 0 {
			rate = by.with
			l.Reported.Covered += packets
			l.Reported.Missing += lost
			l.Reported.Repaired += lost
			lost = 0
		}
		l.Now += time.Second
		l.Sent += packets
		l.Lost += lost
		l.Delivered += uint64(rate)
		l.RTT, l.MinRTT, l.Full = by.rtt, 100*time.Millisecond, by.full
		rows = append(rows, p.Step(*l))
	}
	return rows
}

func TestPolicy(t *testing.T) {
	const near = 101 * time.Millisecond
	for _, c := range []struct {
		name string
		mode Mode
		line line
		want []int // after 6, 14, 40 seconds
	}{
		{"off", Off, line{loss: 0.01, without: 1e6, with: 9e6, rtt: near, full: true}, []int{0, 0, 0}},
		{"on without losses", On, line{without: 1e6, with: 1e6, rtt: near}, []int{1, 1, 1}},
		{"on with many", On, line{loss: 0.005, without: 1e6, with: 1e6, rtt: near}, []int{2, 2, 2}},
		{"on with very many", On, line{loss: 0.02, without: 1e6, with: 1e6, rtt: near}, []int{3, 3, 3}},
		{"losses hold it down, and parity pays", Auto, line{loss: 0.001, without: 20e6, with: 80e6, rtt: near, full: true}, []int{1, 1, 1}},
		{"parity does not pay", Auto, line{loss: 0.001, without: 20e6, with: 20e6, rtt: near, full: true}, []int{1, 0, 0}},
		{"no losses", Auto, line{loss: 0.0001, without: 20e6, with: 80e6, rtt: near, full: true}, []int{0, 0, 0}},
		{"connections are enough", Auto, line{loss: 0.01, without: 20e6, with: 80e6, rtt: near}, []int{0, 0, 0}},
		{"the line is full: it queues", Auto, line{loss: 0.01, without: 20e6, with: 80e6, rtt: 150 * time.Millisecond, full: true}, []int{0, 0, 0}},
	} {
		p, l := NewPolicy(c.mode), &Look{}
		rows := run(p, l, c.line, 40)
		for i, at := range []int{6, 14, 40} {
			if rows[at-1] != c.want[i] {
				t.Errorf("%s: %d rows after %d s, want %d (%v)", c.name, rows[at-1], at, c.want[i], rows)
			}
		}
	}
}

// Parity ends when the line has got better, and a trial that did not pay is not made again soon.
func TestPolicyEnds(t *testing.T) {
	lossy := line{loss: 0.001, without: 20e6, with: 80e6, rtt: 101 * time.Millisecond, full: true}
	p, l := NewPolicy(Auto), &Look{}
	run(p, l, lossy, 20)
	if p.rows != 1 {
		t.Fatalf("%d rows", p.rows)
	}
	lossy.loss = 0
	if rows := run(p, l, lossy, quietLooks+1); rows[quietLooks] != 0 || rows[0] != 1 {
		t.Errorf("no losses any more: %v", rows)
	}
	p, l = NewPolicy(Auto), &Look{}
	lossy.loss, lossy.with = 0.001, 20e6
	trials, on := 0, false
	for _, rows := range run(p, l, lossy, 600) {
		if rows > 0 && !on {
			trials++
		}
		on = rows > 0
	}
	if trials < 2 || trials > 4 {
		t.Errorf("%d trials in ten minutes", trials)
	}
}
