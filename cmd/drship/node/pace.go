package node

import (
	"sync"
	"time"

	"drship/internal/config"
	"drship/internal/ship"
	"drship/internal/state"
	"drship/wan"
)

// probeDisk is how long a disk is read at attach, so that its rate is known.
const probeDisk = 200 * time.Millisecond

// quietTime is how long no application may have written for a probe to take the line.
const quietTime = time.Second

// lineMeter is what a session knows of its line.
type lineMeter struct {
	mu      sync.Mutex
	line    ship.Line
	records uint64    // sent, when it was looked at last
	busy    time.Time // when that changed last
}

// look takes the counters of this moment. It reports whether the resync should go without a limit, to find out what the line
// delivers, and what is known of that.
func (m *lineMeter) look(now time.Time, src *source, link *wan.Session) (free bool, rate int64) {
	st, own := link.Stats(), src.stream.Stats()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := own.Records.Load(); n != m.records {
		m.records, m.busy = n, now
	}
	free = m.line.Look(now, st.WireSent, time.Duration(own.Waited.Load()), st.RTT, now.Sub(m.busy) > quietTime)
	return free, m.line.Rate()
}

// again has the line's rate measured anew as soon as there is something to measure it with.
func (m *lineMeter) again() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.line.Again()
}

// pace is asked for by the resync each time a piece of it is due. Where it has to be measured, the line is, now and then.
func (r *Resource) pace(s *session) ship.Pace {
	in := r.paceInput(s)
	if in.Temporary > 0 || in.Fixed > 0 {
		return ship.ResyncPace(in)
	}
	if src := s.currentSource(); src != nil && in.Scheduled == 0 {
		var free bool
		if free, in.Network = s.line.look(time.Now(), src, s.link); free {
			return ship.Pace{Why: "measuring the line"}
		}
	}
	return ship.ResyncPace(in)
}

// paceInput is what the rate of a resync or verify is decided from.
func (r *Resource) paceInput(s *session) ship.PaceInput {
	s.line.mu.Lock()
	network := s.line.line.Rate()
	s.line.mu.Unlock()
	line := r.lineRate(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	d, temporary := r.steeredLocked(s.peer)
	in := ship.PaceInput{Temporary: temporary, Fixed: d.ResyncRate, Network: network, Scheduled: line, Max: d.CMaxRate, Control: resyncControl(d)}
	in.Disk, in.PeerDisk = r.att.diskRate(), s.peer.view.DiskRate
	return in
}

// diskRate is what the slowest of the disks moves, in bytes a second; 0 while that is not known.
func (a *attachment) diskRate() int64 {
	if a == nil {
		return 0
	}
	var slowest int64
	for _, m := range a.meters {
		if rate := m.Rate(); rate > 0 && (slowest == 0 || rate < slowest) {
			slowest = rate
		}
	}
	return slowest
}

// tellDiskRate tells the peers when the disks are seen to move something else than what they were told: a resync towards here goes by it.
func (r *Resource) tellDiskRate() {
	r.mu.Lock()
	now, told := r.att.diskRate(), r.toldRate
	r.mu.Unlock()
	if now > 0 && (now < told*3/4 || now > told*4/3) {
		r.broadcastState()
	}
}

// chasePace is asked for instead while the peer is chased.
func (r *Resource) chasePace(s *session) ship.Pace { return ship.ChasePace(r.paceInput(s)) }

// resyncControl is what the configuration tells the resync's controller. A fill target that nobody wrote is none: DRBD's default of
// 50 KiB would hold a resync over a long line down far below what it may take.
func resyncControl(d config.Disk) ship.Control {
	c := ship.Control{Plan: d.CPlanAhead, Delay: d.CDelayTarget, Min: d.CMinRate}
	if _, written := d.Set["c-fill-target"]; written {
		c.Fill = d.CFillTarget
	}
	return c
}

// lineRate is what the line may carry now: by rate-schedule, else link-rate; 0 for no ceiling.
func (r *Resource) lineRate(s *session) int64 {
	r.mu.Lock()
	w := s.peer.cfg.WAN
	r.mu.Unlock()
	if w.RateSchedule == "" {
		return w.LinkRate
	}
	schedule, err := config.ParseRateSchedule(w.RateSchedule)
	if err != nil {
		return w.LinkRate // it was refused when the configuration was read
	}
	return schedule.At(r.node.env.Now())
}

// keepCeilings has every session keep to what its line may carry now.
func (r *Resource) keepCeilings() {
	for _, s := range r.sessions() {
		s.link.SetCeiling(r.lineRate(s))
	}
}

// dependencies holds the resyncs that are to come after another resource's, and lets them go once that is done.
func (n *Node) dependencies() {
	for _, r := range n.all() {
		if r.depend() {
			r.applyPauses()
			r.broadcastState()
		}
	}
}

// depend decides whether a resync here waits for another resource's, and reports whether that is news. A stream asks before it starts:
// a resync that began and is held afterwards has taken its share of the line already.
func (r *Resource) depend() bool {
	r.mu.Lock()
	after := r.cfg.Disk.ResyncAfter
	r.mu.Unlock()
	now := after != "" && !r.node.afterItself(r) && r.node.resyncs(after, r)
	r.mu.Lock()
	was := r.waits
	r.waits = now
	r.mu.Unlock()
	if now != was {
		r.log.Info("resync waits for another resource", "for", after, "waits", now)
	}
	return now != was
}

// resyncTurns has the node look again whose resync waits for whose, because one began or ended.
func (n *Node) resyncTurns() {
	select {
	case n.turns <- struct{}{}:
	default: // it is about to look anyway
	}
}

// afterItself reports whether the chain of resync-after leads back to where it began: then nobody would ever go first.
func (n *Node) afterItself(r *Resource) bool {
	all := n.all()
	at := r
	for range all {
		at.mu.Lock()
		after := at.cfg.Disk.ResyncAfter
		at.mu.Unlock()
		if at = find(all, config.ResyncAfterResource(after)); at == nil {
			return false
		}
		if at == r {
			return true
		}
	}
	return false
}

// resyncs reports whether a resync of the resource that is named, RES or RES/VOL, runs or is held by somebody.
func (n *Node) resyncs(name string, except *Resource) bool {
	other := find(n.all(), config.ResyncAfterResource(name))
	if other == nil || other == except {
		return false
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	for _, p := range other.peers {
		if !p.inSight() {
			continue
		}
		if c := other.replLocked(p); c >= state.WFBitMapS && c <= state.PausedSyncT && c != state.VerifyS && c != state.VerifyT {
			return true
		}
	}
	return false
}

// applyPauses tells every stream whether its resync is held.
func (r *Resource) applyPauses() {
	r.mu.Lock()
	type held struct {
		src    *source
		paused bool
	}
	var all []held
	for _, p := range r.peers {
		if p.session != nil && p.session.source != nil {
			all = append(all, held{p.session.source, r.paused || r.waits || p.pausesUs()})
		}
	}
	r.mu.Unlock()
	for _, h := range all {
		h.src.stream.PauseResync(h.paused)
	}
}
