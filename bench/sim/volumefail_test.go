package sim

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/internal/face"
	"drship/internal/state"
)

// client is a volume that a test keeps open.
type client struct {
	*testing.T
	*volume
}

func (d *duo) client(m *machine, i int) client { return clientOf(d.T, m, i) }

func clientOf(t *testing.T, m *machine, i int) client {
	t.Helper()
	v, err := m.open(i)
	if err != nil {
		t.Fatal(err)
	}
	return client{t, v}
}

func (c client) writes(text string, blocks ...int) {
	c.Helper()
	for _, b := range blocks {
		if err := c.WriteAt(context.Background(), filled(text), int64(b)*block.Size, false); err != nil {
			c.Fatalf("write %q to block %d: %v", text, b, err)
		}
	}
}

func (c client) reads(text string, blocks ...int) {
	c.Helper()
	got := make([]byte, block.Size)
	for _, b := range blocks {
		if err := c.x.ReadAt(context.Background(), got, int64(b)*block.Size); err != nil || !bytes.Equal(got, filled(text)) {
			c.Fatalf("block %d reads %.20q, %v; want %q", b, got, err, text)
		}
	}
}

// disksAre waits for the states of a machine's volumes.
func (d *duo) disksAre(m *machine, want ...state.Disk) {
	d.Helper()
	d.await(m, "with those disks", func(f face.Resource) bool {
		for i, s := range want {
			if f.Volumes[i].Disk != s {
				return false
			}
		}
		return true
	})
}

// TestPassOnReads: with pass_on a read that the disk refuses is answered by the peer. The region is marked, and mended once the disk takes what
// the peer has.
func TestPassOnReads(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairUp(t, dir, "", "", "disk { on-io-error pass_on; }")
		d.write(d.alice, "good", 1, 2, 3)
		d.alice.fails.Add(disk.Fault{Ops: disk.OpWrite | disk.OpRead, Off: 2 * block.Size, Len: block.Size, Err: syscall.EIO})
		v := d.client(d.alice, 0)
		defer v.close()
		v.reads("good", 1, 2, 3)
		if s := d.alice.status(); s.Volumes[0].Disk != state.UpToDate || s.Peers[0].Volumes[0].OutOfSync != block.Size {
			t.Errorf("%v, %d bytes out of sync", s.Volumes[0].Disk, s.Peers[0].Volumes[0].OutOfSync)
		}
		d.alice.fails.Clear()
		d.await(d.alice, "mended", func(f face.Resource) bool { return f.Peers[0].Volumes[0].OutOfSync == 0 })
		d.verb(d.bob, "disconnect")
		v.reads("good", 2)
		d.alice.fails.Add(disk.Fault{Ops: disk.OpRead, Off: 2 * block.Size, Len: block.Size, Err: syscall.EIO})
		if err := v.x.ReadAt(context.Background(), make([]byte, block.Size), 2*block.Size); err == nil {
			t.Error("a read went through that nobody could serve")
		}
		d.alice.fails.Clear()
		d.verb(d.bob, "connect")
		d.settled()
	})
}

// TestVolumeFails: one of two disks of a Primary fails. Its volume goes on through the peer, the other on its own disk, also when the peer is gone;
// what was missed is fetched once the disk is back, under the client.
func TestVolumeFails(t *testing.T) {
	for _, protocol := range []string{"A", "C"} {
		t.Run(protocol, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				d := pairOf(t, dir, 2, "protocol "+protocol+";", "protocol "+protocol+";", "")
				v0, v1 := d.client(d.alice, 0), d.client(d.alice, 1)
				defer v0.close()
				defer v1.close()
				v0.writes("first", 1, 2)
				v1.writes("first", 1, 2, 3)
				d.alice.broken[1].Add(disk.Fault{Ops: disk.OpAny, Err: syscall.EIO})
				v1.writes("second", 2)
				v1.reads("first", 1)
				v1.reads("second", 2)
				d.disksAre(d.alice, state.UpToDate, state.Diskless)
				d.await(d.bob, "told", func(f face.Resource) bool {
					return f.Peers[0].Volumes[0].Disk == state.UpToDate && f.Peers[0].Volumes[1].Disk == state.Diskless
				})
				if f := d.alice.status(); f.Peers[0].Conn != state.Connected || f.Peers[0].Volumes[1].Disk != state.UpToDate {
					t.Fatalf("alice sees %+v", f.Peers[0])
				}
				if err := v1.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				d.world.setCut(true)
				d.await(d.alice, "alone", func(f face.Resource) bool { return f.Peers[0].Conn < state.Connected })
				v0.writes("alone", 5)
				v0.reads("alone", 5)
				if err := v1.WriteAt(context.Background(), filled("nowhere"), 9*block.Size, false); err == nil {
					t.Error("a write went through that no disk has")
				}
				if err := v1.x.ReadAt(context.Background(), make([]byte, block.Size), block.Size); err == nil {
					t.Error("a read went through that nobody could serve")
				}
				d.world.setCut(false)
				d.await(d.alice, "connected again", func(f face.Resource) bool {
					return f.Peers[0].Conn == state.Connected && f.Peers[0].Volumes[1].Disk == state.UpToDate
				})
				v1.writes("third", 3)
				v1.reads("third", 3)
				v1.reads("second", 2)
				d.alice.broken[1].Clear()
				d.verb(d.alice, "attach")
				v1.writes("under the resync", 4)
				d.disksAre(d.alice, state.UpToDate, state.UpToDate)
				v1.reads("third", 3)
				d.settled()
				for b, text := range map[int]string{1: "first", 2: "second", 3: "third", 4: "under the resync"} {
					d.holdsAt(d.alice, 1, b, text)
					d.holdsAt(d.bob, 1, b, text)
				}
				d.holds(d.bob, 5, "alone")
			})
		})
	}
}

