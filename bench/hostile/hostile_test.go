// Package hostile attacks real daemons: NBD clients that break the protocol, strangers at the link's port, users at the control socket. None may crash a daemon,
// keep its clients waiting, make it grow past its bounds, or change a byte.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drship/bench/device"
	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/internal/nbd"
)

// grown is how much more than before a daemon may hold when an attack is over, in bytes: payload that may be in flight (64 MiB), and room for
// what a garbage collector has not taken yet.
const grown = 160 << 20

// victim is a pair whose primary is attacked.
type victim struct {
	t      *testing.T
	ctx    context.Context
	pair   *pair.Pair
	alice  *pair.Node
	good   *pair.Volume // a client that behaves, connected before it all begins
	image  []byte       // what the volume holds, and is to hold ever after
	memory pair.Memory
	files  int // open in the daemon
}

// newVictim brings a pair up, with a volume that is full.
func newVictim(t *testing.T, o pair.Options) *victim {
	ctx := pairtest.Real(t)
	o.Sizes = []int64{volumeSize}
	v := &victim{t: t, ctx: ctx, pair: pairtest.Up(ctx, t, o)}
	v.alice = v.pair.Node("alice")
	var err error
	if v.good, err = v.alice.Open(ctx, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.good.Close)
	v.image = make([]byte, volumeSize)
	for i := range v.image {
		v.image[i] = byte(i>>12) ^ byte(i)
	}
	const piece = 1 << 20
	for off := 0; off < volumeSize; off += piece {
		if err := v.good.WriteAt(ctx, v.image[off:off+piece], int64(off), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.good.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if v.memory, err = v.alice.Memory(); err != nil {
		t.Fatal(err)
	}
	v.files = v.open()
	return v
}

// open counts the daemon's open files.
func (v *victim) open() int {
	v.t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.alice.PID()))
	if err != nil {
		v.t.Fatal(err)
	}
	return len(files)
}

// unharmed wants the daemon to be alive and well: the good client is served, nothing has changed, nothing is left behind.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	if !v.alice.Running() {
		t.Fatalf("the daemon is gone: %v\n%s", v.alice.ExitError(), v.alice.Log())
	}
	ctx, cancel := context.WithTimeout(v.ctx, answerTime)
	defer cancel()
	got := make([]byte, 1<<20)
	for off := int64(0); off < volumeSize; off += int64(len(got)) {
		if err := v.good.ReadAt(ctx, got, off); err != nil {
			t.Fatalf("the good client is not served: %v", err)
		}
		if !bytes.Equal(got, v.image[off:off+int64(len(got))]) {
			t.Fatalf("the MiB at %d was changed", off)
		}
	}
	if err := v.good.WriteAt(ctx, v.image[:4096], 0, true); err != nil {
		t.Fatalf("the good client cannot write: %v", err)
	}
	if _, err := v.alice.Verb(ctx, "status", pair.Resource); err != nil {
		t.Fatalf("the daemon does not answer: %v", err)
	}
	m, err := v.alice.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if m.Resident > v.memory.Resident+grown {
		t.Errorf("the daemon grew from %d to %d MiB", v.memory.Resident>>20, m.Resident>>20)
	}
	if err := device.Await(ctx, func() bool { return v.open() <= v.files }); err != nil {
		t.Errorf("the daemon has %d files open, %d before", v.open(), v.files)
	}
}

// equal wants both disks to hold the image at the end.
func (v *victim) equal() {
	v.t.Helper()
	v.good.Close()
	if err := v.pair.WaitUpToDate(v.ctx); err != nil {
		v.t.Fatal(err)
	}
	if err := v.alice.Demote(v.ctx); err != nil {
		v.t.Fatal(err)
	}
	for _, n := range v.pair.Nodes {
		err := device.Await(v.ctx, func() bool {
			got, err := os.ReadFile(n.Backing(0))
			return err == nil && bytes.Equal(got, v.image)
		})
		if err != nil {
			v.t.Errorf("the disk of %s was changed", n.Name)
		}
	}
}

// TestClients plays every known-bad sequence.
func TestClients(t *testing.T) {
	v := newVictim(t, pair.Options{})
	for _, s := range sequences {
		t.Run(s.name, func(t *testing.T) {
			c := dial(t, v.alice.NBDSocket())
			s.play(c)
			_ = c.Close()
			v.unharmed(t)
		})
	}
	v.equal()
}

// TestSlowClients: as many as may come, each stuck at another place, for as long as they like. They hold up nobody who is served already for
// longer than it takes to drop those who keep the memory; the silent ones are dropped before they have picked an export, and newcomers are welcome again.
func TestSlowClients(t *testing.T) {
	v := newVictim(t, pair.Options{})
	stuck := []func(c *client){
		func(*client) {},
		func(c *client) { c.take(18); c.say(uint16(0)) },
		func(c *client) { c.greet(3); c.say(option(nbd.OptAbort, nil)[:9]) },
		func(c *client) { c.greet(3); c.say(optionMagic, uint32(99), uint32(1<<20), make([]byte, 1000)) },
		func(c *client) { c.open(export); c.say(request(nbd.CmdRead, 0, 1, 0, 4096)[:20]) },
	}
	for i := range 50 {
		stuck[i%len(stuck)](dial(t, v.alice.NBDSocket()))
	}
	for range 66 {
		c := dial(t, v.alice.NBDSocket())
		c.open(export)
		c.say(request(nbd.CmdWrite, 0, 1, 0, 1<<20), make([]byte, 100))
	}
	for range 2 { // all of them want twice the memory that there is for payload
		c := dial(t, v.alice.NBDSocket())
		c.open(export)
		c.say(request(nbd.CmdWrite, 0, 1, 0, nbd.MaxPayload), make([]byte, 100))
	}
	ctx, cancel := context.WithTimeout(v.ctx, 2*answerTime)
	defer cancel()
	began := time.Now()
	if err := v.good.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
		t.Fatalf("the good client is not served: %v", err)
	}
	if err := v.good.WriteAt(ctx, v.image[:4096], 0, true); err != nil {
		t.Fatalf("the good client is not served: %v", err)
	}
	t.Logf("served beside 118 stuck ones in %v", time.Since(began))
	more := make([]*client, 0, 64)
	for range 64 { // more than there is room for
		more = append(more, dial(t, v.alice.NBDSocket()))
	}
	if err := device.Await(v.ctx, func() bool { // those who negotiate are dropped within 15 s
		x, err := v.alice.Open(v.ctx, 0)
		if err == nil {
			x.Close()
		}
		return err == nil
	}); err != nil {
		t.Errorf("a newcomer is kept out: %v", err)
	}
	for _, c := range more {
		_ = c.Close()
	}
	m, err := v.alice.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if m.Resident > v.memory.Resident+grown {
		t.Errorf("the daemon grew from %d to %d MiB", v.memory.Resident>>20, m.Resident>>20)
	}
}

// socketOf names a socket in a node's run directory.
func socketOf(n *pair.Node, name string) string { return filepath.Join(n.RunDir(), name) }
