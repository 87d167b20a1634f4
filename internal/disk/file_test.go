package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openLoop makes a loop device over a file; it needs root and losetup.
func openLoop(t *testing.T) Disk {
	d, err := Open(loopDevice(t, makeFile(t, testSize)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// loopDevice puts a loop device over path and returns its name. Skips where that is not possible.
func loopDevice(t *testing.T, path string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device to be had: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	return device
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "missing"), dir, empty, "/dev/null"} {
		if d, err := Open(path, Options{}); err == nil {
			t.Errorf("%s was opened", path)
			_ = d.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error("Open created a file")
	}
}

// TestFileHeldTwice: a second opener in this or another process is refused, and told who holds the file.
func TestFileHeldTwice(t *testing.T) {
	path := makeFile(t, testSize)
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, Options{ReadOnly: true})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "process") {
		t.Errorf("second opener got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, Options{})
	if err != nil {
		t.Fatalf("after the first let go: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestFileUnderLoop(t *testing.T) {
	path := makeFile(t, testSize)
	device := loopDevice(t, path)
	link := filepath.Join(t.TempDir(), "other name")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		if _, err := Open(name, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), device) {
			t.Errorf("%s under %s: %v", name, device, err)
		}
	}
}

func TestDeviceHeldTwice(t *testing.T) {
	device := loopDevice(t, makeFile(t, testSize))
	d, err := Open(device, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Size() != testSize {
		t.Errorf("size %d", d.Size())
	}
	if _, err := Open(device, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second opener got %v", err)
	}
}

func TestDeviceMounted(t *testing.T) {
	device := loopDevice(t, makeFile(t, 16<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", device).CombinedOutput(); err != nil {
		t.Skipf("no ext4: %v: %s", err, out)
	}
	at := filepath.Join(t.TempDir(), "a mount")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device, at, "ext4", 0, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	if _, err := Open(device, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), at) {
		t.Errorf("mounted at %q: %v", at, err)
	}
}

// TestZeroGivesSpaceBack: a punch frees what a zero keeps.
func TestZeroGivesSpaceBack(t *testing.T) {
	path := makeFile(t, 4<<20)
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	blocks := func() int64 {
		var st unix.Stat_t
		if err := errors.Join(d.Sync(), unix.Stat(path, &st)); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	p := make([]byte, 4<<20)
	for i := range p {
		p[i] = 1
	}
	if err := d.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	full := blocks()
	if err := d.Zero(0, 1<<20, false); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got < full {
		t.Errorf("a zero gave back %d bytes", full-got)
	}
	if err := d.Zero(2<<20, 1<<20, true); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got > full-(1<<20) && !d.noPunch.Load() {
		t.Errorf("a punch of 1 MiB left %d of %d bytes", got, full)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 4<<20 {
		t.Errorf("the size changed: %v %v", info, err)
	}
}

// TestSyncFailsForGood: after a failed sync no later one may succeed.
func TestSyncFailsForGood(t *testing.T) {
	d, err := Open(makeFile(t, testSize), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	lost := error(unix.EIO)
	d.syncErr.Store(&lost)
	if err := d.Sync(); !errors.Is(err, unix.EIO) {
		t.Errorf("sync after a lost write: %v", err)
	}
}

func BenchmarkFileWrite4K(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk.img")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 64<<20)); err != nil {
		b.Fatal(err)
	}
	d, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := d.WriteAt(p, int64(i*7919%16384)*4096); err != nil {
			b.Fatal(err)
		}
	}
}
