package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"drship/internal/state"
)

// startPrimary promotes the resources that become-primary-on names for this node, once their peers are there or the
// time to wait for them is over.
func (n *Node) startPrimary(ctx context.Context) {
	for _, r := range n.all() {
		if r.startsPrimary() {
			n.helpers.goDo(func() { r.startAsPrimary(ctx) })
		}
	}
}

func (r *Resource) startsPrimary() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	on := r.cfg.Startup.BecomePrimaryOn
	return r.att != nil && (slices.Contains(on, r.node.env.Node) || slices.Contains(on, "both"))
}

func (r *Resource) startAsPrimary(ctx context.Context) {
	r.mu.Lock()
	s, a := r.cfg.Startup, r.att
	if a == nil {
		r.mu.Unlock()
		return
	}
	limit := state.StartupWait(state.Startup{WFC: s.WFCTimeout, Degraded: s.DegrWFCTimeout, Outdated: s.OutdatedWFCTimeout},
		a.crashed, slices.ContainsFunc(r.peers, (*peer).outdated))
	r.mu.Unlock()
	wait, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		wait, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	if err := r.waitPeers(wait, nil, (*peer).inSight); err != nil {
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("peers did not come in time; becoming Primary without them", "waited", limit)
	}
	r.log.Info("become-primary-on names this node")
	err := r.promoteAtStart(ctx)
	if err != nil && ctx.Err() == nil {
		r.log.Error("did not become Primary at the start", "err", err)
	}
}

// startRetry is how often a promotion at the start is tried again while a resync makes the data here good.
const startRetry = time.Second

// promoteAtStart promotes; where a resync towards this node runs, it waits for its end.
func (r *Resource) promoteAtStart(ctx context.Context) error {
	t := time.NewTicker(startRetry)
	defer t.Stop()
	for {
		err := r.Promote(ctx, false)
		f, refused := errors.AsType[*state.Refusal](err)
		if !refused || f.Code != state.SSNoUpToDateDisk || !r.isTarget() {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *Resource) isTarget() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.targetSessionLocked() != nil
}
