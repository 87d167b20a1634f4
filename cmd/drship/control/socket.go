package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// SocketName is the name of the control socket in the run directory.
	SocketName = "control.sock"

	lockName = "daemon.lock"
	// maxSocketPath is the room that Linux has for a unix socket's path, its final zero byte taken off.
	maxSocketPath = 107
)

// SocketPath is the control socket of the daemon that runs with runDir.
func SocketPath(runDir string) string { return filepath.Join(runDir, SocketName) }

// Listen makes the run directory where it is missing (mode 0700), takes it for this process and opens the control
// socket (mode 0600) in it. A second daemon with the same directory gets an *Error that names the first; the socket of
// a daemon that died is replaced. Closing the listener removes the socket and gives the directory back.
func Listen(runDir string) (net.Listener, error) {
	if err := prepareRunDir(runDir); err != nil {
		return nil, err
	}
	path := SocketPath(runDir)
	if len(path)+len(".new") > maxSocketPath {
		return nil, &Error{What: path, Text: fmt.Sprintf("path of the control socket is longer than %d bytes", maxSocketPath-len(".new")),
			Hint: "choose a shorter --run-dir", Exit: ExitUsage}
	}
	lock, err := lockRunDir(runDir)
	if err != nil {
		return nil, err
	}
	l, err := listenLocked(runDir, path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &listener{UnixListener: l, path: path, lock: lock}, nil
}

func prepareRunDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at run directory: %w", err)
	}
	// Somebody else who may write to the directory could put a socket of his own in the place of ours.
	if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0 {
		return &Error{What: dir, Text: fmt.Sprintf("run directory may be written by others (mode %04o)", mode.Perm()),
			Hint: "chmod 0700 " + dir, Exit: ExitHard}
	}
	return nil
}

// lockRunDir holds the directory's lock for as long as the returned file is open; the kernel drops it with the process.
func lockRunDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the run directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner := lockOwner(f)
		if cerr := f.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, inUse(dir, owner)
		}
		return nil, fmt.Errorf("lock run directory: %w", err)
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(pid), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write lock of the run directory: %w", err), f.Close())
	}
	return f, nil
}

func lockOwner(f *os.File) string {
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return "process " + pid
	}
	return "another process"
}

func inUse(dir, owner string) error {
	return &Error{What: dir, Text: "a drship daemon runs with this run directory already (" + owner + ")",
		Hint: "stop it, or give this one a --run-dir and --state-dir of its own", Exit: ExitHard}
}

// listenLocked binds beside the final name and renames, so that the socket has its mode before anybody can find it.
func listenLocked(dir, path string) (*net.UnixListener, error) {
	// The lock file may have been removed under a living daemon: its socket still answers.
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(inUse(dir, "its control socket answers"), c.Close())
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // its name changes
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("put control socket in place: %w", err), l.Close(), os.Remove(fresh))
	}
	return l, nil
}

// listener is the control socket together with the lock of its directory.
type listener struct {
	*net.UnixListener
	path string
	lock *os.File

	once sync.Once
	err  error
}

// Close removes the socket before it stops listening, so that nobody finds a socket that does not answer, and lets the
// lock go last. It may be called again.
func (l *listener) Close() error {
	l.once.Do(func() {
		err := os.Remove(l.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		l.err = errors.Join(err, l.UnixListener.Close(), l.lock.Close())
	})
	return l.err
}
