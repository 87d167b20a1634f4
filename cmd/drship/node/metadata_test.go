package node

import (
	"math/rand/v2"
	"testing"

	"drship/internal/block"
	"drship/internal/state"
	"drship/journal"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The words that a dump shows hold the bits of the bitmap, all of them and no others.
func TestWordsOfABitmap(t *testing.T) {
	s, err := journal.Open("store", journal.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		blocks := uint64(rnd.IntN(1000) + 1)
		bm, err := s.Bitmap("bob", uint16(round), int64(blocks)*block.Size)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]uint64, (blocks+63)/64)
		for range rnd.IntN(8) {
			first := rnd.Uint64N(blocks)
			n := min(rnd.Uint64N(300)+1, blocks-first)
			bm.Set(block.Range{Off: int64(first) * block.Size, Len: int64(n) * block.Size})
			for b := first; b < first+n; b++ {
				want[b/64] |= 1 << (b % 64)
			}
		}
		var got []uint64
		words(bm, blocks, func(word, times uint64) {
			for range times {
				got = append(got, word)
			}
		})
		if len(got) != len(want) {
			t.Fatalf("round %d: %d words, want %d", round, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("round %d: word %d is %x, want %x", round, i, got[i], want[i])
			}
		}
	}
}

func TestParseGI(t *testing.T) {
	want := state.IDs{Current: 0x2CC51FDC765D6190, Bitmap: 1, History: [2]uint64{0xA, 0xB}}
	for text, c := range map[string]struct {
		disk    state.Disk
		crashed bool
	}{
		"2CC51FDC765D6190:0000000000000001:A:B:1:1:0:0:0:0:0": {state.UpToDate, false},
		"2CC51FDC765D6190:1:A:B":                              {state.Inconsistent, false},
		"0x2CC51FDC765D6190:1:A:B:1":                          {state.Outdated, false},
		"2CC51FDC765D6190:1:A:B:1:1:1":                        {state.UpToDate, true},
		"2CC51FDC765D6190:1:A:B:1:1:0:0:0:0:1":                {state.UpToDate, true},
	} {
		ids, disk, crashed, err := parseGI(text)
		if err != nil || ids != want || disk != c.disk || crashed != c.crashed {
			t.Errorf("%s: %v, %v, crashed %t, %v", text, ids, disk, crashed, err)
		}
	}
	for _, text := range []string{"", "1:2:3", "x:1:2:3", "1:2:3:4:5", "1:2:3:4:0:0:0:0:0:0:0:0"} {
		if _, _, _, err := parseGI(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
