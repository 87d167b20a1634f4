package ship

import (
	"hash/fnv"
	"time"
)

// maxJitter bounds by how much a scheduled job is put off, so that nodes with one configuration do not all begin at once.
const maxJitter = 10 * time.Minute

// Jitter is how long after its time a job of that name begins: always the same, at most a tenth of the period, at most
// 10 minutes.
func Jitter(name string, period time.Duration) time.Duration {
	limit := min(period/10, maxJitter)
	if limit <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name)) // a hash never fails to be written
	return time.Duration(h.Sum64() % uint64(limit))
}

// Due decides a job that is scheduled for the times of next, put off by its jitter. last is when it was looked at before:
// a time that lies in between is due once, and what was missed before that is not made up for.
func Due(next func(time.Time) time.Time, name string, last, now time.Time) bool {
	at := NextRun(next, name, last)
	return !at.IsZero() && !at.After(now)
}

// NextRun is the first time behind t at which the job begins, its jitter included; zero if there is none.
func NextRun(next func(time.Time) time.Time, name string, t time.Time) time.Time {
	// The jitter of a slot is less than the slot's period: look from one jitter earlier on.
	at := next(t.Add(-maxJitter))
	for range 64 { // cron's slots are a minute apart at least, and the jitter is 10 minutes at most
		if at.IsZero() {
			return at
		}
		following := next(at)
		period := maxJitter * 10
		if !following.IsZero() {
			period = following.Sub(at)
		}
		if begin := at.Add(Jitter(name, period)); begin.After(t) {
			return begin
		}
		at = following
	}
	return time.Time{}
}
