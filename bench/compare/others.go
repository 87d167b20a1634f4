package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startTimeout bounds how long a server may take until its socket is there.
const startTimeout = 20 * time.Second

func nbdkit(ctx context.Context, dir string) (subject, error) {
	image, err := filled(dir, "disk.img")
	if err != nil {
		return subject{}, err
	}
	socket := filepath.Join(dir, "nbd.sock")
	pid, stop, err := serve(ctx, socket, "nbdkit", "-f", "-U", socket, "file", image)
	return subject{uri: uri(socket, ""), stop: stop, pids: []int{pid}}, err
}

func qemu(ctx context.Context, dir string) (subject, error) {
	image, err := filled(dir, "disk.img")
	if err != nil {
		return subject{}, err
	}
	socket := filepath.Join(dir, "nbd.sock")
	pid, stop, err := serve(ctx, socket, "qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=disk,filename="+image,
		"--nbd-server", "addr.type=unix,addr.path="+socket,
		"--export", "type=nbd,id=e,node-name=disk,name=r0,writable=on")
	return subject{uri: uri(socket, "r0"), stop: stop, pids: []int{pid}}, err
}

// mirrored is a storage daemon whose writes are held until a second one, reached by NBD, has them too (copy-mode write-blocking).
func mirrored(ctx context.Context, dir string) (subject, error) {
	far := filepath.Join(dir, "far")
	if err := os.Mkdir(far, 0o755); err != nil {
		return subject{}, err
	}
	target, err := qemu(ctx, far)
	if err != nil {
		return subject{}, err
	}
	image, err := filled(dir, "disk.img")
	if err != nil {
		return subject{}, errors.Join(err, target.stop())
	}
	socket, control := filepath.Join(dir, "nbd.sock"), filepath.Join(dir, "qmp.sock")
	pid, stop, err := serve(ctx, socket, "qemu-storage-daemon",
		"--chardev", "socket,id=qmp,server=on,wait=off,path="+control, "--monitor", "chardev=qmp",
		"--blockdev", "driver=file,node-name=disk,filename="+image,
		"--blockdev", "driver=nbd,node-name=far,export=r0,server.type=unix,server.path="+filepath.Join(far, "nbd.sock"),
		"--nbd-server", "addr.type=unix,addr.path="+socket,
		"--export", "type=nbd,id=e,node-name=disk,name=r0,writable=on")
	if err != nil {
		return subject{}, errors.Join(err, target.stop())
	}
	both := func() error { return errors.Join(stop(), target.stop()) }
	if err := startMirror(ctx, control); err != nil {
		return subject{}, errors.Join(err, both())
	}
	return subject{uri: uri(socket, "r0"), stop: both, pids: append([]int{pid}, target.pids...)}, nil
}

func uri(socket, export string) string { return "nbd+unix:///" + export + "?socket=" + socket }

// filled makes an image whose blocks are all allocated, so that no subject pays for a first touch that another was spared.
func filled(dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	return path, fill(path, volumeSize, false)
}

// fill makes a file of size bytes: text, or random data.
func fill(path string, size int64, random bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	rng := rand.NewChaCha8([32]byte{})
	p := bytes.Repeat([]byte("drship"), 1<<20/6+1)[:1<<20]
	for off := int64(0); off < size && err == nil; off += int64(len(p)) {
		if random {
			_, _ = rng.Read(p) // never fails
		}
		_, err = f.Write(p)
	}
	return errors.Join(err, f.Close())
}

// serve starts a server and waits for its socket. The returned function ends it.
func serve(ctx context.Context, socket, program string, args ...string) (pid int, stop func() error, err error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return 0, nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	stop = func() error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		_ = cmd.Wait() // killed
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(socket); err == nil {
			return cmd.Process.Pid, stop, nil
		}
		select {
		case <-ctx.Done():
			return 0, nil, errors.Join(fmt.Errorf("%s opened no socket: %w", program, ctx.Err()), stop())
		case <-tick.C:
		}
	}
}
