package power

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"drship/internal/nbd/nbdclient"
)

const size = 1 << 20

func block(b byte) []byte { return bytes.Repeat([]byte{b}, 4096) }

// open starts a disk and connects to it.
func open(t *testing.T, seed uint64) (*Disk, *nbdclient.Client) {
	t.Helper()
	d, err := Start(filepath.Join(t.TempDir(), "disk.sock"), size, seed)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nbdclient.Dial(t.Context(), "unix", d.socket, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, c
}

func write(t *testing.T, c *nbdclient.Client, number int64, b byte) {
	t.Helper()
	if err := c.WriteAt(t.Context(), block(b), number*4096, false); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *nbdclient.Client, number int64) []byte {
	t.Helper()
	p := make([]byte, 4096)
	if err := c.ReadAt(context.Background(), p, number*4096); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCut: what was flushed stays; what was not is there, or not, or torn; what came after the cut is not there.
func TestCut(t *testing.T) {
	var kept, lost, torn int
	for seed := range uint64(40) {
		d, c := open(t, seed)
		write(t, c, 0, 1)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		write(t, c, 1, 2)
		d.Cut()
		write(t, c, 2, 3)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, c, 2), block(3)) {
			t.Fatal("the system that is about to go does not see its own write")
		}
		d.On()
		if !bytes.Equal(read(t, c, 0), block(1)) {
			t.Errorf("seed %d: what was flushed is lost", seed)
		}
		if !bytes.Equal(read(t, c, 2), block(0)) {
			t.Errorf("seed %d: a write behind the cut is on the disk", seed)
		}
		switch got := read(t, c, 1); {
		case bytes.Equal(got, block(2)):
			kept++
		case bytes.Equal(got, block(0)):
			lost++
		default:
			torn++
		}
	}
	if kept == 0 || lost == 0 || torn == 0 {
		t.Errorf("of 40 writes without a flush %d were kept, %d lost, %d torn: each should happen", kept, lost, torn)
	}
}

// TestGoesOn: the disk after a cut is a disk like any other.
func TestGoesOn(t *testing.T) {
	d, c := open(t, 1)
	for round := range byte(3) {
		write(t, c, 5, round+1)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Cut()
		d.On()
		if !bytes.Equal(read(t, c, 5), block(round+1)) {
			t.Fatalf("round %d: what was flushed is lost", round)
		}
	}
}
