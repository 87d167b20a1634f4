package verb

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drship/cmd/drship/control"
	"drship/internal/nbd"
)

func TestPickDevice(t *testing.T) {
	root := t.TempDir()
	k := kernel{dev: filepath.Join(root, "dev"), sys: filepath.Join(root, "sys")}
	fail := func(device, want string, code int) {
		t.Helper()
		_, err := k.pick(device)
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Exit != code || !strings.Contains(e.Error(), want) {
			t.Errorf("pick(%q): %v, want %q and exit %d", device, err, want, code)
		}
	}
	fail("", "nbd module is not loaded", 20)
	fail("/dev/nbd0", "nbd module is not loaded", 20)
	if err := k.detach("/dev/nbd0"); err == nil || !strings.Contains(err.Error(), "not loaded") {
		t.Errorf("detach without the module: %v", err)
	}
	for _, name := range []string{"nbd0", "nbd1", "sda"} {
		if err := os.MkdirAll(filepath.Join(k.sys, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := k.pick(""); err != nil || got != filepath.Join(k.dev, "nbd0") {
		t.Errorf("pick = %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(k.sys, "nbd0", "pid"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := k.pick(""); err != nil || got != filepath.Join(k.dev, "nbd1") {
		t.Errorf("pick with nbd0 taken = %q, %v", got, err)
	}
	if got, err := k.pick("/dev/nbd1"); err != nil || got != "/dev/nbd1" {
		t.Errorf("pick nbd1 = %q, %v", got, err)
	}
	fail("/dev/nbd0", "is in use", 10)
	fail("/dev/nbd9", "no such nbd device", 20)
	fail("/dev/sda", "no such nbd device", 20)
	if err := k.detach("/dev/nbd1"); err == nil || !strings.Contains(err.Error(), "is not attached") {
		t.Errorf("detach of a free device: %v", err)
	}
	if err := os.WriteFile(filepath.Join(k.sys, "nbd1", "pid"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fail("", "all 2 nbd devices are in use", 10)
}

// volume is an export that is only looked at.
type volume struct{ nbd.Export }

func (volume) Size() int64                            { return 3 << 20 }
func (volume) BlockSizes() (min, preferred, m uint32) { return 1, 4096, 32 << 20 }
func (volume) ReadOnly() bool                         { return false }

type shelf struct{}

func (shelf) Open(_ context.Context, name string, _ nbd.Client) (nbd.Export, func(), error) {
	switch name {
	case "r0":
		return volume{}, func() {}, nil
	case "r1":
		return nil, nil, &nbd.PolicyError{Text: "r1 is Secondary here; promote it with: drship primary r1"}
	}
	return nil, nil, nbd.ErrUnknown
}

func (shelf) List(context.Context) []nbd.Info { return nil }

// TestOpenExport holds our negotiation against our server; both follow the protocol.
func TestOpenExport(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	if _, _, err := openExport(t.Context(), socket, "r0"); err == nil || !strings.Contains(err.Error(), "no drship daemon serves exports") {
		t.Errorf("without a server: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- nbd.NewServer(nbd.Config{Directory: shelf{}}).Serve(ctx, l) }()
	conn, x, err := openExport(t.Context(), socket, "r0")
	if err != nil {
		t.Fatal(err)
	}
	if x.size != 3<<20 || x.flags&nbd.FlagSendFlush == 0 || x.flags&nbd.FlagSendFUA == 0 {
		t.Errorf("export: %+v; without FLUSH and FUA the kernel cannot keep promises", x)
	}
	conn.Close()
	if _, _, err := openExport(t.Context(), socket, "r1"); err == nil || !strings.Contains(err.Error(), "drship primary r1") {
		t.Errorf("export of a Secondary: %v", err)
	}
	if _, _, err := openExport(t.Context(), socket, "r9"); err == nil {
		t.Error("an unknown export was opened")
	}

	// A file that is no nbd device is refused by the kernel, and everything is given back.
	file := filepath.Join(dir, "nbd0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (kernel{dev: dir, sys: dir}).attach(t.Context(), socket, "r0", file, 0); err == nil || !strings.Contains(err.Error(), "NBD_SET_BLKSIZE") {
		t.Errorf("attach to a plain file: %v", err)
	}
	cancel()
	if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDeviceVerbs(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	if _, err := os.Stat("/sys/block/nbd0"); err == nil {
		t.Skip("this machine has nbd devices: the message about a missing module cannot be seen")
	}
	if got := f.call(t, nil, "device", "attach", "r0"); got.code != 20 || !strings.Contains(got.err, "modprobe nbd") {
		t.Errorf("attach without the module: %+v", got)
	}
	if got := f.call(t, nil, "device", "detach", "r0"); got.code != 1 || !strings.Contains(got.err, "r0: is not attached") {
		t.Errorf("detach of what is not attached: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "nbd3.export"), []byte("r0/1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{node: NodeOptions{RunDir: f.dir}}
	if got, err := a.deviceOf("r0/1"); err != nil || got != "/dev/nbd3" {
		t.Errorf("deviceOf = %q, %v", got, err)
	}
	if got, err := a.deviceOf("r0"); err == nil {
		t.Errorf("r0 found on %q", got)
	}
}
