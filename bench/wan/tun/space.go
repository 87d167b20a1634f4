package tun

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Space is a network namespace, entered by one thread of this process, on which everything that shall be inside is done. It has no
// name: it is gone when all are that have entered it.
type Space struct {
	calls chan call
	ended chan struct{}
	file  *os.File // the namespace itself
}

type call struct {
	do   func() error
	done chan<- error
}

// errSpaceClosed is what Do answers behind Close.
var errSpaceClosed = errors.New("the network namespace is closed")

// NewSpace makes a namespace with nothing but a loopback device, which is down.
func NewSpace() (*Space, error) {
	s, err := enter(func() (*os.File, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		return os.Open("/proc/thread-self/ns/net")
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return s, nil
}

// JoinSpace enters a namespace that another process has made: its Path there.
func JoinSpace(path string) (*Space, error) {
	s, err := enter(func() (*os.File, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	})
	if err != nil {
		return nil, fmt.Errorf("join network namespace: %w", err)
	}
	return s, nil
}

// enter starts a thread that moves into a namespace by move.
func enter(move func() (*os.File, error)) (*Space, error) {
	s := &Space{calls: make(chan call), ended: make(chan struct{})}
	ready := make(chan error)
	go s.serve(move, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return s, nil
}

// serve runs calls on its thread, which is not given back but ends with it: no other goroutine may find itself inside.
func (s *Space) serve(move func() (*os.File, error), ready chan<- error) {
	defer close(s.ended)
	runtime.LockOSThread()
	var err error
	s.file, err = move()
	ready <- err
	if err != nil {
		return
	}
	for c := range s.calls {
		if c.do == nil {
			c.done <- nil
			return
		}
		c.done <- c.do()
	}
}

// Do runs f inside. Sockets and devices that it makes, and processes that it starts, stay there. One call runs at a time.
func (s *Space) Do(f func() error) error {
	done := make(chan error, 1)
	select {
	case s.calls <- call{f, done}:
		return <-done
	case <-s.ended:
		return errSpaceClosed
	}
}

// Start starts a process inside, as cmd.Start does.
func (s *Space) Start(cmd *exec.Cmd) error { return s.Do(cmd.Start) }

// Run runs a program inside and waits for it. What it printed is part of the error where it fails.
func (s *Space) Run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := s.Start(cmd); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(text.String()))
	}
	return nil
}

// Path is where another process finds the namespace: nsenter --net=PATH.
func (s *Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// Close ends the thread. Processes that Start has started with a parent-death signal get it now. The namespace goes when
// nobody is left inside.
func (s *Space) Close() error {
	if err := s.Do(nil); err != nil {
		return nil // closed before
	}
	<-s.ended
	return s.file.Close()
}
