// Package ship holds the pure decisions of shipping: how far a peer has come, how much goes into a batch, how fast a
// resync may run. No clock, no I/O, no goroutine.
package ship

import (
	"fmt"

	"drship/internal/block"
)

// Marks tells how far one peer has come in the source's write order.
//
// Invariant: Trimmed ≤ Applied ≤ Staged ≤ Received ≤ Sent ≤ Appended.
type Marks struct {
	Trimmed  block.Seq // gone from the source's journal
	Applied  block.Seq // on the peer's disk, flushed
	Staged   block.Seq // durable in the peer's journal
	Received block.Seq // in the peer's memory, digests checked
	Sent     block.Seq // handed to the link
	Appended block.Seq // accepted into the write order here
}

// Start returns the marks of a peer that stands at from, in a write order that has come to appended.
func Start(trimmed, from, appended block.Seq) Marks {
	return Marks{Trimmed: trimmed, Applied: from, Staged: from, Received: from, Sent: from, Appended: appended}
}

// Check returns an error that names the first pair out of order.
func (m Marks) Check() error {
	order := [...]struct {
		name string
		seq  block.Seq
	}{{"trimmed", m.Trimmed}, {"applied", m.Applied}, {"staged", m.Staged}, {"received", m.Received}, {"sent", m.Sent}, {"appended", m.Appended}}
	for i := 1; i < len(order); i++ {
		if order[i].seq.Less(order[i-1].seq) {
			return fmt.Errorf("marks out of order: %s %v behind %s %v", order[i-1].name, order[i-1].seq, order[i].name, order[i].seq)
		}
	}
	return nil
}

// Ack takes over what the peer says. Marks never go back: an acknowledgement that was overtaken changes nothing. One
// that claims more than was sent is a protocol error and changes nothing either.
func (m *Marks) Ack(received, staged, applied block.Seq) error {
	next := *m
	next.Received = later(m.Received, received)
	next.Staged = later(m.Staged, staged)
	next.Applied = later(m.Applied, applied)
	if err := next.Check(); err != nil {
		return fmt.Errorf("peer acknowledged received %v, staged %v, applied %v: %w", received, staged, applied, err)
	}
	*m = next
	return nil
}

// Rewind moves Sent back to from, because the peer asked for everything behind it again.
func (m *Marks) Rewind(from block.Seq) error {
	next := *m
	next.Sent = from
	if err := next.Check(); err != nil {
		return fmt.Errorf("peer asked to resend from %v: %w", from, err)
	}
	*m = next
	return nil
}

func later(a, b block.Seq) block.Seq {
	if a.Less(b) {
		return b
	}
	return a
}
