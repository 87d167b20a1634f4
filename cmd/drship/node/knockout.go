package node

import (
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/wan/frame"
)

// errKnockedOut ends a session with a peer that answers keep-alives and nothing else.
var errKnockedOut = errors.New("the peer does not get on with what it was sent")

// moving is how many bytes on the wire say that the line, and not the peer, is what takes long: keep-alives are far less.
const moving = 64 << 10

// stall watches whether a peer gets on with what it was sent.
type stall struct {
	since  time.Time
	staged block.Seq
	wire   uint64
}

// look returns for how long the peer has owed an answer to data while neither it gave one nor the line carried more.
func (k *stall) look(now time.Time, m ship.Marks, wire uint64) time.Duration {
	if k.since.IsZero() || !m.Staged.Less(m.Sent) || m.Staged != k.staged || wire-k.wire > moving {
		*k = stall{since: now, staged: m.Staged, wire: wire}
	}
	return now.Sub(k.since)
}

// checkStallLocked drops a peer that stalls for ko-count × timeout, so that writes which wait for it go on; it is connected again and may catch up.
// Called with mu held.
func (r *Resource) checkStallLocked(p *peer, now time.Time) {
	limit := time.Duration(p.cfg.Net.KoCount) * p.cfg.Net.Timeout
	s, gp := p.session, r.att.group.Peer(p.name)
	if limit <= 0 || gp == nil || !p.inSight() || s.source == nil || s.source.stream.Mode() != frame.ModeJournal {
		p.stall = stall{}
		return
	}
	if d := p.stall.look(now, gp.Marks(), s.link.Stats().WireSent); d > limit {
		p.stall = stall{}
		reason := fmt.Errorf("%w for %v (ko-count × timeout)", errKnockedOut, d.Round(time.Second))
		r.log.Error("dropping a peer", "peer", p.name, "why", reason)
		r.node.helpers.goDo(func() { s.end(reason) })
	}
}
