package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"drship/cmd/drship/control"

	"golang.org/x/sys/unix"
)

// The requests of the kernel's nbd driver, <linux/nbd.h>. go-nbd's client is not used: it sends an option whose length it
// leaves at zero, which servers that follow the protocol refuse, and never tells the kernel the export's flags, so that the
// kernel would send no FLUSH and a synced file would not be on stable storage.
const (
	nbdSetSock    = 0xab00
	nbdSetBlkSize = 0xab01
	nbdDoIt       = 0xab03
	nbdClearSock  = 0xab04
	nbdSetBlocks  = 0xab07
	nbdDisconnect = 0xab08
	nbdSetTimeout = 0xab09
	nbdSetFlags   = 0xab0a
)

// kernel is where the kernel shows its devices; tests have one of their own.
type kernel struct {
	dev, sys string
}

func defaultKernel() kernel { return kernel{dev: "/dev", sys: "/sys/block"} }

// pick checks the device that was asked for, or finds a free one.
func (k kernel) pick(device string) (string, error) {
	if device != "" {
		name := filepath.Base(device)
		if _, err := os.Stat(filepath.Join(k.sys, name)); err != nil || !strings.HasPrefix(name, "nbd") {
			return "", k.none(device)
		}
		if k.used(name) {
			return "", &control.Error{What: device, Text: "is in use", Hint: "leave the device out to take a free one", Exit: exitFailed}
		}
		return device, nil
	}
	entries, err := filepath.Glob(filepath.Join(k.sys, "nbd*"))
	if err != nil || len(entries) == 0 {
		return "", k.none("")
	}
	for n := range len(entries) {
		name := "nbd" + strconv.Itoa(n)
		if _, err := os.Stat(filepath.Join(k.sys, name)); err == nil && !k.used(name) {
			return filepath.Join(k.dev, name), nil
		}
	}
	return "", &control.Error{Text: fmt.Sprintf("all %d nbd devices are in use", len(entries)), Hint: "detach one, or load the module with a larger nbds_max", Exit: exitFailed}
}

// used reports whether somebody serves the device: the kernel shows his process then.
func (k kernel) used(name string) bool {
	_, err := os.Stat(filepath.Join(k.sys, name, "pid"))
	return err == nil
}

func (k kernel) none(device string) error {
	e := &control.Error{What: device, Text: "no such nbd device", Exit: exitHard, Hint: "see: ls " + k.dev + "/nbd*"}
	if entries, err := filepath.Glob(filepath.Join(k.sys, "nbd*")); err != nil || len(entries) == 0 {
		e.Text = "the kernel has no nbd devices: its nbd module is not loaded"
		e.Hint = "modprobe nbd; without it use the export directly: clients of NBD, or nbdfuse, need no kernel module"
	}
	return e
}

// holder is a device that is being served.
type holder struct {
	device *os.File
	conn   *net.UnixConn
	size   int64 // bytes
}

// attach opens the export and hands its connection to the device.
func (k kernel) attach(ctx context.Context, socket, export, device string, timeout time.Duration) (*holder, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, k.none(device)
		}
		return nil, fmt.Errorf("open device: %w", err)
	}
	conn, x, err := openExport(ctx, socket, export)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := &holder{device: f, conn: conn, size: x.size}
	if err := h.set(x, timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s to %s: %w", export, device, err), h.release())
	}
	return h, nil
}

// readyPoll is how often the kernel is asked whether a device can be used: it tells nobody by itself.
const readyPoll = 5 * time.Millisecond

// ready returns when the device can be used: the driver gives it its size only once it is served. ctx, or done, ends the wait.
func (k kernel) ready(ctx context.Context, device string, size int64, done <-chan struct{}) error {
	t := time.NewTicker(readyPoll)
	defer t.Stop()
	path := filepath.Join(k.sys, filepath.Base(device), "size")
	want := strconv.FormatInt(size/512, 10)
	for {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == want {
			return nil
		}
		select {
		case <-t.C:
		case <-done:
			return fmt.Errorf("%s: the kernel does not serve it", device)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", device, ctx.Err())
		}
	}
}

// set tells the kernel what it serves and over which connection.
func (h *holder) set(x exportInfo, timeout time.Duration) error {
	raw, err := h.conn.SyscallConn()
	if err != nil {
		return err
	}
	block := 4096
	if x.size%int64(block) != 0 {
		block = 512
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		for _, step := range []struct {
			name    string
			request uint
			value   int
		}{
			{"NBD_SET_BLKSIZE", nbdSetBlkSize, block},
			{"NBD_SET_SIZE_BLOCKS", nbdSetBlocks, int(x.size / int64(block))},
			{"NBD_SET_FLAGS", nbdSetFlags, int(x.flags)},
			{"NBD_SET_TIMEOUT", nbdSetTimeout, int(timeout / time.Second)},
			{"NBD_SET_SOCK", nbdSetSock, int(fd)},
		} {
			if err := unix.IoctlSetInt(int(h.device.Fd()), step.request, step.value); err != nil {
				serr = fmt.Errorf("%s: %w", step.name, err)
				return
			}
		}
	})
	return errors.Join(err, serr)
}

// serve lets the kernel use the connection until the device is detached or ctx ends.
func (h *holder) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		unix.IoctlSetInt(int(h.device.Fd()), nbdDisconnect, 0) //nolint:errcheck // NBD_DO_IT tells how it ended
	})()
	err := unix.IoctlSetInt(int(h.device.Fd()), nbdDoIt, 0)
	if errors.Is(err, unix.EPIPE) || ctx.Err() != nil {
		err = nil // how the driver says that it was asked to disconnect
	}
	return errors.Join(err, h.release())
}

func (h *holder) release() error {
	err := unix.IoctlSetInt(int(h.device.Fd()), nbdClearSock, 0)
	if errors.Is(err, unix.ENOTTY) {
		err = nil // not a device of the driver: attach has said so
	}
	return errors.Join(err, h.conn.Close(), h.device.Close())
}

// detach asks the driver to let a device go; its holder ends then.
func (k kernel) detach(device string) error {
	name := filepath.Base(device)
	if _, err := os.Stat(filepath.Join(k.sys, name)); err != nil {
		return k.none(device)
	}
	if !k.used(name) {
		return &control.Error{What: device, Text: "is not attached", Exit: exitUsage}
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open device: %w", err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), nbdDisconnect, 0); err != nil {
		return errors.Join(fmt.Errorf("detach %s: %w", device, err), f.Close())
	}
	return f.Close()
}
