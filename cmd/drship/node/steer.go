package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/setup"
)

// steering is what steers the resyncs with one peer apart from those with others, until the next adjust.
type steering struct {
	disk config.Disk
	rate int64 // bytes/s; 0: what disk says
	set  []setup.Option
}

// steers are DRBD 9's options of a peer device.
var steers = strings.Fields("resync-rate c-plan-ahead c-delay-target c-fill-target c-max-rate c-min-rate")

// verbPeerDeviceOptions changes what steers resyncs: of all peers as disk-options does, or of the one that is named. The resync of all volumes with a
// peer is one, so that a volume that is named stands for its peer's.
func verbPeerDeviceOptions(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	r.mu.Lock()
	p, one := r.peerLocked(q.Peer), len(r.peers) == 1
	r.mu.Unlock()
	if q.Peer == "" || one {
		return verbDiskOptions(ctx, r, q)
	}
	if p == nil {
		return nil, &refused{exit: control.ExitUsage, text: "there is no peer " + q.Peer}
	}
	rate, err := number(q, "resync-rate")
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.wakeResyncs()
	defer r.mu.Unlock()
	next := steering{disk: r.cfg.Disk}
	if p.steered != nil && !q.Yes(setDefaults) {
		next = *p.steered
	}
	for _, s := range given(q, "disk") {
		if !slices.Contains(steers, s.Name) {
			return nil, &refused{exit: control.ExitUsage, text: s.Name + " is no option of a peer device", hint: "these are: " + strings.Join(steers, ", ")}
		}
		if s.Name == "resync-rate" {
			next.rate, s.Value = rate, fmt.Sprintf("%dk", rate>>10)
		} else if next.disk, err = next.disk.With(s.Name, s.Value); err != nil {
			return nil, invalid(err)
		}
		next.set = setup.With(next.set, s.Name, s.Value)
	}
	p.steered = &next
	if q.Yes(setDefaults) && next.set == nil {
		p.steered = nil
	}
	return nil, nil
}

// steeredLocked is what steers the resyncs with a peer. Called with mu held.
func (r *Resource) steeredLocked(p *peer) (d config.Disk, temporary int64) {
	if p.steered != nil {
		return p.steered.disk, p.steered.rate
	}
	return r.cfg.Disk, r.tempRate
}
