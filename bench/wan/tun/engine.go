package tun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engineMark in the environment makes a program an engine.
const engineMark = "DRSHIP_WAN_ENGINE"

// Main is to be called at the beginning of the main function of every program that starts lines, and of TestMain: where the
// program was started as an engine, Main is one until it is told to end, and does not return.
func Main() {
	if os.Getenv(engineMark) == "" {
		return
	}
	// It ends with its input: a signal to the whole group of processes is for those who use the line.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	// A forwarder must find a processor of the Go runtime free whenever its packets are due.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	if err := runEngine(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "line:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runEngine obeys requests until they end.
func runEngine(in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	var c Config
	if err := questions.Decode(&c); err != nil {
		return err
	}
	e := &engine{start: time.Now()}
	var first response
	if err := e.open(c); err != nil {
		first.Error = err.Error()
		return errors.Join(answers.Encode(first), e.close())
	}
	for i, s := range e.spaces {
		first.Spaces[i] = s.Path()
	}
	for _, f := range e.forwarders {
		e.wg.Go(f.run)
	}
	err := answers.Encode(first)
	for err == nil {
		var q request
		if err = questions.Decode(&q); err == nil {
			err = answers.Encode(e.obey(q))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, e.close())
}

// engine is the line itself.
type engine struct {
	start      time.Time
	spaces     []*Space
	devices    []int
	forwarders []*forwarder
	wg         sync.WaitGroup
}

func (e *engine) open(c Config) error {
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	for _, a := range []bool{true, false} {
		s, err := NewSpace()
		if err != nil {
			return err
		}
		e.spaces = append(e.spaces, s)
		addresses := []string{netip.PrefixFrom(Addr(a, 4), 24).String(), netip.PrefixFrom(Addr(a, 6), 64).String()}
		fd, err := openDevice(s, addresses, c.MTU)
		if err != nil {
			return err
		}
		e.devices = append(e.devices, fd)
	}
	for d, p := range c.Link {
		f, err := newForwarder(e.devices[d], e.devices[1-d], e.start, p, c.Seed+uint64(d))
		if err != nil {
			return err
		}
		e.forwarders = append(e.forwarders, f)
	}
	return nil
}

func (e *engine) obey(q request) (r response) {
	if q.Direction != AtoB && q.Direction != BtoA {
		return response{Error: fmt.Sprintf("no direction %d", q.Direction)}
	}
	f := e.forwarders[q.Direction]
	switch q.Verb {
	case "set":
		f.set(q.Params)
	case "cut":
		f.cut()
	case "heal":
		f.heal()
	case "show":
		var err error
		r.Counters, r.Params, err = f.snapshot()
		if err == nil {
			r.Counters.Missed, err = missed(e.spaces[q.Direction])
		}
		if err != nil {
			r.Error = fmt.Sprintf("line %v: %v", q.Direction, err)
		}
	default:
		r.Error = fmt.Sprintf("no request %q", q.Verb)
	}
	return r
}

func (e *engine) close() error {
	var errs []error
	for _, f := range e.forwarders {
		errs = append(errs, f.stop())
	}
	e.wg.Wait()
	for _, f := range e.forwarders {
		errs = append(errs, f.err, unix.Close(f.wake))
	}
	for _, fd := range e.devices {
		errs = append(errs, unix.Close(fd))
	}
	for _, s := range e.spaces {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
