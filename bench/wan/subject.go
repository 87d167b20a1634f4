package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"drship/bench/wan/tun"
)

// subject is something that carries data from A to B as fast as it can.
type subject interface {
	name() string
	// carry does so for warm, and then for span; it returns the goodput of the span in bits a second: bytes that were of use to the
	// application at B.
	carry(ctx context.Context, warm, span time.Duration) (float64, error)
	// rest waits until nothing of it is under way, over a line without limits.
	rest(ctx context.Context) error
}

// grace is how long a program of a subject may take beyond its time.
const grace = 30 * time.Second

// child is a program at one end of the line.
type child struct {
	cmd    *exec.Cmd
	output *bufio.Reader
	text   *strings.Builder // of its stderr
}

// startChild starts a program inside; it ends with ctx, and with this process.
func startChild(ctx context.Context, s *tun.Space, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, name, args...), text: &strings.Builder{}}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = c.text
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.output = bufio.NewReader(out)
	if err := s.Start(c.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// line returns the next line that it prints.
func (c *child) line() (string, error) {
	text, err := c.output.ReadString('\n')
	return strings.TrimSpace(text), err
}

// end returns what else it prints once it has ended.
func (c *child) end() ([]byte, error) {
	text, err := io.ReadAll(c.output)
	if err = errors.Join(err, c.cmd.Wait()); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(c.cmd.Args, " "), err, c.text, text)
	}
	return text, nil
}

// kill ends it, whatever it does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
