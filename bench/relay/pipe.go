package relay

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Defaults and bounds of a pipe.
const (
	// DefaultQueue is the room before the shaper when Link.Queue is 0, in bytes.
	DefaultQueue = 256 << 10
	// maxInFlight bounds what a pipe holds in all, waiting and on its way, in bytes: 1 Gbit/s for about 0.5 s.
	maxInFlight = 64 << 20
)

// Link is how one direction treats datagrams. The zero value passes everything at once.
type Link struct {
	Delay     time.Duration // one way
	Rate      int64         // bytes/s, 0 for no limit
	Queue     int64         // bytes that may wait for Rate before the tail is dropped; 0 for DefaultQueue
	Loss      float64       // share of datagrams lost, 0…1
	Corrupt   float64       // share of datagrams with one bit flipped
	Duplicate float64       // share of datagrams delivered twice
}

// Counters of one direction: datagrams, and bytes of payload where the name says so.
type Counters struct {
	In, InBytes   uint64 // arrived at the relay
	Out, OutBytes uint64 // delivered, copies included

	DroppedCut, DroppedLoss, DroppedQueue uint64
	Corrupted, Duplicated                 uint64
}

type item struct {
	at      time.Time
	data    []byte
	deliver func([]byte)
}

// pipe is one direction of the line: a shaper (drop-tail queue before a fixed rate) and a delay behind it.
type pipe struct {
	wake chan struct{} // capacity 1: the queue has a new head

	mu       sync.Mutex
	link     Link
	cut      bool
	rng      *rand.Rand
	queue    []item    // by time of arrival; a shorter delay set later does not overtake
	inFlight int64     // bytes in queue
	free     time.Time // when the shaper will have sent everything it has taken
	last     time.Time // arrival of the queue's tail
	count    Counters
}

func newPipe(l Link, seed uint64) *pipe {
	return &pipe{wake: make(chan struct{}, 1), link: l, rng: rand.New(rand.NewPCG(seed, 0x6c696e6b))}
}

func (p *pipe) set(l Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = l
}

func (p *pipe) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		p.count.DroppedCut += uint64(len(p.queue))
		p.queue, p.inFlight = nil, 0
		p.free, p.last = time.Time{}, time.Time{}
	}
}

func (p *pipe) snapshot() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// send takes a copy of data where it must wait.
func (p *pipe) send(data []byte, deliver func([]byte)) {
	p.mu.Lock()
	p.count.In++
	p.count.InBytes += uint64(len(data))
	if p.drops(len(data)) {
		p.mu.Unlock()
		return
	}
	copies := 1
	if p.chance(p.link.Duplicate) {
		p.count.Duplicated++
		copies = 2
	}
	corrupt := p.chance(p.link.Corrupt) && len(data) > 0
	if corrupt {
		p.count.Corrupted++
		data = slices.Clone(data)
		data[p.rng.IntN(len(data))] ^= 1 << p.rng.IntN(8)
	}
	at, now := p.schedule(len(data))
	if !at.After(now) && len(p.queue) == 0 {
		p.count.Out += uint64(copies)
		p.count.OutBytes += uint64(copies * len(data))
		p.mu.Unlock()
		for range copies {
			deliver(data)
		}
		return
	}
	data = slices.Clone(data)
	for range copies {
		p.queue = append(p.queue, item{at: at, data: data, deliver: deliver})
		p.inFlight += int64(len(data))
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drops decides whether the line loses a datagram of n bytes; p.mu is held.
func (p *pipe) drops(n int) bool {
	switch {
	case p.cut:
		p.count.DroppedCut++
	case p.chance(p.link.Loss):
		p.count.DroppedLoss++
	case p.inFlight+int64(n) > maxInFlight || p.backlog()+int64(n) > p.room():
		p.count.DroppedQueue++
	default:
		return false
	}
	return true
}

func (p *pipe) chance(share float64) bool { return share > 0 && p.rng.Float64() < share }

// backlog is what waits before the shaper, in bytes.
func (p *pipe) backlog() int64 {
	wait := time.Until(p.free)
	if p.link.Rate == 0 || wait <= 0 {
		return 0
	}
	return int64(wait.Seconds() * float64(p.link.Rate))
}

func (p *pipe) room() int64 {
	switch {
	case p.link.Rate == 0:
		return maxInFlight
	case p.link.Queue == 0:
		return DefaultQueue
	}
	return p.link.Queue
}

// schedule returns when n bytes arrive at the far end; p.mu is held.
func (p *pipe) schedule(n int) (at, now time.Time) {
	now = time.Now()
	at = now
	if p.link.Rate > 0 {
		if p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(time.Duration(float64(n) / float64(p.link.Rate) * float64(time.Second)))
		at = p.free
	}
	at = at.Add(p.link.Delay)
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	return at, now
}

// run delivers what has waited its time until ctx ends.
func (p *pipe) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due []item
	for {
		var wait time.Duration
		due, wait = p.due(due[:0])
		for _, it := range due {
			it.deliver(it.data)
		}
		if len(due) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// due takes what has arrived off the queue, or says how long until the next arrival.
func (p *pipe) due(into []item) ([]item, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(p.queue) && !p.queue[n].at.After(now) {
		size := len(p.queue[n].data)
		p.inFlight -= int64(size)
		p.count.Out++
		p.count.OutBytes += uint64(size)
		n++
	}
	into = append(into, p.queue[:n]...)
	p.queue = slices.Delete(p.queue, 0, n)
	if len(p.queue) == 0 {
		return into, time.Hour
	}
	return into, p.queue[0].at.Sub(now)
}
