package node

import (
	"testing"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
)

func TestStall(t *testing.T) {
	at := func(n uint64) block.Seq { return block.Seq{Epoch: 1, Num: n} }
	start := time.Unix(1000, 0)
	var k stall
	for i, c := range []struct {
		second       int
		sent, staged uint64
		wire         uint64
		want         time.Duration
	}{
		{0, 5, 5, 0, 0},
		{10, 5, 5, 100, 0},                 // nothing is owed
		{11, 9, 5, 5000, time.Second},      // since it was last all square
		{21, 9, 5, 5100, 11 * time.Second}, // keep-alives are no progress
		{22, 9, 6, 5200, 0},                // it has answered
		{30, 9, 6, 5300, 8 * time.Second},  // and is silent again
		{31, 9, 6, 100_000, 0},             // the line carries a large batch
		{60, 9, 6, 100_100, 29 * time.Second},
		{61, 9, 9, 100_100, 0},
	} {
		m := ship.Marks{Sent: at(c.sent), Staged: at(c.staged)}
		if got := k.look(start.Add(time.Duration(c.second)*time.Second), m, c.wire); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
}
