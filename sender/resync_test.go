package sender

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/wan/frame"
)

// slowWrites is a disk whose writes wait until they are let go.
type slowWrites struct {
	disk.Disk
	letGo chan struct{}
}

// WriteAt implements disk.Disk.
func (d slowWrites) WriteAt(p []byte, off int64) error {
	<-d.letGo
	return d.Disk.WriteAt(p, off)
}

// A resync reads what a write leaves, not what it finds: the record of that write may have gone before.
func TestResyncWaitsForAWriteUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := slowWrites{disk.NewMem(volumeSize, 1), make(chan struct{})}
		data := bytes.Repeat([]byte{0xAB}, block.Size)
		written := make(chan error, 1)
		b := setUpWith(t, 'A', 1<<20, PullAhead, d, func(p *Peer, cfg *StreamConfig) {
			go func() { written <- p.group.Volume(0).WriteAt(context.Background(), data, 0, false) }()
			synctest.Wait()
			p.bitmaps[0].Set(block.Range{Len: block.Size})
			cfg.Resync = true
		})
		if n := count[*frame.Chunk](b.line); n != 0 {
			t.Errorf("%d chunks were read below a write", n)
		}
		close(d.letGo)
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c := last[*frame.Chunk](b.line); c == nil || !bytes.Equal(c.Data, data) {
			t.Error("the resync does not bring what was written")
		}
	})
}
