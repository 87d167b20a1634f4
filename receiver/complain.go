package receiver

import "time"

// complainPause is between two warnings about what the peer sent: a peer, or a machine, that sends wrong things as fast as it can must
// not fill the log. The counters have them all.
const complainPause = time.Second

// complaints are the warnings of one stage.
type complaints struct {
	last time.Time
	left int // not logged since
}

// complain logs a warning, unless one was logged just now.
func (c *checker) complain(text string, args ...any) {
	now := time.Now()
	if now.Sub(c.complaints.last) < complainPause {
		c.complaints.left++
		return
	}
	if c.complaints.left > 0 {
		args = append(args, "not-logged-before", c.complaints.left)
	}
	c.complaints = complaints{last: now}
	c.t.log.Warn(text, args...)
}
