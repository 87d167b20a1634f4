package pair

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Bounds of changes that may have to wait until the node has noticed something: a dead peer, a client that has gone.
const (
	promoteTimeout = 30 * time.Second
	demoteTimeout  = 20 * time.Second
	upTimeout      = 30 * time.Second
)

// QuickTiming is net options that notice a dead peer within a second or so, as statements for Options.Net.
func QuickTiming() []string {
	return []string{"timeout 8", "ping-int 1", "ping-timeout 5", "connect-int 1"}
}

// Promote makes the node Primary. It tries again while the node refuses: a peer that was just killed is not gone before it is missed.
func (n *Node) Promote(ctx context.Context, args ...string) error {
	return n.insist(ctx, promoteTimeout, "primary", args...)
}

// Demote makes the node Secondary. It tries again while clients that have just closed their connection are still counted.
func (n *Node) Demote(ctx context.Context) error { return n.insist(ctx, demoteTimeout, "secondary") }

// Up brings the resource up, and is content if the daemon has done so at its start.
func (n *Node) Up(ctx context.Context) error {
	s, err := n.Status(ctx)
	if err == nil && len(s.Devices) > 0 && s.Devices[0].Disk != "Diskless" {
		return nil
	}
	return n.insist(ctx, upTimeout, "up")
}

// insist runs a verb until it succeeds, or a bound is reached.
func (n *Node) insist(ctx context.Context, bound time.Duration, verb string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	args = append(slices.Clone(args), Resource)
	var last error
	err := n.poll(ctx, func() (bool, error) {
		_, err := n.Verb(ctx, verb, args...)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if !n.Running() {
			return false, fmt.Errorf("daemon of %s ended (%v)", n.Name, n.ExitError())
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w (last answer: %w)\nlog: …%s", err, last, n.Log())
	}
	return nil
}
