package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/state"
)

// trialTime bounds how long connect --tentative waits for a peer to shake hands with.
const trialTime = 20 * time.Second

// verbExplain says what the last handshake with each peer found.
func verbExplain(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	return r.explained(peerNames(q)), nil
}

func (r *Resource) explained(names []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, p := range r.peers {
		if !named(names, p.name) {
			continue
		}
		if len(p.explain) == 0 {
			out = append(out, fmt.Sprintf("%s: no handshake yet", p.name))
		}
		for _, line := range p.explain {
			out = append(out, fmt.Sprintf("%s: %s", p.name, line))
		}
		if p.lastErr != "" && !p.inSight() {
			out = append(out, fmt.Sprintf("%s: %s, the last connection ended: %s", p.name, p.conn, p.lastErr))
		}
	}
	return out
}

// awaitTrial waits until the tentative handshakes are over and returns what they found. A peer that cannot be reached is given up.
func (r *Resource) awaitTrial(ctx context.Context, names []string) ([]string, error) {
	wait, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	err := r.waitPeers(wait, names, func(p *peer) bool { return p.conn == state.StandAlone })
	if err == nil {
		return r.explained(names), nil
	}
	release, aerr := r.acquire(ctx)
	if aerr != nil {
		return nil, aerr
	}
	defer release()
	r.disconnect(names)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, &refused{exit: control.ExitTimeout, text: fmt.Sprintf("no handshake within %v", trialTime), hint: "the peer must be up and waiting for a connection (WFConnection)"}
	}
	return nil, err
}
