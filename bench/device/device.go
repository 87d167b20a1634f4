// Package device makes disks and file systems of this machine out of NBD exports, without the kernel's nbd: nbdfuse shows an export as a file,
// a loop device makes a disk of a part of it, which can be mounted. It needs root, /dev/fuse and loop devices (Available).
package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	patience = 30 * time.Second
	interval = 20 * time.Millisecond
)

// Available says what is missing on this machine.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("loop devices and mounts need root")
	}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(dev); err != nil {
			return fmt.Errorf("this machine has no %s", dev)
		}
	}
	for tool, of := range map[string]string{"nbdfuse": "libnbd-bin", "fusermount3": "fuse3", "losetup": "mount", "mkfs.ext4": "e2fsprogs"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed (Debian package %s)", tool, of)
		}
	}
	return nil
}

// Stack is an export with all that stands on it. What was put on it last goes first.
type Stack struct {
	dir  string // the FUSE mount
	fuse *exec.Cmd
	gone chan struct{} // closed when nbdfuse has ended
	undo []func() error
}

// Open shows the export of uri, of size bytes, as a file below dir, which is made.
func Open(ctx context.Context, dir, uri string, size int64) (*Stack, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	s := &Stack{dir: dir, fuse: exec.Command("nbdfuse", dir, uri), gone: make(chan struct{})}
	var said strings.Builder
	s.fuse.Stderr = &said
	s.fuse.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.fuse.Start(); err != nil {
		return nil, fmt.Errorf("start nbdfuse: %w", err)
	}
	go func() { // ends with the process; Close waits for it
		_ = s.fuse.Wait()
		close(s.gone)
	}()
	err := Await(ctx, func() bool {
		select {
		case <-s.gone:
			return true
		default:
		}
		st, err := os.Stat(s.File())
		return err == nil && st.Size() == size
	})
	select {
	case <-s.gone:
		err = errors.New("it ended")
	default:
	}
	if err != nil {
		closing := s.Close()
		return nil, errors.Join(fmt.Errorf("nbdfuse shows no file: %w: %s", err, said.String()), closing)
	}
	return s, nil
}

// File is the export as a file.
func (s *Stack) File() string { return filepath.Join(s.dir, "nbd") }

// Loop makes a disk of the n bytes at off.
func (s *Stack) Loop(ctx context.Context, off, n int64) (string, error) {
	out, err := output(ctx, "losetup", "--find", "--show", "--offset", fmt.Sprint(off), "--sizelimit", fmt.Sprint(n), s.File())
	if err != nil {
		return "", err
	}
	loop := strings.TrimSpace(out)
	s.later(func() error { return Run(context.Background(), "losetup", "--detach", loop) })
	return loop, nil
}

// Mount mounts a disk of this stack at dir, which is made.
func (s *Stack) Mount(ctx context.Context, disk, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := Run(ctx, "mount", "-t", "ext4", disk, dir); err != nil {
		return err
	}
	s.later(func() error { return unmount(dir) })
	return nil
}

// unmount waits for those who were killed and have not left yet.
func unmount(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last error
	err := Await(ctx, func() bool {
		last = Run(ctx, "umount", dir)
		return last == nil
	})
	if err != nil {
		return errors.Join(last, Run(context.Background(), "umount", "--lazy", dir))
	}
	return nil
}

func (s *Stack) later(undo func() error) { s.undo = append(s.undo, undo) }

// Unmount takes everything down to the file, in order.
func (s *Stack) Unmount() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(errs...)
}

// Abort is Close where the export does not answer any more: nbdfuse is killed first, so that whoever waits for it fails instead.
func (s *Stack) Abort() error {
	_ = s.fuse.Process.Kill() // has it ended already, so much the better
	<-s.gone
	return s.Close()
}

// Close takes everything down, in order.
func (s *Stack) Close() error {
	err := s.Unmount()
	// nbdfuse ends with its mount; one that was killed leaves a dead mount behind.
	if e := Run(context.Background(), "fusermount3", "-u", s.dir); e != nil && mounted(s.dir) {
		err = errors.Join(err, e)
	}
	select {
	case <-s.gone:
	case <-time.After(patience):
		_ = s.fuse.Process.Kill()
		<-s.gone
		err = errors.Join(err, errors.New("nbdfuse did not end with its mount"))
	}
	return err
}

// mounted reports whether something is mounted at dir.
func mounted(dir string) bool {
	text, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(text), " "+dir+" ")
}

// Format makes an ext4 on a disk. Everything is written at once, so that no thread of the kernel writes later on its own.
func Format(ctx context.Context, disk string) error {
	return Run(ctx, "mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", disk)
}

// Run runs a command and tells what it said where it fails.
func Run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out[max(0, len(out)-1<<10):])
	}
	return string(out), nil
}

// Await asks again and again until ok, for half a minute at most.
func Await(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := time.NewTicker(interval)
	defer t.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
