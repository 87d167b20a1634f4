package ship

import "time"

// gatherTime is how long after a small batch the next one waits for more to gather, where no write waits for the peer. It
// is short beside what a line takes, and spares both nodes a batch, a sync and an acknowledgement for each write.
const gatherTime = 5 * time.Millisecond

// Gather says how much longer a batch should wait for more records: backlog bytes wait to be shipped, the last batch went
// since ago. Under protocols B and C writes wait for the batch, so it goes at once; so does the first one after a pause.
func Gather(protocol byte, backlog int64, since time.Duration) time.Duration {
	if protocol != 'A' || backlog >= smallBatch {
		return 0
	}
	return max(gatherTime-since, 0)
}
