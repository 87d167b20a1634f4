package sender

import (
	"testing"
	"testing/synctest"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/wan/frame"
)

// A resync says what is to come of each volume and leaves those alone that have nothing, whatever is marked later: their peer takes them for consistent.
func TestResyncLeavesVolumesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := []VolumeDisk{{Number: 0, Disk: disk.NewMem(volumeSize, 1)}, {Number: 3, Disk: disk.NewMem(volumeSize, 2)}}
		if err := disks[1].Disk.WriteAt([]byte("new"), 0); err != nil {
			t.Fatal(err)
		}
		b := setUpVolumes(t, 'A', 1<<20, PullAhead, disks, func(p *Peer, _ *StreamConfig) {
			p.Bitmap(3).Set(block.Range{Len: block.Size})
		})
		start := last[*frame.StreamStart](b.line)
		if start == nil || start.Mode != frame.ModeResync || start.Blocks != 1 || len(start.Volume) != 2 || start.Volume[0].OOS != 0 || start.Volume[1].OOS != 1 {
			t.Fatalf("%+v", start)
		}
		c := last[*frame.Chunk](b.line)
		if c == nil || c.Volume != 3 {
			t.Fatalf("chunk %+v", c)
		}
		b.stream.Peer().Bitmap(0).Set(block.Range{Len: block.Size}) // by a disk that refused a write, say
		b.handle(&frame.ChunkAck{IDs: []uint64{c.ID}})
		synctest.Wait()
		if n := count[*frame.Chunk](b.line); n != 1 {
			t.Errorf("%d chunks", n)
		}
		if last[*frame.ResyncEnd](b.line) == nil {
			t.Error("the resync does not end")
		}
		if n := b.stream.Peer().OutOfSync(); n != 1 {
			t.Errorf("%d blocks are marked, not the one that nobody sent", n)
		}
	})
}