func (d *duo) holdsAt(m *machine, volume, b int, text string) {
	d.Helper()
	got := make([]byte, block.Size)
	if err := m.disks[volume].ReadAt(got, int64(b)*block.Size); err != nil || !bytes.Equal(got, filled(text)) {
		d.Errorf("block %d of volume %d of %s holds %.20q, not %q (%v)", b, volume, m.name, got, text, err)
	}
}

// TestInvalidatePrimary: a connected Primary gives its data up under its clients, who read the peer's until everything was fetched from there. One that is not
// connected refuses, as DRBD's does.
func TestInvalidatePrimary(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairUp(t, dir, "", "", "")
		v := d.client(d.alice, 0)
		defer v.close()
		v.writes("good", 1, 2, 3)
		d.settledButPrimary()
		if err := d.alice.disks[0].WriteAt(filled("rotten"), 2*block.Size); err != nil {
			t.Fatal(err)
		}
		d.verb(d.alice, "invalidate")
		v.reads("good", 1, 2, 3)
		v.writes("new", 3)
		v.reads("new", 3)
		d.disksAre(d.alice, state.UpToDate)
		v.reads("good", 2)
		d.holds(d.alice, 2, "good")
		d.verb(d.alice, "disconnect")
		if err := d.alice.do("invalidate"); err == nil || !strings.Contains(err.Error(), "(-2)") {
			t.Errorf("invalidate of a Primary alone: %v", err)
		}
		d.verb(d.alice, "connect")
		d.settled()
	})
}

// settledButPrimary waits until the peer has applied everything.
func (d *duo) settledButPrimary() {
	d.Helper()
	if err := d.wait("in sync", func(a, b face.Resource) bool { return inSync(a) && inSync(b) }); err != nil {
		d.Fatal(err)
	}
}

// TestSecondaryVolumeFails: one of two disks of a Secondary fails. The other goes on being replicated to, over new handshakes and a restart too; a resync of
// what was missed follows the attach.
func TestSecondaryVolumeFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairOf(t, dir, 2, "", "", "")
		v0, v1 := d.client(d.alice, 0), d.client(d.alice, 1)
		defer v0.close()
		defer v1.close()
		v1.writes("first", 1, 2)
		d.bob.broken[1].Add(disk.Fault{Ops: disk.OpAny, Err: syscall.EIO})
		v1.writes("second", 2)
		d.disksAre(d.bob, state.UpToDate, state.Diskless)
		v0.writes("goes on", 7)
		v1.writes("third", 3)
		d.await(d.alice, "told", func(f face.Resource) bool {
			p := f.Peers[0]
			return p.Conn == state.Connected && p.Volumes[0].Disk == state.UpToDate && p.Volumes[1].Disk == state.Diskless
		})
		time.Sleep(10 * time.Second)
		d.holds(d.bob, 7, "goes on")
		d.verb(d.bob, "disconnect")
		v0.writes("while away", 8)
		v1.writes("while away", 8)
		d.verb(d.bob, "connect")
		d.await(d.bob, "connected", func(f face.Resource) bool {
			return f.Peers[0].Conn == state.Connected && f.Volumes[0].Disk == state.UpToDate
		})
		d.bob.broken[1].Clear()
		d.verb(d.bob, "attach")
		d.settled()
		for b, text := range map[int]string{1: "first", 2: "second", 3: "third", 8: "while away"} {
			d.holdsAt(d.bob, 1, b, text)
		}
	})
}

// TestVolumeFailsThroughCrashes: what a disk lacks outlives the loss of power of its node, Primary and Secondary.
func TestVolumeFailsThroughCrashes(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		t.Run(who, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				d := pairOf(t, dir, 2, "", "", "")
				m := map[string]*machine{"alice": d.alice, "bob": d.bob}[who]
				v1 := d.client(d.alice, 1)
				v1.writes("first", 1, 2, 3)
				m.broken[1].Add(disk.Fault{Ops: disk.OpAny, Err: syscall.EIO})
				v1.writes("second", 2, 40)
				d.disksAre(m, state.UpToDate, state.Diskless)
				v1.writes("third", 3, 50)
				m.crash(powerLoss)
				v1.close()
				m.broken[1].Clear() // the disk gives what it has: it is old
				if err := m.start(); err != nil {
					t.Fatal(err)
				}
				d.verb(m, "up")
				d.settled()
				for b, text := range map[int]string{1: "first", 2: "second", 3: "third", 40: "second", 50: "third"} {
					d.holdsAt(d.alice, 1, b, text)
					d.holdsAt(d.bob, 1, b, text)
				}
			})
		})
	}
}
