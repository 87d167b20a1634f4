package node

import (
	"context"
	"fmt"
	"time"
)

// alarmInterval is how often limits are looked at.
const alarmInterval = time.Second

// alarms are the limits of one peer that are passed now: each is told once, and again only after it was kept in between.
type alarms struct {
	lag, silent bool
	heard       time.Time // when the peer was last in sight
}

// watchLimits tells of peers that lag or are silent beyond what the configuration allows, until ctx ends.
func (n *Node) watchLimits(ctx context.Context) error {
	t := time.NewTicker(alarmInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			for _, r := range n.all() {
				r.checkLimits(time.Now())
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Resource) checkLimits(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil {
		return
	}
	for _, p := range r.peers {
		r.checkLagLocked(p)
		r.checkStallLocked(p, now)
		r.checkSilenceLocked(p, now)
	}
}

func (r *Resource) checkLagLocked(p *peer) {
	gp := r.att.group.Peer(p.name)
	limit := p.cfg.WAN.LagLimit
	if gp == nil || limit <= 0 {
		return
	}
	lag, bytes, _ := gp.Lag()
	over := lag > limit
	if over && !p.alarms.lag {
		r.log.Warn("lag is over its limit", "peer", p.name, "lag", lag, "bytes", bytes, "lag-limit", limit)
		r.helperSoonWith(p, []string{fmt.Sprintf("DRSHIP_LAG_SECONDS=%d", int(lag.Seconds())), fmt.Sprintf("DRSHIP_LAG_BYTES=%d", bytes)}, "lag-exceeded")
	} else if !over && p.alarms.lag {
		r.log.Info("lag is within its limit again", "peer", p.name, "lag", lag)
	}
	p.alarms.lag = over
}

func (r *Resource) checkSilenceLocked(p *peer, now time.Time) {
	limit := p.cfg.WAN.PeerSilent
	if p.inSight() || !p.wanted || p.alarms.heard.IsZero() {
		p.alarms.heard, p.alarms.silent = now, false
		return
	}
	silent := now.Sub(p.alarms.heard)
	if limit <= 0 || silent <= limit || p.alarms.silent {
		return
	}
	p.alarms.silent = true
	r.log.Warn("nothing heard of the peer", "peer", p.name, "for", silent.Round(time.Second), "peer-silent", limit)
	r.helperSoonWith(p, []string{fmt.Sprintf("DRSHIP_SILENT_SECONDS=%d", int(silent.Seconds()))}, "peer-silent")
}
