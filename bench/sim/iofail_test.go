package sim

import (
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

// TestPassOn: with pass_on a bad region costs the client the requests to it and nothing else: it is marked, the disk stays, and once the region is
// mended both sides become equal.
func TestPassOn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairUp(t, dir, "", "", "disk { on-io-error pass_on; }")
		d.write(d.alice, "before", 1, 2, 3)
		d.alice.fails.Add(disk.Fault{Ops: disk.OpWrite | disk.OpRead, Off: 2 * 4096, Len: 4096, Err: syscall.EIO})
		v, err := d.alice.open(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.WriteAt(context.Background(), filled("lost"), 2*4096, false); err == nil {
			t.Error("a write to the bad region went through")
		}
		if err := v.x.ReadAt(context.Background(), make([]byte, 4096), 2*4096); err == nil {
			t.Error("a read of the bad region went through")
		}
		d.write(d.alice, "after", 1, 3)
		s := d.alice.status()
		if s.Volumes[0].Disk != state.UpToDate || s.Role != state.Primary || s.Peers[0].Volumes[0].OutOfSync != block.Size {
			t.Errorf("%v, %v, %d bytes out of sync", s.Role, s.Volumes[0].Disk, s.Peers[0].Volumes[0].OutOfSync)
		}
		v.close()
		d.alice.fails.Clear()
		d.write(d.alice, "mended", 2)
		d.verb(d.bob, "disconnect")
		d.verb(d.bob, "connect")
		d.settled()
		d.holds(d.bob, 1, "after")
		d.holds(d.bob, 2, "mended")
		d.holds(d.alice, 2, "mended")
	})
}

// TestFailedWriteIsSentBehindItsRecord: the journal has a write that the disk refused. What a resync then reads from the disk comes behind the record, so that both
// sides hold the same.
func TestFailedWriteIsSentBehindItsRecord(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairUp(t, dir, "", "", "disk { on-io-error pass_on; }")
		d.write(d.alice, "both", 2)
		d.verb(d.bob, "disconnect")
		d.alice.fails.Add(disk.Fault{Ops: disk.OpWrite, Off: 2 * 4096, Len: 4096, Err: syscall.EIO, Times: 1})
		v, err := d.alice.open(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.WriteAt(context.Background(), filled("refused"), 2*4096, false); err == nil {
			t.Error("the write went through")
		}
		v.close()
		d.verb(d.bob, "connect")
		d.settled()
		d.holds(d.alice, 2, "both")
	})
}

// TestServedThroughCrashes: what a Primary without a disk was told is written outlives the loss of power of its peer, a link that is cut under
// it, and the way home.
func TestServedThroughCrashes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := pairUp(t, dir, "", "", "options { on-no-data-accessible suspend-io; }")
		v, err := d.alice.open(0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.close()
		d.alice.fails.Add(disk.Fault{Ops: disk.OpWrite, Err: syscall.EIO})
		d.write(d.alice, "served", 1)
		if s := d.alice.status(); s.Volumes[0].Disk != state.Diskless || s.Role != state.Primary {
			t.Fatalf("%v, %v", s.Role, s.Volumes[0].Disk)
		}
		d.write(d.alice, "on bob alone", 2, 3)
		d.bob.crash(powerLoss)
		waiting := make(chan error, 1)
		go func() { waiting <- v.WriteAt(context.Background(), filled("waits"), 4*4096, false) }()
		d.await(d.alice, "suspended", func(f face.Resource) bool { return f.Suspended.NoData })
		if err := d.bob.start(); err != nil {
			t.Fatal(err)
		}
		d.holds(d.bob, 3, "on bob alone") // not flushed by anybody, and yet there
		d.verb(d.bob, "up")
		if err := <-waiting; err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(10 * time.Millisecond)
			d.world.setCut(true)
			time.Sleep(30 * time.Second)
			d.world.setCut(false)
		}()
		for b := 10; b < 40; b++ {
			d.write(d.alice, "through a cut", b)
		}
		d.alice.fails.Clear()
		d.verb(d.alice, "attach")
		d.write(d.alice, "on the way home", 50)
		d.await(d.alice, "home", func(f face.Resource) bool { return f.Volumes[0].Disk == state.UpToDate })
		d.write(d.alice, "home", 51)
		d.settled()
		for b, text := range map[int]string{1: "served", 2: "on bob alone", 4: "waits", 10: "through a cut", 39: "through a cut", 50: "on the way home", 51: "home"} {
			d.holds(d.alice, b, text)
			d.holds(d.bob, b, text)
		}
		if strings.Contains(d.log.String(), "peer broke the protocol") {
			t.Error("somebody broke the protocol")
		}
	})
}
