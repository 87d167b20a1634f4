// Package clients drives real NBD clients against a primary and compares the promoted secondary byte for byte.
package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const volumeSize = 192 << 20

// TestClients runs every client against alice, one after the other; after each, bob is promoted and holds the same bytes.
func TestClients(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.Up(ctx, t, pair.Options{Sizes: []int64{volumeSize}})
	for _, c := range []struct {
		name string
		run  func(context.Context, *testing.T, *pair.Node)
	}{
		{"qemu-img", qemuImg},
		{"nbdcopy", nbdcopy},
		{"nbdinfo", nbdinfo},
		{"qemu-io", qemuIO},
		{"fio", fio},
		{"ext4", ext4},
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			alice, bob := p.Node("alice"), p.Node("bob")
			c.run(ctx, t, alice)
			switchOver(ctx, t, alice, bob)
			compareExport(ctx, t, bob, alice.Backing(0))
			if c.name == "ext4" {
				checkExt4(ctx, t, bob)
			}
			switchOver(ctx, t, bob, alice)
		})
		if !ok {
			return // the pair is in an unknown state
		}
	}
}

func switchOver(ctx context.Context, t *testing.T, from, to *pair.Node) {
	t.Helper()
	if err := from.Demote(ctx); err != nil {
		t.Fatalf("demote %s: %v", from.Name, err)
	}
	if err := to.Promote(ctx); err != nil {
		t.Fatalf("promote %s: %v", to.Name, err)
	}
}

// compareExport holds a Primary's export against a file, byte for byte.
func compareExport(ctx context.Context, t *testing.T, n *pair.Node, path string) {
	t.Helper()
	x, err := n.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < volumeSize; off += int64(len(got)) {
		if _, err := io.ReadFull(f, want); err != nil {
			t.Fatal(err)
		}
		if err := x.ReadAt(ctx, got, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("%s differs from %s in the MiB at %d", n.URI(0), path, off)
		}
	}
}

// image makes a file of the volume's size: runs of random bytes and holes.
func image(t *testing.T, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	fill := rand.NewChaCha8([32]byte{byte(seed)})
	for off := int64(0); off < volumeSize; {
		run := min(int64(1+rng.IntN(2<<20)), volumeSize-off)
		if rng.IntN(2) == 0 {
			if _, err := io.CopyN(io.NewOffsetWriter(f, off), fill, run); err != nil {
				t.Fatal(err)
			}
		}
		off += run
	}
	if err := f.Truncate(volumeSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func qemuImg(ctx context.Context, t *testing.T, alice *pair.Node) {
	qemu, src := pairtest.Tool(t, "qemu-img", "qemu-utils"), image(t, 1)
	pairtest.Run(ctx, t, qemu, "convert", "-n", "-f", "raw", "-O", "raw", src, alice.URI(0))
	out := pairtest.Run(ctx, t, qemu, "compare", "-f", "raw", "-F", "raw", src, alice.URI(0))
	if !strings.Contains(out, "Images are identical") {
		t.Errorf("qemu-img compare says %q", out)
	}
}

func nbdcopy(ctx context.Context, t *testing.T, alice *pair.Node) {
	tool, src := pairtest.Tool(t, "nbdcopy", "libnbd-bin"), image(t, 2)
	pairtest.Run(ctx, t, tool, "--connections=4", "--flush", src, alice.URI(0))
	back := filepath.Join(t.TempDir(), "back.img")
	pairtest.Run(ctx, t, tool, "--connections=4", alice.URI(0), back)
	want, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Error("what nbdcopy read back is not what it wrote")
	}
}

func nbdinfo(ctx context.Context, t *testing.T, alice *pair.Node) {
	tool := pairtest.Tool(t, "nbdinfo", "libnbd-bin")
	var info struct {
		Exports []map[string]any `json:"exports"`
	}
	if err := json.Unmarshal([]byte(pairtest.Run(ctx, t, tool, "--json", alice.URI(0))), &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Exports) != 1 {
		t.Fatalf("nbdinfo shows %d exports", len(info.Exports))
	}
	x := info.Exports[0]
	if size, _ := x["export-size"].(float64); int64(size) != volumeSize {
		t.Errorf("export-size %v, want %d", x["export-size"], volumeSize)
	}
	if x["is_read_only"] != false {
		t.Errorf("is_read_only is %v", x["is_read_only"])
	}
	for _, can := range []string{"can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_multi_conn"} {
		if x[can] != true {
			t.Errorf("%s is %v", can, x[can])
		}
	}
	mapped := pairtest.Run(ctx, t, tool, "--map", alice.URI(0))
	var covered int64
	for line := range strings.Lines(mapped) {
		var off, n int64
		var kind int
		if _, err := fmt.Sscan(line, &off, &n, &kind); err != nil || off != covered {
			t.Fatalf("nbdinfo --map: line %q after %d bytes: %v", line, covered, err)
		}
		covered += n
	}
	if covered != volumeSize {
		t.Errorf("nbdinfo --map covers %d of %d bytes", covered, volumeSize)
	}
}

func qemuIO(ctx context.Context, t *testing.T, alice *pair.Node) {
	tool := pairtest.Tool(t, "qemu-io", "qemu-utils")
	var args = []string{"-f", "raw", "--discard=unmap"}
	for _, c := range []string{
		"write -P 0x11 0 8M",
		"write -f -P 0x5a 1M 64k", // FUA
		"write -P 0x77 1234567 4321",
		"write -z 2M 1M",
		"write -z -u 3M 1M",
		"write -z -f 4M 64k",
		"discard 5M 1M",
		"flush",
		"read -P 0x11 0 1M",
		"read -P 0x5a 1M 64k",
		"read -P 0x77 1234567 4321",
		"read -P 0 2M 2113536", // the first two zeroings and the third, as far as it goes
		"read -P 0 5M 1M",
		"read -P 0x11 6M 2M",
	} {
		args = append(args, "-c", c)
	}
	out := pairtest.Run(ctx, t, tool, append(args, alice.URI(0))...)
	if strings.Contains(out, "verification failed") || strings.Contains(out, "error") {
		t.Errorf("qemu-io:\n%s", out)
	}
}

func fio(ctx context.Context, t *testing.T, alice *pair.Node) {
	tool := pairtest.Tool(t, "fio", "fio")
	pairtest.Run(ctx, t, tool, "--name=verify", "--ioengine=nbd", "--uri="+alice.URI(0), "--rw=randwrite", "--bsrange=4k-64k",
		"--size=96m", "--iodepth=32", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--randseed=11", "--fsync=64", "--verify_state_save=0")
}
