package node

import (
	"context"
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/state"
	"drship/journal"
	"drship/wan"
	"drship/wan/frame"
)

// errDropped ends a session for good: the administrator has to decide.
var errDropped = errors.New("connection dropped")

// handshake finds out who has which data and brings the session to where replication can start. It holds the resource's
// token, so that no role and no direction changes under it.
func (r *Resource) handshake(s *session) error {
	ctx, cancel := context.WithTimeout(s.ctx, maxHandshakes)
	defer cancel()
	var first *frame.State
	if r.hearsFirst(s) {
		var err error
		if first, err = recvState(ctx, s); err != nil {
			return err
		}
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	mine, theirs, err := r.exchange(ctx, s, first)
	if err != nil {
		return err
	}
	if err := r.volumesDiffer(mine, theirs); err != nil {
		return errors.Join(err, r.aloneWithVolumes())
	}
	r.align(theirs)
	if err := r.fitUntouched(mine, theirs); err != nil {
		return err
	}
	if text := r.policies(s.peer).Disagreement(theirs.Policies); text != "" {
		return r.dropPeer(ctx, s, text+"; make the configurations agree, then connect again")
	}
	if err := r.followGrowth(mine, theirs); err != nil {
		return err
	}
	idle, mine, theirs, err := r.aside(ctx, s, mine, theirs)
	if err != nil || idle {
		return err
	}
	if mine, theirs, err = r.countChanges(ctx, s, mine, theirs); err != nil {
		return r.failed(ctx, s, err)
	}
	d, err := r.decide(s, mine, theirs)
	if err != nil {
		return r.failed(ctx, s, err)
	}
	for _, line := range d.Log {
		r.log.Info(line, "peer", s.peer.name)
	}
	if (mine.Flags|theirs.Flags)&frame.FlagTentative != 0 {
		return r.tried(s, d)
	}
	if len(d.Handlers) > 0 {
		r.helperSoon(s.peer, d.Handlers...)
	}
	return r.actOn(ctx, s, d, theirs)
}

// exchange tells the peer the state here and hears its own, unless it was heard before.
func (r *Resource) exchange(ctx context.Context, s *session, heard *frame.State) (mine, theirs *frame.State, err error) {
	if mine, err = r.settledState(ctx, s); err != nil {
		return nil, nil, err
	}
	if err := s.link.Send(ctx, mine); err != nil {
		return nil, nil, fmt.Errorf("send state to %s: %w", s.peer.name, err)
	}
	if heard != nil {
		return mine, heard, nil
	}
	theirs, err = recvState(ctx, s)
	return mine, theirs, err
}

// again has both sides say once more where they stand.
func (r *Resource) again(ctx context.Context, s *session) (mine, theirs *frame.State, err error) {
	mine, theirs, err = r.exchange(ctx, s, nil)
	if err == nil {
		r.align(theirs)
	}
	return mine, theirs, err
}

func recvState(ctx context.Context, s *session) (*frame.State, error) {
	m, err := s.link.Recv(ctx, frame.Control)
	if err != nil {
		return nil, fmt.Errorf("wait for the state of %s: %w", s.peer.name, err)
	}
	st, ok := m.(*frame.State)
	if !ok {
		return nil, fmt.Errorf("%w: %s began with %T, not with its state", wan.ErrProtocol, s.peer.name, m)
	}
	if st.Flags&frame.FlagGoingAway != 0 {
		return nil, errGoneAway
	}
	return st, nil
}

// stateLocked is what this side says of itself to a peer. Called with mu held.
func (r *Resource) stateLocked(s *session) *frame.State {
	p := s.peer
	s.serial++
	m := &frame.State{Role: uint8(r.role), Protocol: p.cfg.Net.Protocol, Serial: s.serial, Policies: policiesOf(p).Word()}
	flag := func(on bool, f uint32) {
		if on {
			m.Flags |= f
		}
	}
	flag(p.discard, frame.FlagDiscardMyData)
	flag(p.try, frame.FlagTentative)
	flag(s.link.Dialled(), frame.FlagTie)
	flag(r.paused, frame.FlagPausedByUser)
	flag(r.waits, frame.FlagPausedByDependency)
	flag(r.held, frame.FlagReplicationPaused)
	flag(r.remote != nil, frame.FlagRemote)
	a := r.att
	if a == nil {
		for _, v := range r.host.Volumes {
			m.Volumes = append(m.Volumes, frame.VolumeState{Volume: v.Number, Disk: uint8(state.Diskless)})
		}
		return m
	}
	flag(a.crashed, frame.FlagCrashedPrimary)
	flag(r.fetchesLocked(), frame.FlagFetches)
	flag(a.noDisk(), frame.FlagNoDisk)
	m.Flags |= r.severalFlagsLocked(s)
	m.Position, m.Written = a.position(), a.lastWrite()
	r.toldRate = a.diskRate()
	m.DiskRate = r.toldRate
	if len(r.peers) > 1 {
		m.Position = a.positionFor(p.name)
		m.Flags |= frame.FlagOlder
	}
	for i, v := range a.meta.Volumes {
		flag(v.Flags&volumeGrew != 0, frame.FlagGrew)
		flag(v.Flags&volumeCarried != 0, frame.FlagCarried)
		vs := frame.VolumeState{Volume: v.Volume, Disk: uint8(a.disk(i)), Size: v.Size, UUIDs: toWire(a.ids(i, p.name))}
		if gp := a.group.Peer(p.name); gp != nil {
			vs.OOS = gp.Bitmap(v.Volume).Count()
		}
		m.Volumes = append(m.Volumes, vs)
		if m.Flags&frame.FlagOlder != 0 {
			m.Older = append(m.Older, a.ids(i, p.name).Older)
		}
	}
	return m
}

// position is where this side's data stands: at the end of its own journal if it wrote last, else at what it has staged.
func (a *attachment) position() block.Seq {
	if a.meta.Flags&metaOwnOrder != 0 {
		return a.group.End()
	}
	_, staged := a.store.Staging().Marks()
	return staged
}

// decide runs the verdict that both sides come to on their own.
func (r *Resource) decide(s *session, mine, theirs *frame.State) (state.Decision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := s.peer
	p.view = *theirs
	r.noteKeeperLocked(p)
	self, peer, err := sides(mine, theirs)
	if err != nil {
		return state.Decision{}, err
	}
	d := state.HandshakeVolumes(self, peer, policiesOf(p))
	p.explain = explain(d, mine, theirs)
	if a := r.att; a != nil && !d.DryRun {
		for i := range d.Volumes {
			if fix := d.Volumes[i].Comparison.FixSelf; fix != nil {
				a.setIDs(i, p.name, *fix)
				a.setSharing(i, p.name, false)
			}
		}
		if err := a.save(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// sides turns both states, which are aligned, into what the verdict wants, volume by volume.
func sides(mine, theirs *frame.State) (self, peer []state.Side, err error) {
	for i := range mine.Volumes {
		m, t := mine.Volumes[i], theirs.Volumes[i]
		haveData := state.Disk(m.Disk) > state.Negotiating && state.Disk(t.Disk) > state.Negotiating
		if haveData && m.Size != t.Size {
			return nil, nil, fmt.Errorf("%w: volume %d has %d bytes here and %d there: create the larger one's metadata with --size %d", errDropped, m.Volume, m.Size, t.Size, min(m.Size, t.Size))
		}
		self = append(self, side(mine, i))
		peer = append(peer, side(theirs, i))
	}
	return self, peer, nil
}

// side is what a state says of its volume i.
func side(s *frame.State, i int) state.Side {
	v := s.Volumes[i]
	has := func(f uint32) bool { return s.Flags&f != 0 }
	role := state.Role(s.Role)
	if has(frame.FlagRemote) { // its clients use the other side's data: what is on its own disk wins nothing by their writes
		role = state.Secondary
	}
	ids := fromWire(v.UUIDs)
	if i < len(s.Older) {
		ids.Older = s.Older[i]
	}
	d := state.Disk(v.Disk)
	switch {
	case has(frame.FlagFetches):
		d = state.UpToDate
	case has(frame.FlagNoDisk):
		d = state.Inconsistent
	}
	return state.Side{IDs: ids, Role: role, Disk: d,
		CrashedPrimary: has(frame.FlagCrashedPrimary), DiscardMyData: has(frame.FlagDiscardMyData), Tentative: has(frame.FlagTentative),
		Tie: has(frame.FlagTie), Follows: has(frame.FlagFollows), Received: has(frame.FlagReceived), Changed: v.OOS, Epoch: s.Position.Epoch, Num: s.Position.Num}
}

// actOn carries a decision out. Called with the token held.
func (r *Resource) actOn(ctx context.Context, s *session, d state.Decision, theirs *frame.State) error {
	switch d.Action {
	case state.Equal:
		changed, err := r.agree(theirs, d)
		if err != nil {
			return err
		}
		r.becomeReady(s, state.Connected)
		if r.bothCarried(s, theirs) {
			s.work.Go(func() { r.declareCarried(s) })
			return nil
		}
		if d.NoData {
			return nil
		}
		if changed {
			if err := s.sendState(0); err != nil {
				return err
			}
		}
		return r.equal(s, theirs)
	case state.BecomeSource:
		return r.becomeSource(ctx, s, d, theirs)
	case state.BecomeTarget:
		r.expectSource(s)
		if err := r.giveWay(ctx, s, d); err != nil {
			return err
		}
		return r.offerBits(ctx, s, d)
	}
	if d.Retry {
		return errors.New(d.Text)
	}
	return r.dropPeer(ctx, s, d.Text)
}

func (r *Resource) becomeReady(s *session, repl state.Conn) {
	r.mu.Lock()
	s.ready, s.repl = true, repl
	s.peer.conn = state.Connected
	if repl == state.WFBitMapS || repl == state.WFBitMapT {
		r.passLocked(s.peer, repl)
	}
	s.peer.discard, s.peer.try = false, false
	r.peerIsBackLocked(s.peer)
	r.mu.Unlock()
	r.log.Info("connected", "peer", s.peer.name, "state", repl)
	r.node.changed()
}

// standAlone gives the peer up until an administrator connects again.
func (r *Resource) standAlone(p *peer) {
	r.mu.Lock()
	p.wanted = false
	if r.net != nil {
		r.net.want(p.name, false)
	}
	r.mu.Unlock()
}

// equal opens a stream where one is needed although nothing differs: from a Primary, and from whoever has writes in its
// journal that the other lacks.
func (r *Resource) equal(s *session, theirs *frame.State) error {
	r.mu.Lock()
	a, writes := r.att, r.writesHereLocked()
	own := a.meta.Flags&metaOwnOrder != 0
	r.mu.Unlock()
	behind := own && theirs.Position.Less(a.group.End()) && a.store.Log().Covers(theirs.Position)
	theyWrite := state.Role(theirs.Role) == state.Primary && theirs.Flags&frame.FlagRemote == 0
	if writes || behind && !theyWrite {
		return r.openSource(s, theirs.Position, false)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.crashed && !writes {
		return r.uncrashLocked(a)
	}
	return nil
}

// becomeSource takes over what the target knows to be different, and opens the stream.
func (r *Resource) becomeSource(ctx context.Context, s *session, d state.Decision, theirs *frame.State) error {
	a := r.attachment()
	p := a.group.Peer(s.peer.name)
	inconsistent := false
	for i := range d.Volumes {
		v := &d.Volumes[i]
		if v.Full {
			p.Bitmap(a.meta.Volumes[i].Volume).SetAll()
		}
		inconsistent = inconsistent || v.Action == state.BecomeSource && state.Disk(theirs.Volumes[i].Disk) <= state.Inconsistent
	}
	if d.AllFull() {
		if err := p.FlushBitmaps(); err != nil {
			return err
		}
	} else if err := r.takeBits(ctx, s); err != nil { // which flushes
		return err
	}
	r.becomeReady(s, state.WFBitMapS)
	return r.openSource(s, theirs.Position, inconsistent)
}

// takeBits reads the target's bitmaps into ours and makes them durable.
func (r *Resource) takeBits(ctx context.Context, s *session) error {
	p := r.attachment().group.Peer(s.peer.name)
	for {
		m, err := s.link.Recv(ctx, frame.Control)
		if err != nil {
			return fmt.Errorf("wait for the bitmap of %s: %w", s.peer.name, err)
		}
		switch m := m.(type) {
		case *frame.Bitmap:
			b := p.Bitmap(m.Volume)
			if b == nil {
				return fmt.Errorf("%s sent a bitmap of volume %d, which there is none of", s.peer.name, m.Volume)
			}
			if err := b.Merge(m.Page, m.Bits); err != nil {
				return fmt.Errorf("merge the bitmap of %s: %w", s.peer.name, err)
			}
		case *frame.State:
			if err := s.peerState(m); err != nil {
				return err
			}
		case *frame.BitmapEnd:
			return p.FlushBitmaps()
		default:
			return fmt.Errorf("%s sent %T amid its bitmap", s.peer.name, m)
		}
	}
}

// offerBits tells the source what is known here to be different: the bitmap, and what only this side's journal and activity
// log know of. All of it is durable here before the journal is dropped.
func (r *Resource) offerBits(ctx context.Context, s *session, d state.Decision) error {
	a := r.attachment()
	p := a.group.Peer(s.peer.name)
	if err := p.JournalToBitmap(); err != nil {
		return err
	}
	r.mu.Lock()
	err := r.givesUpLocked(a, p.OutOfSync() > 0 || d.Full && d.SplitBrainSeen)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if d.AllFull() {
		r.becomeReady(s, state.WFBitMapT)
		return nil
	}
	var blocks uint64
	for i, v := range a.meta.Volumes {
		if d.Volumes[i].Full || d.Volumes[i].NoData {
			continue
		}
		b := p.Bitmap(v.Volume)
		if !a.parts[i].Gone() {
			b.SetFrom(a.missing[i])
		}
		blocks += b.Count()
		if err := sendPages(ctx, s, v.Volume, b); err != nil {
			return err
		}
	}
	if err := s.link.Send(ctx, &frame.BitmapEnd{Blocks: blocks}); err != nil {
		return fmt.Errorf("send bitmap to %s: %w", s.peer.name, err)
	}
	r.becomeReady(s, state.WFBitMapT)
	return nil
}

func sendPages(ctx context.Context, s *session, volume uint16, b *journal.Bitmap) error {
	for page := range b.Pages() {
		m := &frame.Bitmap{Volume: volume, Page: page, Bits: b.Page(page)}
		if err := s.link.Send(ctx, m); err != nil {
			return fmt.Errorf("send bitmap to %s: %w", s.peer.name, err)
		}
	}
	return nil
}
