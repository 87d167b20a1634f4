package emu

import (
	"math/rand/v2"
	"time"
)

// MaxHeld bounds what one direction holds, waiting and on its way, in bytes: 1 Gbit/s for a second.
const MaxHeld = 128 << 20

// perPacket is what a packet takes beside its bytes.
const perPacket = 256

// Fate is what becomes of a packet.
type Fate uint8

// The fates.
const (
	Passed   Fate = iota
	ByCut         // dropped: the line is cut
	ByQueue       // dropped: the queue before the rate is full
	ByLoss        // lost on the line
	ByMemory      // dropped: more than MaxHeld is on its way
)

// Passage is what a line does to one packet.
type Passage struct {
	Fate    Fate
	At      time.Duration // when it arrives, where it passed
	Late    bool          // it is held back: others overtake it
	Corrupt bool          // one of its bits is wrong
	Twice   bool          // it arrives twice
}

// Counters of one direction: packets as they are on the wire, and bytes of them, headers included, where the name says so.
type Counters struct {
	In, InBytes   uint64 // offered to the line
	Out, OutBytes uint64 // arrived, copies included

	DroppedCut, DroppedQueue, DroppedLoss, DroppedMemory uint64
	Reordered, Duplicated, Corrupted                     uint64
}

// Line is one direction. It is not safe for concurrent use. Times are durations since a moment that the user chooses; they must not
// go back.
type Line struct {
	p     Params
	chain Gilbert
	rng   *rand.Rand
	count Counters

	cut  bool
	bad  bool          // the chain is in its bad state
	free time.Duration // when the last packet of the queue will have left
	last time.Duration // arrival of the last packet that was not held back
	sway sway

	packets uint64 // on their way
	bytes   int64
}

// NewLine makes one direction. The parameters must have passed Check.
func NewLine(p Params, seed uint64) *Line {
	l := &Line{rng: rand.New(rand.NewPCG(seed, 0x6c696e65))}
	l.Set(p)
	return l
}

// Set changes the parameters. What is on its way keeps its time of arrival, and is not overtaken by a shorter delay.
func (l *Line) Set(p Params) {
	l.p, l.chain = p, p.chain()
	if l.chain.Enter == 0 {
		l.bad = false
	}
}

// Params returns what was set last.
func (l *Line) Params() Params { return l.p }

// Cut drops what is on its way, and all that follows until Heal. Whoever holds the packets drops them with it.
func (l *Line) Cut() {
	l.cut = true
	l.count.DroppedCut += l.packets
	l.packets, l.bytes, l.free, l.last = 0, 0, 0, 0
}

// Heal ends a Cut.
func (l *Line) Heal() { l.cut = false }

// IsCut tells whether the line is cut.
func (l *Line) IsCut() bool { return l.cut }

// Counters returns what the line did so far.
func (l *Line) Counters() Counters { return l.count }

// Held is what is waiting or on its way, in bytes.
func (l *Line) Held() int64 { return l.bytes }

// Pass decides about one packet of size bytes that comes to the line at now. One that passes is on its way until Arrive.
func (l *Line) Pass(now time.Duration, size int) Passage {
	l.count.In++
	l.count.InBytes += uint64(size)
	switch {
	case l.cut:
		l.count.DroppedCut++
		return Passage{Fate: ByCut}
	case l.bytes+2*int64(size)+int64(l.packets+2)*perPacket > MaxHeld:
		l.count.DroppedMemory++
		return Passage{Fate: ByMemory}
	case l.waiting(now)+int64(size) > l.p.Room() && l.p.Rate > 0:
		l.count.DroppedQueue++
		return Passage{Fate: ByQueue}
	}
	left := l.leave(now, size)
	if l.loses() {
		l.count.DroppedLoss++
		return Passage{Fate: ByLoss}
	}
	v := Passage{At: max(left+l.p.Delay+l.sway.at(left, l.p.Jitter, l.rng), l.last)}
	l.last = v.At
	if l.chance(l.p.Corrupt) {
		l.count.Corrupted++
		v.Corrupt = true
	}
	if l.chance(l.p.Duplicate) {
		l.count.Duplicated++
		v.Twice = true
		l.hold(size)
	}
	if l.chance(l.p.Reorder) {
		l.count.Reordered++
		v.Late = true
		v.At += l.p.heldBack()
	}
	l.hold(size)
	return v
}

func (l *Line) hold(size int) {
	l.packets++
	l.bytes += int64(size)
}

// Arrive says that packets of together bytes, copies included, are no longer on their way: they have arrived.
func (l *Line) Arrive(packets int, bytes int64) {
	l.packets -= uint64(packets)
	l.bytes -= bytes
	l.count.Out += uint64(packets)
	l.count.OutBytes += uint64(bytes)
}

func (l *Line) chance(share float64) bool { return share > 0 && l.rng.Float64() < share }

// waiting is what is in the queue at now, in bytes: what the rate will carry until the last of it has left.
func (l *Line) waiting(now time.Duration) int64 {
	if l.p.Rate == 0 || l.free <= now {
		return 0
	}
	return int64((l.free - now).Seconds() * float64(l.p.Rate) / 8)
}

// leave takes a packet into the queue and returns when the last bit of it will have left.
func (l *Line) leave(now time.Duration, size int) time.Duration {
	if l.p.Rate == 0 {
		return now
	}
	l.free = max(l.free, now) + time.Duration(float64(size)*8/float64(l.p.Rate)*float64(time.Second))
	return l.free
}

// loses draws whether the next packet is lost, and moves the chain on.
func (l *Line) loses() bool {
	loss, change := l.chain.LossGood, l.chain.Enter
	if l.bad {
		loss, change = l.chain.LossBad, l.chain.Leave
	}
	lost := l.chance(loss)
	if l.chance(change) {
		l.bad = !l.bad
	}
	return lost
}

func (p *Params) heldBack() time.Duration {
	if p.ReorderBy > 0 {
		return p.ReorderBy
	}
	return DefaultReorderBy
}

// sway is a delay that wanders: straight from one random value to the next. Between two of them lies four times the
// jitter or more, so that it never falls faster than half of the time that goes by, and packets keep their order.
type sway struct {
	from, to   time.Duration // when the present stretch begins and ends
	low, width float64       // its value at from, and how much it changes until to, each a share of the jitter
}

// minStretch is the shortest time from one random value to the next.
const minStretch = 10 * time.Millisecond

// at is the deviation from the mean at a moment.
func (s *sway) at(now, jitter time.Duration, rng *rand.Rand) time.Duration {
	if jitter == 0 {
		return 0
	}
	if now >= s.to {
		stretch := max(minStretch, 4*jitter)
		begin := 2*rng.Float64() - 1
		if now-s.to < stretch && s.to > 0 {
			begin = s.low + s.width // go on from where it stood
			s.from = s.to
		} else {
			s.from = now
		}
		s.low, s.width = begin, 2*rng.Float64()-1-begin
		s.to = s.from + stretch
	}
	share := s.low + s.width*float64(now-s.from)/float64(s.to-s.from)
	return time.Duration(share * float64(jitter))
}
