package receiver

import (
	"context"
	"fmt"
	"sync"

	"drship/wan/frame"
)

const (
	maxChunkAcks = 8192 // chunks to acknowledge; beyond them whoever has more waits
	maxReplies   = 256  // answers to send; likewise
)

// outbox sends what the target has to say on the control lane, from one goroutine. Marks are sent as they stand when
// their turn comes, so that a slow link never makes a queue of them; everything else is bounded and makes its maker wait.
// Marks go before chunk acknowledgements, those before answers.
type outbox struct {
	t    *Target
	link Sender
	wake chan struct{}
	room chan struct{}

	mu      sync.Mutex
	marks   bool // marks have moved
	resend  *frame.Resend
	done    []uint64
	bad     []uint64
	replies []frame.Message
}

func newOutbox(t *Target, link Sender) *outbox {
	return &outbox{t: t, link: link, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// ack says that marks have moved.
func (o *outbox) ack() {
	o.mu.Lock()
	o.marks = true
	o.mu.Unlock()
	signal(o.wake)
}

// askAgain asks for everything behind the received mark.
func (o *outbox) askAgain(m *frame.Resend) {
	o.mu.Lock()
	o.resend = m
	o.mu.Unlock()
	signal(o.wake)
}

// chunks acknowledges chunks that are on the disks, and names those whose digest did not match.
func (o *outbox) chunks(ctx context.Context, done, bad []uint64) error {
	return o.wait(ctx, func() bool {
		if n := len(o.done) + len(o.bad); n > 0 && n+len(done)+len(bad) > maxChunkAcks {
			return false
		}
		o.done, o.bad = append(o.done, done...), append(o.bad, bad...)
		return true
	})
}

// reply sends an answer. The message is the outbox's from now on.
func (o *outbox) reply(ctx context.Context, m frame.Message) error {
	return o.wait(ctx, func() bool {
		if len(o.replies) >= maxReplies {
			return false
		}
		o.replies = append(o.replies, m)
		return true
	})
}

// wait calls add with the lock held until it has found room. Several may wait: one that finds room makes the outbox
// send, and that wakes the next.
func (o *outbox) wait(ctx context.Context, add func() bool) error {
	for {
		o.mu.Lock()
		added := add()
		o.mu.Unlock()
		if added {
			signal(o.wake)
			return nil
		}
		select {
		case <-o.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run sends until ctx ends or the link fails.
func (o *outbox) run(ctx context.Context) error {
	for {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil
		}
		for _, m := range o.collect() {
			if err := o.link.Send(ctx, m); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("send %T: %w", m, err)
			}
		}
	}
}

// collect takes everything there is to say, in its order.
func (o *outbox) collect() []frame.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []frame.Message
	if o.marks {
		m := o.t.Marks()
		out = append(out, &frame.Ack{Received: m.Received, Staged: m.Staged, Applied: m.Applied})
	}
	if o.resend != nil {
		out = append(out, o.resend)
	}
	if len(o.done)+len(o.bad) > 0 {
		out = append(out, &frame.ChunkAck{IDs: o.done, Bad: o.bad})
	}
	out = append(out, o.replies...)
	o.marks, o.resend, o.done, o.bad, o.replies = false, nil, nil, nil, nil
	signal(o.room)
	return out
}
