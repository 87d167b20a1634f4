package tun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"drship/bench/wan/emu"
)

// Direction of a packet.
type Direction int

// The two directions.
const (
	AtoB Direction = iota
	BtoA
)

func (d Direction) String() string { return [...]string{"a>b", "b>a"}[d] }

// DefaultMTU is the largest IP packet that is carried where nothing else is said, in bytes.
const DefaultMTU = 1500

// Config says how a line starts.
type Config struct {
	Link [2]emu.Params // by direction
	Seed uint64        // of every draw
	MTU  int           // bytes; 0: DefaultMTU
}

// Counters of one direction.
type Counters struct {
	At time.Duration // when they were read, since the line started
	emu.Counters
	Delivery
	Cut    bool   // it is cut just now
	Missed uint64 // packets that were gone before the forwarder read them: it was the bottleneck
}

// Line is a running line. Its methods may be called concurrently.
type Line struct {
	A, B *Space // the namespaces of its ends

	engine *exec.Cmd
	input  io.WriteCloser

	mu     sync.Mutex // one request at a time
	ask    *json.Encoder
	answer *json.Decoder
}

// request is what the engine is asked, one JSON value each; the first one is the Config.
type request struct {
	Verb      string // set, cut, heal or show
	Direction Direction
	Params    emu.Params
}

// response is the engine's answer.
type response struct {
	Error    string
	Spaces   [2]string // to the Config: paths of the namespaces
	Params   emu.Params
	Counters Counters
}

// stopPatience bounds the engine's orderly end.
const stopPatience = 5 * time.Second

// Start makes the namespaces and forwards between them until Close, or until this process ends. It needs what Available says, and
// a main function that calls Main first.
func Start(c Config) (*Line, error) {
	l, err := start(c)
	if err != nil {
		return nil, fmt.Errorf("start line: %w", err)
	}
	return l, nil
}

func start(c Config) (*Line, error) {
	for d := range c.Link {
		if err := c.Link[d].Check(); err != nil {
			return nil, fmt.Errorf("direction %v: %w", Direction(d), err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &Line{engine: exec.Command(self)}
	l.engine.Env = append(os.Environ(), engineMark+"=1")
	l.engine.Stderr = os.Stderr
	if l.input, err = l.engine.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := l.engine.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startFirst(l.engine); err != nil {
		return nil, fmt.Errorf("start its engine: %w", err)
	}
	l.ask, l.answer = json.NewEncoder(l.input), json.NewDecoder(output)
	if err := l.join(c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// startFirst starts a process that goes before all others whenever it has something to do, where that is allowed.
func startFirst(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its priority
		_ = goFirst(enginePriority)
		started <- cmd.Start()
	}()
	return <-started
}

func (l *Line) join(c Config) error {
	r, err := l.exchange(c)
	if err != nil {
		return err
	}
	if l.A, err = JoinSpace(r.Spaces[0]); err != nil {
		return err
	}
	l.B, err = JoinSpace(r.Spaces[1])
	return err
}

func (l *Line) exchange(question any) (response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r response
	if err := l.ask.Encode(question); err != nil {
		return r, fmt.Errorf("ask the engine of the line: %w", err)
	}
	if err := l.answer.Decode(&r); err != nil {
		return r, fmt.Errorf("hear from the engine of the line: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// Set changes one direction.
func (l *Line) Set(d Direction, p emu.Params) error {
	if err := p.Check(); err != nil {
		return err
	}
	_, err := l.exchange(request{Verb: "set", Direction: d, Params: p})
	return err
}

// SetBoth changes both.
func (l *Line) SetBoth(p emu.Params) error {
	return errors.Join(l.Set(AtoB, p), l.Set(BtoA, p))
}

// Cut drops what is on its way in both directions, and all that follows, until Heal.
func (l *Line) Cut() error {
	return errors.Join(l.CutDirection(AtoB), l.CutDirection(BtoA))
}

// Heal ends a Cut.
func (l *Line) Heal() error {
	return errors.Join(l.HealDirection(AtoB), l.HealDirection(BtoA))
}

// CutDirection cuts one direction.
func (l *Line) CutDirection(d Direction) error {
	_, err := l.exchange(request{Verb: "cut", Direction: d})
	return err
}

// HealDirection heals one.
func (l *Line) HealDirection(d Direction) error {
	_, err := l.exchange(request{Verb: "heal", Direction: d})
	return err
}

// Look returns what one direction did so far and what was set last, or why it does nothing any more.
func (l *Line) Look(d Direction) (Counters, emu.Params, error) {
	r, err := l.exchange(request{Verb: "show", Direction: d})
	return r.Counters, r.Params, err
}

// Addr is the address of an end, 4 its IPv4 one and 6 its IPv6 one.
func Addr(a bool, version int) netip.Addr {
	switch {
	case a && version == 4:
		return netip.AddrFrom4([4]byte{10, 77, 0, 1})
	case version == 4:
		return netip.AddrFrom4([4]byte{10, 77, 0, 2})
	case a:
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: 1})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: 2})
}

// AddrA is the IPv4 address of end A.
func (l *Line) AddrA() netip.Addr { return Addr(true, 4) }

// AddrB is the IPv4 address of end B.
func (l *Line) AddrB() netip.Addr { return Addr(false, 4) }

// Close ends the line. The namespaces go when nobody is left inside.
func (l *Line) Close() error {
	errs := []error{l.input.Close()}
	late := time.AfterFunc(stopPatience, func() { _ = l.engine.Process.Kill() })
	errs = append(errs, l.engine.Wait())
	late.Stop()
	for _, s := range []*Space{l.A, l.B} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
