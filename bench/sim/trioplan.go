package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// trioPlan is what a seed stands for with three nodes: one is Primary, one is near it, the third is far away.
type trioPlan struct {
	plan         // of the protocol only that of the near line is used
	far     byte // protocol of the lines to the far node
	remote  time.Duration
	moments []trioMoment
}

// The places of a trio. Roles move, names do not: charlie is always far.
const (
	first3  = iota // who is Primary when the moment begins
	second3        // the first other node, by name
	third3         // the last
)

// trioMoment is one phase of a trio: load, faults, recovery.
type trioMoment struct {
	line   line
	load   time.Duration
	cuts   []trioCut
	dead   [3]bool // who goes down, by place
	fault  fault
	gap    time.Duration // between two crashes
	next   int           // the place of who is Primary afterwards; first3: no failover
	settle time.Duration // between the crash and the promotion
	again  time.Duration // 0, or how long into its recovery whoever comes back crashes once more
}

// trioCut cuts the line between two places for a while.
type trioCut struct {
	a, b    int
	at, dur time.Duration
}

func (m trioMoment) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "load %v, delay %v, loss %.2f", m.load, m.line.delay, m.line.loss)
	for _, c := range m.cuts {
		fmt.Fprintf(&s, ", cut %d–%d at %v for %v", c.a, c.b, c.at, c.dur)
	}
	fmt.Fprintf(&s, ", dead %v (%s)", m.dead, [...]string{"killed", "power"}[m.fault])
	if m.next != first3 {
		fmt.Fprintf(&s, ", failover to %d after %v", m.next, m.settle)
	}
	if m.again > 0 {
		fmt.Fprintf(&s, ", again after %v", m.again)
	}
	return s.String()
}

// drawTrio makes the plan of a seed.
func drawTrio(seed uint64) trioPlan {
	r := rand.New(rand.NewPCG(seed, 0x7472696f))
	p := trioPlan{plan: plan{seed: seed, protocol: "CCCBA"[r.IntN(5)], volumes: 1 + r.IntN(2), journal: "64M", csums: r.IntN(3) == 0},
		far: "AAAC"[r.IntN(4)], remote: between(r, 0, 60*time.Millisecond)}
	if r.IntN(4) == 0 {
		p.journal = "1M"
	}
	for range 2 + r.IntN(3) {
		m := trioMoment{load: between(r, 20*time.Millisecond, time.Second), fault: fault(r.IntN(2)), gap: between(r, 0, 100*time.Millisecond)}
		m.line = line{delay: between(r, 50*time.Microsecond, 5*time.Millisecond), jitter: between(r, 0, 2*time.Millisecond)}
		if r.IntN(3) == 0 {
			m.line.loss = r.Float64() * 0.05
		}
		for range r.IntN(3) {
			c := trioCut{a: r.IntN(3), at: between(r, 0, m.load), dur: between(r, time.Millisecond, 20*time.Second)}
			c.b = (c.a + 1 + r.IntN(2)) % 3
			m.cuts = append(m.cuts, c)
		}
		for i := range m.dead {
			m.dead[i] = r.IntN(3) == 0
		}
		if m.dead[first3] && r.IntN(3) != 0 {
			m.next = 1 + r.IntN(2)
			if r.IntN(2) == 0 {
				m.settle = between(r, 0, 30*time.Second)
			}
		}
		if r.IntN(3) == 0 {
			m.again = between(r, time.Millisecond, 500*time.Millisecond)
		}
		p.moments = append(p.moments, m)
	}
	return p
}

const trioConfiguration = `
resource r0 {
	net { protocol %c; cram-hmac-alg sha256; shared-secret "simulated"; %s }
	journal { max-size %s; }
	wan { cache-size 1M; }
	on alice   { node-id 0; address 10.0.0.1:7788; %s }
	on bob     { node-id 1; address 10.0.0.2:7788; %s }
	on charlie { node-id 2; address 10.0.0.3:7788; %s }
	connection { host alice; host bob; }
	connection { host alice; host charlie; net { protocol %c; } }
	connection { host bob; host charlie; net { protocol %c; } }
}
`

// config is the configuration of all three nodes.
func (p trioPlan) config() string {
	csums := ""
	if p.csums {
		csums = "csums-alg sha1;"
	}
	return fmt.Sprintf(trioConfiguration, p.protocol, csums, p.journal, p.disks("alice"), p.disks("bob"), p.disks("charlie"), p.far, p.far)
}
