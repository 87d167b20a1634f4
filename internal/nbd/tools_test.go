package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fileServer serves a file of 64 MiB, mostly holes, under the name r0 and tells its URI.
func fileServer(t *testing.T) (uri, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "nbd.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	e := &file{f: f, size: 64 << 20}
	cfg := Config{Directory: &shelf{
		exports: map[string]Export{"r0": e},
		refuse:  map[string]error{"r1": &PolicyError{Text: "r1 is Secondary here"}},
	}}
	go func() { done <- NewServer(cfg).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.Close()
	})
	return "nbd+unix:///r0?socket=" + socket, path
}

// tool runs a program that must be installed for the test, and returns its output.
func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := toolErr(t, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func toolErr(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	return exec.CommandContext(t.Context(), name, args...).CombinedOutput()
}

func TestNbdinfo(t *testing.T) {
	uri, _ := fileServer(t)
	var info struct {
		Exports []struct {
			Size      int64  `json:"export-size"`
			FUA       bool   `json:"can_fua"`
			DF        bool   `json:"can_df"`
			FastZero  bool   `json:"can_fast_zero"`
			MultiConn bool   `json:"can_multi_conn"`
			Max       int64  `json:"block_size_maximum"`
			Name      string `json:"export-name"`
		} `json:"exports"`
	}
	out := tool(t, "nbdinfo", "--json", uri)
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(info.Exports) != 1 {
		t.Fatalf("%s", out)
	}
	if e := info.Exports[0]; e.Size != 64<<20 || !e.FUA || !e.DF || !e.FastZero || !e.MultiConn || e.Max != MaxPayload {
		t.Errorf("%+v", e)
	}
	if out := tool(t, "nbdinfo", "--list", uri); !bytes.Contains(out, []byte("volume r0")) {
		t.Errorf("list:\n%s", out)
	}
}

func TestNbdinfoMap(t *testing.T) {
	uri, path := fileServer(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 8<<20); err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Offset, Length int64
		Type           int
	}
	out := tool(t, "nbdinfo", "--map", "--json", uri)
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(got) != 3 || got[1].Offset != 8<<20 || got[1].Length != 1<<20 || got[1].Type != 0 || got[2].Type != 3 {
		t.Errorf("map %s", out)
	}
}

// TestQemuShowsTheRefusal holds that a policy error's text reaches the user of a client.
func TestQemuShowsTheRefusal(t *testing.T) {
	uri, _ := fileServer(t)
	out, err := toolErr(t, "qemu-img", "info", strings.Replace(uri, "/r0?", "/r1?", 1))
	if err == nil || !bytes.Contains(out, []byte("r1 is Secondary here")) {
		t.Errorf("refused export: %v\n%s", err, out)
	}
}

func TestQemuIO(t *testing.T) {
	uri, path := fileServer(t)
	out := tool(t, "qemu-io", "-f", "raw",
		"-c", "write -P 0x11 0 32M", "-c", "write -f -P 0x22 4095 4099", "-c", "write -z 1M 64k", "-c", "write -z -u 2M 64k",
		"-c", "discard 3M 1M", "-c", "flush", "-c", "aio_write -P 0x33 40M 1M", "-c", "aio_write -P 0x44 41M 1M", "-c", "aio_flush",
		"-c", "read -P 0x22 4095 4099", "-c", "read -P 0 1M 64k", "-c", "read -P 0 2M 64k", "-c", "read -P 0 3M 1M",
		"-c", "read -P 0x33 40M 1M", "-c", "read -P 0x44 41M 1M", "-c", "read -P 0x11 4M 28M", uri)
	if bytes.Contains(out, []byte("failed")) || bytes.Contains(out, []byte("rror")) {
		t.Errorf("%s", out)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte{0x11}, 32<<20)
	copy(want[4095:], bytes.Repeat([]byte{0x22}, 4099))
	clear(want[1<<20 : 1<<20+64<<10])
	clear(want[2<<20 : 2<<20+64<<10])
	clear(want[3<<20 : 4<<20])
	if !bytes.Equal(disk[:32<<20], want) {
		t.Error("disk differs from what was written")
	}
}

// TestNbdcopy copies a file in over four connections, and out again.
func TestNbdcopy(t *testing.T) {
	uri, path := fileServer(t)
	src, dst := filepath.Join(t.TempDir(), "src.img"), filepath.Join(t.TempDir(), "dst.img")
	want := make([]byte, 64<<20)
	for i := range want {
		if i/(3<<20)%2 == 0 { // data and holes in turn
			want[i] = byte(i>>12) | 1
		}
	}
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "nbdcopy", "--connections=4", "--flush", src, uri)
	tool(t, "nbdcopy", "--connections=4", uri, dst)
	for _, name := range []string{path, dst} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the source (%v)", filepath.Base(name), err)
		}
	}
}
