package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const volumeSize = 8 << 20

// line is how the network behaves for a while.
type line struct {
	delay, jitter time.Duration
	loss          float64
}

// plan is what a seed stands for.
type plan struct {
	seed     uint64
	protocol byte
	volumes  int
	journal  string // max-size; small enough to fill now and then
	csums    bool
	moments  []moment

	// Of a run that is about rates; zero is what the drawn plans have.
	size    int64         // of a volume, bytes
	dwell   time.Duration // how long a peer stays Behind at least
	bits    int64         // that each end of the line carries a second
	disk    string        // more statements of the disk section
	bobDisk int64         // what bob's disk moves, bytes a second; 0 without limit
	carried bool          // both disks hold the same data, not zeroes, and are declared equal
}

// who goes down.
type victim int

const (
	nobody victim = iota
	primaryDies
	secondaryDies
	bothDie
)

// moment is one phase: load, faults, recovery.
type moment struct {
	line     line
	load     time.Duration
	cutAt    time.Duration // 0: the line is not cut
	cutFor   time.Duration
	victim   victim
	fault    fault
	gap      time.Duration // between the two crashes of bothDie
	failover bool          // the secondary is promoted
	again    time.Duration // 0, or how long into its recovery whoever comes back crashes once more
}

func (m moment) String() string {
	s := fmt.Sprintf("load %v, delay %v, loss %.2f", m.load, m.line.delay, m.line.loss)
	if m.cutFor > 0 {
		s += fmt.Sprintf(", cut at %v for %v", m.cutAt, m.cutFor)
	}
	s += ", " + [...]string{"nobody dies", "primary dies", "secondary dies", "both die"}[m.victim]
	if m.victim != nobody {
		s += [...]string{" (killed)", " (power)"}[m.fault]
	}
	if m.failover {
		s += ", failover"
	}
	if m.again > 0 {
		s += fmt.Sprintf(", again after %v", m.again)
	}
	return s
}

// draw makes the plan of a seed.
func draw(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	p := plan{seed: seed, protocol: "ABC"[r.IntN(3)], volumes: 1 + r.IntN(2), journal: "64M", csums: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		p.journal = "1M"
	}
	for range 2 + r.IntN(3) {
		m := moment{load: between(r, 20*time.Millisecond, time.Second), victim: victim(r.IntN(4)), fault: fault(r.IntN(2)),
			gap: between(r, 0, 100*time.Millisecond)}
		m.line = line{delay: between(r, 50*time.Microsecond, 40*time.Millisecond), jitter: between(r, 0, 2*time.Millisecond)}
		if r.IntN(3) == 0 {
			m.line.loss = r.Float64() * 0.05
		}
		if r.IntN(3) == 0 {
			m.cutAt, m.cutFor = between(r, 0, m.load), between(r, time.Millisecond, 20*time.Second)
		}
		if m.victim == primaryDies || m.victim == bothDie {
			m.failover = r.IntN(2) == 0
		}
		if m.victim != nobody && r.IntN(3) == 0 {
			m.again = between(r, time.Millisecond, 500*time.Millisecond)
		}
		p.moments = append(p.moments, m)
	}
	return p
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

const configuration = `
resource r0 {
	net { protocol %c; cram-hmac-alg sha256; shared-secret "simulated"; %s }
	disk { %s }
	journal { max-size %s; }
	on alice { address 10.0.0.1:7788; %s }
	on bob   { address 10.0.0.2:7788; %s }
}
`

// config is the configuration of both nodes.
func (p plan) config() string {
	csums := ""
	if p.csums {
		csums = "csums-alg sha1;"
	}
	return fmt.Sprintf(configuration, p.protocol, csums, p.disk, p.journal, p.disks("alice"), p.disks("bob"))
}

// disks are the volumes of one host.
func (p plan) disks(host string) (s string) {
	for i := range p.volumes {
		s += fmt.Sprintf("volume %d { device /dev/drbd%d; disk /sim/%s/%d; meta-disk internal; } ", i, i, host, i)
	}
	return s
}
