package sim

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

const volumeSize = 8 << 20

// line is how the network behaves for a while.
type line struct {
	delay, jitter time.Duration
	loss          float64
	noise         noise
}

// noise is what befalls packets beside delay and loss, each as a share of them.
type noise struct {
	twice float64 // arrive twice
	late  float64 // are overtaken by others
	bent  float64 // arrive with a bit turned over
}

// maxLate is how much longer a packet takes at most that is overtaken.
const maxLate = 30 * time.Millisecond

// plan is what a seed stands for.
type plan struct {
	seed     uint64
	protocol byte
	volumes  int
	journal  string // max-size; small enough to fill now and then
	csums    bool
	moments  []moment
	packing  string // statements of the wan section
	burst    bool   // writers begin at the same instants, so that their writes meet

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
	failover bool          // the secondary is promoted; where nobody dies, out of sight of the primary
	again    time.Duration // 0, or how long into its recovery whoever comes back crashes once more
	swap     bool          // roles change in order before anything else
	oneWay   bool          // the cut silences one of the two alone
	behind   time.Duration // 0, or how long into the resync that follows a long absence of the secondary the faults come
	slow     bool          // disks and stores take their time
	sick     syscall.Errno // what the victim's store gets for every write in the second half of the load
	rot      bool          // a bit of the dead secondary's store turns over
	skew     time.Duration // by how much a clock is set meanwhile
}

func (m moment) String() string {
	s := fmt.Sprintf("load %v, delay %v, loss %.2f", m.load, m.line.delay, m.line.loss)
	if m.swap {
		s = "roles change, " + s
	}
	if m.line.noise != (noise{}) {
		s += fmt.Sprintf(", noise %.2f", m.line.noise)
	}
	if m.behind > 0 {
		s += fmt.Sprintf(", %v into a resync", m.behind)
	}
	if m.cutFor > 0 {
		s += fmt.Sprintf(", cut%s at %v for %v", map[bool]string{true: " one way"}[m.oneWay], m.cutAt, m.cutFor)
	}
	if m.slow {
		s += ", slow disks"
	}
	if m.skew != 0 {
		s += fmt.Sprintf(", a clock set by %v", m.skew)
	}
	if m.sick != 0 {
		s += fmt.Sprintf(", the victim's store: %v", m.sick)
	}
	s += ", " + [...]string{"nobody dies", "primary dies", "secondary dies", "both die"}[m.victim]
	if m.victim != nobody {
		s += [...]string{" (killed)", " (power)"}[m.fault]
	}
	if m.rot {
		s += ", its store rots"
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
	p.drawMore(rand.New(rand.NewPCG(seed, 0x6d6f7265)))
	return p
}

// drawMore draws what plans got later, from a source of its own: so what seeds stood for before they still stand for.
func (p *plan) drawMore(r *rand.Rand) {
	p.packing = []string{"", "compression off; ", "compression s2; ", "compression zstd; "}[r.IntN(4)]
	p.burst = r.IntN(2) == 0
	for i := range p.moments {
		m := &p.moments[i]
		if r.IntN(4) == 0 {
			m.line.noise = noise{twice: r.Float64() * 0.2, late: r.Float64() * 0.1, bent: r.Float64() * 0.03}
		}
		m.oneWay, m.swap = r.IntN(2) == 0, r.IntN(4) == 0
		m.slow = r.IntN(5) == 0
		if r.IntN(5) == 0 {
			m.skew = between(r, -50*time.Hour, 50*time.Hour)
		}
		behind := between(r, time.Millisecond, 3*time.Second)
		switch r.IntN(8) {
		case 0:
			m.behind = behind
			if who := r.IntN(3); who > 0 {
				m.victim, m.failover, m.cutFor = []victim{nobody, nobody, primaryDies}[who], true, 0
			}
		case 1:
			m.sick = []syscall.Errno{syscall.EIO, syscall.ENOSPC}[r.IntN(2)]
			m.victim, m.failover = primaryDies+victim(r.IntN(2)), false
		}
		m.rot = r.IntN(4) == 0 && m.victim == secondaryDies
		if m.behind > 0 {
			m.slow = r.IntN(2) == 0 // a resync meets more writes that are under way
		}
		if m.slow && m.victim == bothDie {
			m.gap = 0 // what was being synced is lost
		}
	}
	for i := range p.moments {
		if p.moments[i].behind > 0 {
			p.journal, p.disk = "1M", "resync-rate 1M; c-plan-ahead 0;"
		}
	}
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

const configuration = `
resource r0 {
	net { protocol %c; cram-hmac-alg sha256; shared-secret "simulated"; %s }
	disk { %s }
	journal { max-size %s; }
	wan { %scache-size 1M; }
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
	return fmt.Sprintf(configuration, p.protocol, csums, p.disk, p.journal, p.packing, p.disks("alice"), p.disks("bob"))
}

// disks are the volumes of one host.
func (p plan) disks(host string) (s string) {
	for i := range p.volumes {
		s += fmt.Sprintf("volume %d { device /dev/drbd%d; disk /sim/%s/%d; meta-disk internal; } ", i, i, host, i)
	}
	return s
}
