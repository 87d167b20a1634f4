package ship

import "time"

// A small batch costs both nodes nearly what a large one costs: a dozen goroutines woken, a commit synced, packets and
// acknowledgements. So it waits a moment for more records, as long as that is short beside what a line takes.
const (
	// gatherFree is the pause between small batches where no write waits for the peer.
	gatherFree = 5 * time.Millisecond
	// gatherHeld is the same where writes do wait, and only while the batch before is under way: a writer with one
	// request at a time is never held up, and one with many gets a batch for all that came meanwhile.
	gatherHeld = time.Millisecond
)

// Gather says how much longer a batch should wait for more records: backlog bytes wait to be shipped, the last batch went
// since ago, and marks tell what has become of it.
func Gather(protocol byte, marks Marks, backlog int64, since time.Duration) time.Duration {
	pause := gatherFree
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
