package tun

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"drship/bench/wan/emu"
)

const (
	// gather is how far apart packets of one super-packet may arrive and still be delivered together, at the time of the last: as
	// a network card does that interrupts its machine not more often than this.
	gather = 100 * time.Microsecond
	// turn is how many packets are read before what is due is delivered.
	turn = 32
)

// part is a row of packets that arrive together: from up to to (exclusive) of a super-packet, or a single one.
type part struct {
	at      time.Duration
	b       *buffer
	from    int
	to      int
	bytes   int64 // on the wire
	corrupt bool
}

// forwarder is one direction: it reads from one device, holds packets for as long as the line says, and writes them to the
// other one. It has a thread to itself, which sleeps in the kernel: a timer of the Go runtime is late by up to a millisecond.
type forwarder struct {
	in, out, wake int // files; wake becomes readable when it is to end
	start         time.Time
	scratch       []byte
	head          []byte
	pool          pool
	rng           *rand.Rand

	mu      sync.Mutex
	line    *emu.Line
	transit emu.Transit[part]
	delays  Delivery
	err     error
}

// Delivery is how well the forwarder kept the times that the line gave it.
type Delivery struct {
	Parts     uint64        // deliveries: packets, or rows of them
	LateSum   time.Duration // by how much they were late in all
	LateMost  time.Duration // and at most
	Refused   uint64        // packets that the receiving device did not take
	Malformed uint64        // packets that were dropped because they could not be read
}

func newForwarder(in, out int, start time.Time, p emu.Params, seed uint64) (*forwarder, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make wake-up of a forwarder: %w", err)
	}
	return &forwarder{in: in, out: out, wake: wake, start: start, scratch: make([]byte, maxPacket),
		rng: rand.New(rand.NewPCG(seed, 0x62697473)), line: emu.NewLine(p, seed)}, nil
}

// stop makes run return.
func (f *forwarder) stop() error {
	_, err := unix.Write(f.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

func (f *forwarder) now() time.Duration { return time.Since(f.start) }

// run forwards until stop, or until a device fails.
func (f *forwarder) run() {
	runtime.LockOSThread() // and never unlocked: the thread's timer slack goes with it
	// What is refused makes the line less true, and no more: its times are then late by 50 µs.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		more, err := f.round()
		if err == nil && !more {
			more, err = f.sleep()
			if err == nil && !more {
				return
			}
		}
		if err != nil {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
			return
		}
	}
}

// round delivers what is due and reads a turn of packets; more says that there may be more to read.
func (f *forwarder) round() (more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliver()
	for range turn {
		n, err := unix.Read(f.in, f.scratch)
		switch {
		case errors.Is(err, unix.EAGAIN):
			f.deliver()
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("read from TUN device: %w", err)
		}
		f.take(f.scratch[:n])
	}
	return true, nil
}

// sleep waits until there is something to read or to deliver; it returns false when it is time to end.
func (f *forwarder) sleep() (on bool, err error) {
	fds := []unix.PollFd{{Fd: int32(f.in), Events: unix.POLLIN}, {Fd: int32(f.wake), Events: unix.POLLIN}}
	var timeout *unix.Timespec
	f.mu.Lock()
	next, ok := f.transit.Next()
	f.mu.Unlock()
	if ok {
		t := unix.NsecToTimespec(int64(max(0, next-f.now())))
		timeout = &t
	}
	if _, err := unix.Ppoll(fds, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("wait for TUN device: %w", err)
	}
	return fds[1].Revents == 0, nil
}

// take passes what was read through the line, packet by packet as they are on the wire. Those that arrive within a moment stay together.
func (f *forwarder) take(raw []byte) {
	now := f.now()
	b := f.pool.get(len(raw))
	copy(b.data, raw)
	p, err := parse(b.data)
	if err != nil {
		f.delays.Malformed++
		f.pool.put(b)
		return
	}
	b.packet = p
	b.parts = 1 // ours, while we look at it
	var open part
	var opened time.Duration // when the first packet of open arrives
	for i := range p.count {
		size := p.size(i)
		v := f.line.Pass(now, size)
		if v.Fate != emu.Passed {
			continue
		}
		one := part{at: v.At, b: b, from: i, to: i + 1, bytes: int64(size), corrupt: v.Corrupt}
		if v.Twice {
			f.push(one)
		}
		if v.Corrupt || v.Late {
			f.push(one)
			continue
		}
		if open.to == i && open.b != nil && v.At-opened <= gather {
			open.at, open.to, open.bytes = v.At, i+1, open.bytes+one.bytes
			continue
		}
		f.push(open)
		open, opened = one, v.At
	}
	f.push(open)
	f.release(b)
}

// push sends a part on its way; an empty one is none.
func (f *forwarder) push(d part) {
	if d.b == nil {
		return
	}
	d.b.parts++
	f.transit.Push(d.at, d)
}

func (f *forwarder) release(b *buffer) {
	if b.parts--; b.parts == 0 {
		f.pool.put(b)
	}
}

// deliver writes what is due.
func (f *forwarder) deliver() {
	for {
		at, ok := f.transit.Next()
		if !ok {
			return
		}
		late := f.now() - at
		if late < 0 {
			return
		}
		d := f.transit.Pop()
		if !f.write(&d) {
			f.delays.Refused += uint64(d.to - d.from)
		}
		f.line.Arrive(d.to-d.from, d.bytes)
		f.delays.Parts++
		f.delays.LateSum += late
		f.delays.LateMost = max(f.delays.LateMost, late)
		f.release(d.b)
	}
}

// write gives a part to the receiving device, which takes it whole or not at all.
func (f *forwarder) write(d *part) bool {
	p := &d.b.packet
	var first, rest []byte
	if d.corrupt {
		first = p.spoil(f.head[:0], d.from, f.line.Params().Forge, f.rng.IntN)
		f.head = first
	} else {
		first, rest = p.cut(f.head[:0], d.from, d.to)
		f.head = first[:0]
	}
	for {
		var err error
		switch {
		case len(first) == 0:
			_, err = unix.Write(f.out, rest)
		case len(rest) == 0:
			_, err = unix.Write(f.out, first)
		default:
			_, err = unix.Writev(f.out, [][]byte{first, rest})
		}
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// set changes the parameters; cut and heal do what their names say.
func (f *forwarder) set(p emu.Params) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line.Set(p)
}

func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line.Cut()
	for f.transit.Len() > 0 {
		f.release(f.transit.Pop().b)
	}
}

func (f *forwarder) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line.Heal()
}

func (f *forwarder) snapshot() (Counters, emu.Params, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Counters{At: f.now(), Cut: f.line.IsCut(), Counters: f.line.Counters(), Delivery: f.delays}, f.line.Params(), f.err
}

// Late is by how much deliveries were late, on average.
func (d Delivery) Late() time.Duration {
	return d.LateSum / time.Duration(max(d.Parts, 1))
}
