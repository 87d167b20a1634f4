package ship

import "time"

// A small batch costs both nodes nearly what a large one costs: a dozen goroutines woken, a commit synced, packets and
// acknowledgements. So it waits a moment for more records, as long as that is short beside what a line takes.
const (
	// gatherFree is the pause between small batches where no write waits for the peer.
	gatherFree = 5 * time.Millisecond
	// gatherFar is the same to a peer that is far: its line is what bounds the rate, not either processor, and the pause is lag
	// that comes on top of the way there.
	gatherFar = 2 * time.Millisecond
	// gatherHeld is the same where writes do wait, and only while the batch before is under way: a writer with one
	// request at a time is never held up, and one with many gets a batch for all that came meanwhile.
	gatherHeld = time.Millisecond
)

// Gather says how much longer a batch should wait for more records: backlog bytes wait to be shipped, the last batch went
// since ago, marks tell what has become of it, and rtt is the round trip, 0 where it is not known.
func Gather(protocol byte, marks Marks, backlog int64, since, rtt time.Duration) time.Duration {
	pause := gatherFree
	if rtt >= farRTT {
		pause = gatherFar
	}
	switch {
	case backlog >= smallBatch:
		return 0
	case protocol == 'B' && marks.Received.Less(marks.Sent), protocol == 'C' && marks.Staged.Less(marks.Sent):
		pause = gatherHeld
	case protocol != 'A':
		return 0
	}
	return max(pause-since, 0)
}
