// Package handler runs the shell lines that an administrator sets for events, as DRBD's helper does: by /bin/sh -c, so that
// several commands with ";" are one handler, in a process group of its own, with a limit on its time and on its output.
package handler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxOutput = 16 << 10 // bytes of output kept; the rest is dropped
	// lingers bounds how long a killed handler's children may hold on to its output.
	lingers = 2 * time.Second
)

// ErrTime is returned for a handler that was killed because it took longer than its limit.
var ErrTime = errors.New("handler ran out of time and was killed")

// Call is one run of a handler.
type Call struct {
	Name  string        // split-brain, fence-peer, …; it is the first argument of the shell line, as DRBD's helper has it
	Line  string        // what the shell runs
	Env   []string      // "NAME=value", added to the daemon's own
	Limit time.Duration // it is killed, with all its children, when it has not ended by then
}

// Result is how a run ended.
type Result struct {
	Code   int      // exit code; 128 + the signal where a signal ended it, as the shell counts
	Output []string // what it wrote to stdout and stderr, line by line, at most 16 KiB of it
}

// Run runs the handler and waits for it. An error means that it gave no answer: it could not be started, or was killed because its time
// was up or ctx ended.
func Run(ctx context.Context, c Call) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Limit, ErrTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", c.Line, c.Name)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lingers
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	res := Result{Code: code(cmd.ProcessState), Output: out.lines()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("run handler %s: %w", c.Name, context.Cause(ctx))
	case err == nil, errors.As(err, &exit):
		return res, nil
	case errors.Is(err, exec.ErrWaitDelay):
		return res, nil // it has ended; something that it left behind still holds its output
	}
	return res, fmt.Errorf("run handler %s: %w", c.Name, err)
}

func code(p *os.ProcessState) int {
	if p == nil {
		return -1
	}
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}

// output keeps the beginning of what is written to it.
type output struct {
	mu  sync.Mutex
	buf []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p[:min(len(p), maxOutput-len(o.buf))]...)
	return len(p), nil
}

func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.TrimRight(strings.ToValidUTF8(string(o.buf), "?"), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
