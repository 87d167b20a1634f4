package journal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

type blockID struct {
	vol uint16
	b   uint64
}

func restore(t testing.TB, h *History) map[blockID][]byte {
	t.Helper()
	m := map[blockID][]byte{}
	must(t, h.Restore(func(i Image) error {
		m[blockID{i.Volume, i.Block}] = bytes.Clone(i.Data)
		return nil
	}))
	return m
}

func TestHistoryKeepsTheFirstImage(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	s := openMem(t, fsys, Options{MaxHistory: 1 << 20})
	h := s.History()
	if err := h.Save([]Image{{Block: 1}}); err == nil {
		t.Error("saved without a history")
	}
	must(t, h.Begin(pos(5)))
	must(t, h.Begin(pos(9))) // a resync that starts again keeps the older point
	must(t, h.Save([]Image{
		{Volume: 1, Block: 3, Data: payload(3, block.Size)}, {Volume: 0, Block: 4}, {Volume: 1, Block: 9, Data: payload(9, 100)},
		{Volume: 1, Block: 3, Data: payload(33, block.Size)},
	}))
	must(t, h.Save([]Image{{Volume: 0, Block: 4, Data: payload(44, block.Size)}, {Volume: 0, Block: 5, Data: payload(5, block.Size)}}))
	want := map[blockID][]byte{{1, 3}: payload(3, block.Size), {0, 4}: nil, {1, 9}: payload(9, 100), {0, 5}: payload(5, block.Size)}
	check := func(h *History) {
		t.Helper()
		if at, open := h.Open(); !open || at != pos(5) {
			t.Errorf("open %v at %v", open, at)
		}
		got := restore(t, h)
		if len(got) != len(want) {
			t.Fatalf("%d images, want %d", len(got), len(want))
		}
		for id, data := range want {
			if !bytes.Equal(got[id], data) || !h.Saved(id.vol, id.b) {
				t.Errorf("image of block %v differs", id)
			}
		}
		if h.Saved(1, 4) || h.Saved(2, 3) {
			t.Error("an image that was never saved")
		}
	}
	check(h)
	after := openMem(t, crash(fsys, 0, nil), Options{}).History()
	check(after)
	if after.Bytes() != h.Bytes() || h.Bytes() == 0 {
		t.Errorf("%d bytes after opening, %d before", after.Bytes(), h.Bytes())
	}
	must(t, after.End())
	if _, open := after.Open(); open || after.Saved(1, 3) || after.Bytes() != 0 {
		t.Error("history after its end")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	h := openMem(t, fsys, Options{MaxHistory: 20 * (block.Size + imageOverhead)}).History()
	must(t, h.Begin(pos(1)))
	var images []Image
	for i := range uint64(20) {
		images = append(images, Image{Block: i * 2, Data: payload(i, block.Size)})
	}
	must(t, h.Save(images))
	must(t, h.Save(images)) // nothing new
	if err := h.Save([]Image{{Block: 100}, {Block: 101, Data: payload(1, 4)}}); !errors.Is(err, ErrHistoryFull) {
		t.Fatalf("save beyond the limit: %v", err)
	}
	if h.Saved(0, 100) || h.Saved(0, 101) {
		t.Error("part of a refused save was kept")
	}
	if err := h.Restore(func(Image) error { return nil }); !errors.Is(err, ErrHistoryFull) {
		t.Errorf("restore: %v", err)
	}
	must(t, h.End())
	must(t, h.Begin(pos(2)))
	must(t, h.Save(images[:1]))
	if n := len(restore(t, openMem(t, crash(fsys, 0, nil), Options{}).History())); n != 1 {
		t.Errorf("%d images of the new history", n)
	}
}

func TestHistorySavesInPieces(t *testing.T) {
	h := openMem(t, vfs.NewMem(), Options{}).History()
	must(t, h.Begin(pos(1)))
	var images []Image
	for i := range uint64(3000) {
		images = append(images, Image{Volume: uint16(i / 1500), Block: i, Data: payload(i, block.Size)})
	}
	must(t, h.Save(images))
	if got := restore(t, h); len(got) != 3000 || !bytes.Equal(got[blockID{1, 2999}], images[2999].Data) {
		t.Errorf("%d images", len(got))
	}
}
