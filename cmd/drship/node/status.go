package node

import (
	"context"
	"fmt"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/state"
	"drship/receiver"
	"drship/sender"
	"drship/wan/frame"
)

// Status implements control.API.
func (n *Node) Status(_ context.Context, resources []string) ([]face.Resource, error) {
	rs, err := n.named(resources)
	if err != nil {
		return nil, err
	}
	out := []face.Resource{}
	for _, r := range rs {
		if r.isUp() {
			out = append(out, r.snapshot())
		} else if len(resources) > 0 {
			return nil, &control.Error{Code: int(state.ErrResourceUnknown), What: r.name, Text: state.CodeText(state.ErrResourceUnknown), Hint: "bring it up: drship up " + r.name}
		}
	}
	return out, nil
}

// Watch implements control.API.
func (n *Node) Watch(ctx context.Context, resources []string) (<-chan []face.Resource, error) {
	if _, err := n.named(resources); err != nil {
		return nil, err
	}
	notices, stop := n.watchers.subscribe()
	out := make(chan []face.Resource)
	go func() { // owned by the caller's ctx
		defer close(out)
		defer stop()
		for {
			snapshot, err := n.Status(ctx, nil)
			if err != nil {
				return
			}
			select {
			case out <- only(snapshot, resources):
			case <-ctx.Done():
				return
			}
			select {
			case <-notices:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func only(all []face.Resource, names []string) []face.Resource {
	if len(names) == 0 {
		return all
	}
	keep := []face.Resource{}
	for _, r := range all {
		for _, name := range names {
			if r.Name == name || name == control.All {
				keep = append(keep, r)
			}
		}
	}
	return keep
}

func (r *Resource) firstVolume() uint16 {
	if vs := r.volumesConfigured(); len(vs) > 0 {
		return vs[0].Number
	}
	return 0
}

func (r *Resource) volumesConfigured() []*config.Volume {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.host.Volumes
}

// snapshot describes the resource as it is now.
func (r *Resource) snapshot() face.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.still != nil {
		return *r.still
	}
	return r.snapshotLocked()
}

// snapshotLocked is snapshot, whatever is under way. Called with mu held.
func (r *Resource) snapshotLocked() face.Resource {
	f := face.Resource{Name: r.name, Role: r.role, NodeID: r.host.NodeID, Helper: r.lastHelper, PassedSeq: r.passSeq}
	a := r.att
	f.Suspended.User, f.Suspended.Fencing = r.suspend, r.fencing > 0
	f.Suspended.NoData = r.remote != nil && r.remote.noData() || r.waiting.Load() > 0
	if a != nil {
		records, bytes, _ := a.store.Log().Backlog(a.store.Log().Start())
		f.Journal = face.JournalStatus{Bytes: bytes, Max: r.cfg.Journal.MaxSize, Records: records}
	}
	for i, vc := range r.host.Volumes {
		f.Volumes = append(f.Volumes, r.volumeFace(a, i, vc))
	}
	for _, p := range r.peers {
		f.Peers = append(f.Peers, r.peerFace(a, p))
		if mode := r.modeLocked(p); mode != "" {
			f.Journal.Mode = mode
		}
	}
	return f
}

func (r *Resource) modeLocked(p *peer) string {
	if p.session == nil || p.session.source == nil {
		return ""
	}
	switch p.session.source.stream.Mode() {
	case frame.ModeResync:
		return "resync"
	case frame.ModeAhead:
		return "ahead"
	}
	return "journal"
}

func (r *Resource) volumeFace(a *attachment, i int, vc *config.Volume) face.Volume {
	v := face.Volume{Number: vc.Number, Minor: vc.Minor, Device: vc.Device, Quorum: true, Disk: state.Diskless, Passed: r.passedOfLocked(i)}
	v.Clients = r.node.exports.clients(r.name, vc.Number)
	v.Open = len(v.Clients) > 0
	if r.remote != nil && i == 0 {
		v.UpperPending = uint64(r.remote.client.Pending())
	}
	if a == nil || i >= len(a.meta.Volumes) {
		return v
	}
	c, t := a.group.Counters(), a.target.Stats()
	v.Backing, v.Disk, v.Size = vc.Disk, a.disk(i), a.meta.Volumes[i].Size
	if a.parts[i].Gone() {
		v.Backing = ""
	}
	if i == 0 { // the halves count by resource
		v.Read = c.Read.Load() + c.DiskRead.Load()
		v.Written = c.Written.Load() + t.AppliedBytes + t.ChunkBytes
		v.ALWrites = a.group.ALUpdates()
		v.UpperPending += uint64(a.group.Pending())
	}
	return v
}

// replLocked is the replication state with a peer that is connected. Called with mu held.
func (r *Resource) replLocked(p *peer) state.Conn {
	s := p.session
	repl := s.repl
	if s.source != nil {
		repl = max(repl, sourceState(s.source.stream.Mode()))
		if s.source.stream.Mode() == frame.ModeJournal && s.ready && repl != state.WFBitMapS {
			repl = state.Connected
		}
	}
	paused := r.paused || r.waits || p.pausesUs()
	switch {
	case repl == state.Connected && s.verify != nil:
		return state.VerifyS
	case repl == state.Connected && s.verified != nil:
		return state.VerifyT
	case repl == state.SyncSource && paused:
		return state.PausedSyncS
	case repl == state.SyncTarget && paused:
		return state.PausedSyncT
	}
	return repl
}

// pausesUs reports whether the peer holds the resync.
func (p *peer) pausesUs() bool {
	return p.inSight() && p.view.Flags&(frame.FlagPausedByUser|frame.FlagPausedByDependency) != 0
}

func (r *Resource) peerFace(a *attachment, p *peer) face.Peer {
	f := face.Peer{Name: p.name, NodeID: p.cfg.Host.NodeID, Conn: p.conn, Role: state.RoleUnknown, Error: p.lastErr, TLS: true, Passed: p.passed,
		Local: p.cfg.Local.HostPort(), Remote: p.cfg.Remote.HostPort(), Protocol: p.cfg.Net.Protocol}
	if !p.wanted {
		f.Protocol = 0
	}
	repl := p.conn
	if p.inSight() {
		f.Role, repl = state.Role(p.view.Role), r.replLocked(p)
		st := p.session.link.Stats()
		f.RTT, f.BytesSent, f.BytesReceived = st.RTT, st.WireSent, st.WireReceived
		if src := p.session.source; src != nil {
			f.BytesRaw = src.stream.Stats().BytesRaw.Load() + src.stream.Stats().ResyncBytes.Load()
			f.Shipped = shipped(src.stream, st.WireSent)
		}
	}
	var gp *sender.Peer
	if a != nil {
		gp = a.group.Peer(p.name)
	}
	if gp != nil && (r.role == state.Primary && r.remote == nil || p.inSight() && p.session.source != nil) {
		f.LagTime, f.LagBytes, _ = gp.Lag()
	}
	for i, vc := range r.host.Volumes {
		f.Volumes = append(f.Volumes, r.peerVolumeFace(p, gp, i, vc.Number, repl))
	}
	return f
}

// shipped counts what became of the writes that a stream has shipped.
func shipped(s *sender.Stream, wire uint64) face.Shipped {
	st := s.Stats()
	f := face.Shipped{Written: st.BytesRaw.Load(), Folded: st.BytesFolded.Load(), Reduced: st.BytesReduced.Load(), Packed: st.BytesPacked.Load(),
		Wire: wire, FromCache: st.BytesDelta.Load(), FromDisk: st.BytesReferred.Load()}
	if effort, chosen := s.Effort(); chosen {
		f.Effort = effort.String()
	}
	return f
}

func (r *Resource) peerVolumeFace(p *peer, gp *sender.Peer, i int, number uint16, repl state.Conn) face.PeerVolume {
	v := face.PeerVolume{Number: number, Disk: p.knownDisk(i), Conn: repl}
	if p.inSight() && i < len(p.view.Volumes) {
		v.Disk = state.Disk(p.view.Volumes[i].Disk)
	}
	if gp != nil {
		v.OutOfSync = gp.Bitmap(number).Count() * block.Size
		if n := r.lacksLocked(gp, i); n > 0 {
			v.OutOfSync += n * block.Size
			if p.inSight() && repl == state.Connected && !r.att.parts[i].Gone() && r.att.parts[i].Missing() > 0 {
				v.Conn = state.SyncTarget
			}
		}
		if vm := &r.att.meta.Volumes[i]; vm.Current == state.JustCreated {
			v.OutOfSync = uint64(vm.Size) // nobody has data yet: nothing is known to be equal
		}
	}
	v.Flags = face.SyncFlags{User: r.paused, Peer: p.pausesUs(), Dependency: r.waits}
	if s := p.session; s != nil && i == 0 {
		if s.source != nil {
			st := s.source.stream.Stats()
			v.Sent = st.BytesRaw.Load() + st.ResyncBytes.Load()
			v.Sync = sourceProgress(s.source.stream)
		} else if r.att != nil && s.run != nil {
			t := r.att.target.Stats()
			v.Received = t.AppliedBytes + t.ChunkBytes
			v.Sync = s.targetProgress(resynced(t))
		}
		if p := s.verifyFace(); p != nil {
			v.Sync = p
		}
	}
	return v
}

func sourceProgress(st *sender.Stream) *face.Progress {
	p, ok := st.Resync()
	if !ok {
		return nil
	}
	why := p.Pace.Why
	if st.Chasing() {
		why = cannotWin(st, why)
	}
	f := progress(p.Total*block.Size, p.Left*block.Size, p.Started, p.Pace.Rate, why)
	if p.Rate > 0 || p.Paused {
		f.Rate, f.ETA = int64(p.Rate*block.Size), p.ETA
	}
	return f
}

// cannotWin says why a chase does not end, and what would end it.
func cannotWin(st *sender.Stream, why string) string {
	writers, line, limit := st.Peer().Congestion()
	if writers == 0 || line == 0 {
		return why + ": the journal was full"
	}
	per := func(rate int64) string { return face.Bytes(rate) + "/s" }
	if writers <= limit {
		return fmt.Sprintf("%s: catching up; writers %s, the line carries %s", why, per(writers), per(line))
	}
	return fmt.Sprintf("%s, and cannot win: writers %s, the line carries %s; they would have to stay below %s", why, per(writers), per(line), per(limit))
}

// resynced is how many bytes of resyncs this side has dealt with: written, or found to be equal.
func resynced(t receiver.Stats) uint64 {
	return t.ChunkBytes + t.Compared - min(t.Differing*block.Size, t.Compared)
}

func (s *session) targetProgress(now uint64) *face.Progress {
	if s.repl != state.SyncTarget {
		return nil
	}
	total := s.total * block.Size
	done := min(now-s.before, total)
	return progress(total, total-done, s.since, 0, "")
}

// progress reckons rate and end of a resync from its average.
func progress(total, left uint64, since time.Time, want int64, why string) *face.Progress {
	p := &face.Progress{Total: total, Left: left, Started: since, Want: want, Why: why, ETA: -1}
	if elapsed := time.Since(since).Seconds(); elapsed > 0 {
		p.AverageRate = int64(float64(total-left) / elapsed)
		p.Rate = p.AverageRate
	}
	if p.Rate > 0 {
		p.ETA = time.Duration(float64(left) / float64(p.Rate) * float64(time.Second))
	}
	return p
}

// inSyncLocked reports whether the peer and this side are both UpToDate and nothing is known to differ. Called with mu
// held.
func (r *Resource) inSyncLocked(p *peer) bool {
	if r.att == nil || !r.att.good() || r.replLocked(p) != state.Connected {
		return false
	}
	for i := range p.view.Volumes {
		if state.Disk(p.view.Volumes[i].Disk) != state.UpToDate {
			return false
		}
	}
	return r.att.group.Peer(p.name).OutOfSync() == 0
}
