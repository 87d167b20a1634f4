package pair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// startTimeout bounds how long a daemon may take until it answers verbs.
const startTimeout = 30 * time.Second

// stopTimeout bounds an orderly stop.
const stopTimeout = 30 * time.Second

// logTail is how much of a daemon's log goes into an error, in bytes.
const logTail = 4 << 10

// Node is one daemon, running or not.
type Node struct {
	Name string

	pair *Pair
	dir  string

	mu   sync.Mutex
	proc *process // nil while not running
}

// process is one start of a daemon.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid behind done
}

func newNode(p *Pair, name string) *Node {
	return &Node{Name: name, pair: p, dir: filepath.Join(p.o.Dir, name)}
}

// Start starts the daemon and waits until it answers.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return n.poll(ctx, func() (bool, error) {
		if !n.Running() {
			return false, fmt.Errorf("daemon of %s ended at once (%v):\n%s", n.Name, n.ExitError(), n.Log())
		}
		_, err := n.Verb(ctx, "status", "--json")
		return err == nil, nil
	})
}

// Launch starts the daemon without waiting for anything.
func (n *Node) Launch() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && !n.proc.ended() {
		return fmt.Errorf("daemon of %s runs already", n.Name)
	}
	log, err := os.OpenFile(n.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open daemon log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(n.pair.o.Binary, n.arguments("daemon")...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), n.pair.o.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if n.pair.o.Detached {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	spawn := n.pair.o.Spawn
	if spawn == nil {
		spawn = func(_ string, daemon *exec.Cmd) error { return daemon.Start() }
	}
	if err := spawn(n.Name, cmd); err != nil {
		return fmt.Errorf("start daemon of %s: %w", n.Name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	n.proc = p
	go func() { // ends with the process; Kill and Terminate wait for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	return nil
}

// arguments puts the options that tell nodes apart before a verb's own.
func (n *Node) arguments(verb string, args ...string) []string {
	all := []string{verb, "--node", n.Name, "--config-file", n.ConfigPath(), "--state-dir", n.StateDir(), "--run-dir", n.RunDir()}
	return append(all, args...)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// Running reports whether the daemon's process lives.
func (n *Node) Running() bool {
	p := n.current()
	return p != nil && !p.ended()
}

// ExitError is how the last process ended, nil if well or if it runs.
func (n *Node) ExitError() error {
	if p := n.current(); p != nil && p.ended() {
		return p.err
	}
	return nil
}

// PID of the daemon, 0 when it does not run.
func (n *Node) PID() int {
	if p := n.current(); p != nil && !p.ended() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Signal sends a signal to the daemon; one that has ended already is no error.
func (n *Node) Signal(s syscall.Signal) error {
	p := n.current()
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to %s: %w", s, n.Name, err)
	}
	return nil
}

// Kill is SIGKILL, and waits until the process is gone.
func (n *Node) Kill() error {
	p := n.current()
	if p == nil {
		return nil
	}
	if err := n.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Autopsy makes a daemon that still runs write where all its goroutines stand to its log, and end (SIGQUIT): for tests that failed.
func (n *Node) Autopsy() error {
	p := n.current()
	if p == nil || p.ended() {
		return nil
	}
	if err := errors.Join(n.Cont(), n.Signal(syscall.SIGQUIT)); err != nil {
		return err
	}
	t := time.NewTimer(stopTimeout / 3)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		return n.Kill()
	}
}

// Stop freezes the daemon (SIGSTOP): its sockets stay open and silent.
func (n *Node) Stop() error { return n.Signal(syscall.SIGSTOP) }

// Cont lets a frozen daemon go on.
func (n *Node) Cont() error { return n.Signal(syscall.SIGCONT) }

// Terminate asks the daemon to stop (SIGTERM) and waits for it, bounded.
func (n *Node) Terminate() error {
	p := n.current()
	if p == nil {
		return nil
	}
	if err := n.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
		return p.err
	case <-t.C:
		return errors.Join(fmt.Errorf("daemon of %s did not stop within %v", n.Name, stopTimeout), n.Kill())
	}
}

// Log returns the end of the daemon's log.
func (n *Node) Log() string {
	f, err := os.Open(n.LogPath())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > logTail {
		if _, err := f.Seek(-logTail, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// pollInterval is how often a wait looks again.
const pollInterval = 30 * time.Millisecond

// poll calls done until it says so, fails, or ctx ends.
func (n *Node) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
