package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"drship/internal/block"
	"drship/internal/state"
	"drship/wan/frame"
)

// farewell bounds how long a side that drops its peer waits until the peer has come to its own decision.
const farewell = 5 * time.Second

func policiesOf(p *peer) state.Policies {
	n := p.cfg.Net
	return state.Policies{AfterSB0: n.AfterSB0, AfterSB1: n.AfterSB1, AfterSB2: n.AfterSB2, RRConflict: n.RRConflict, AlwaysASBP: n.AlwaysASBP}
}

func (r *Resource) policies(p *peer) state.Policies {
	r.mu.Lock()
	defer r.mu.Unlock()
	return policiesOf(p)
}

// countChanges asks both sides for exact figures where they matter: in a split brain, who changed how much decides, and what a side
// wrote without its peer stands in its journal and not in its bitmap. Each side turns its journal into bits and states
// itself again. Both come to the same answer whether that is needed.
func (r *Resource) countChanges(ctx context.Context, s *session, mine, theirs *frame.State) (*frame.State, *frame.State, error) {
	self, peer, err := sides(mine, theirs)
	if err != nil {
		return mine, theirs, err
	}
	split := false
	for i := range self {
		if self[i].Disk < state.Inconsistent || peer[i].Disk < state.Inconsistent {
			continue
		}
		c := state.Compare(self[i], peer[i])
		split = split || c.Result == state.ResultSplit || c.Result == state.ResultSplitHard
	}
	if !split {
		return mine, theirs, nil
	}
	if a := r.attachment(); a != nil {
		if err := a.group.Peer(s.peer.name).JournalToBitmap(); err != nil {
			return nil, nil, fmt.Errorf("count what was written without %s: %w", s.peer.name, err)
		}
	}
	return r.again(ctx, s)
}

// lastWrite is when the newest write was accepted that the journal still holds, Unix nanoseconds; 0 if it holds none.
func (a *attachment) lastWrite() int64 {
	end := a.store.Log().End()
	if end.Num == 0 {
		return 0
	}
	_, _, at := a.store.Log().Backlog(block.Seq{Epoch: end.Epoch, Num: end.Num - 1})
	if at.IsZero() {
		return 0
	}
	return at.UnixNano()
}

// giveWay makes a Primary that a decision names as the target a Secondary first. DRBD's "violently" changes data under clients that
// go on reading it; here they lose the volume, which shows them an error in the place of somebody else's data.
func (r *Resource) giveWay(ctx context.Context, s *session, d state.Decision) error {
	if !r.writesHere() {
		return nil
	}
	err := r.demote(ctx, d.Violent)
	if err == nil {
		r.log.Warn("gave up the primary role: the peer's data wins", "peer", s.peer.name, "violently", d.Violent)
		return nil
	}
	if d.DemoteFirst {
		r.helperSoon(s.peer, "pri-lost-after-sb")
	}
	return r.dropPeer(ctx, s, "I shall become SyncTarget, but I am primary! "+err.Error())
}

// agree takes an Outdated or Consistent disk back to UpToDate where the handshake shows that it equals a peer that is, which the peer has to hear of.
func (r *Resource) agree(theirs *frame.State, d state.Decision) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.att
	if a == nil || d.NoData || len(theirs.Volumes) != len(a.meta.Volumes) {
		return false, nil
	}
	for i := range a.meta.Volumes {
		v := &a.meta.Volumes[i]
		if (v.Disk == state.Outdated || v.Disk == state.Consistent) && state.Disk(theirs.Volumes[i].Disk) == state.UpToDate {
			v.Disk, changed = r.goodDiskLocked(a, state.UpToDate), true
		}
	}
	if !changed {
		return false, nil
	}
	return true, a.save()
}

// failed drops the peer where an error says that trying again makes no sense.
func (r *Resource) failed(ctx context.Context, s *session, err error) error {
	if errors.Is(err, errDropped) {
		return r.dropPeer(ctx, s, err.Error())
	}
	return err
}

// tried ends a tentative connection. The side that tried is StandAlone again, the other goes on waiting.
func (r *Resource) tried(s *session, d state.Decision) error {
	r.mu.Lock()
	mine := s.peer.try
	s.peer.try = false
	r.mu.Unlock()
	if !mine {
		return errors.New(d.Text)
	}
	r.standAlone(s.peer)
	return fmt.Errorf("%w: %s", errDropped, d.Text)
}

// dropPeer ends a session for good, for a reason that both sides find on their own. It waits, bounded, until the other side says that
// it has found it too: an end of the link that overtakes our state would leave the peer waiting for us.
func (r *Resource) dropPeer(ctx context.Context, s *session, reason string) error {
	r.log.Error(reason, "peer", s.peer.name)
	defer r.standAlone(s.peer) // last: it ends the link
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	s.goAway()
	for {
		m, err := s.link.Recv(ctx, frame.Control)
		if err != nil {
			break // gone already, or too slow
		}
		if st, ok := m.(*frame.State); ok && st.Flags&frame.FlagGoingAway != 0 {
			break
		}
	}
	return fmt.Errorf("%w: %s", errDropped, strings.TrimPrefix(reason, errDropped.Error()+": "))
}

// explain is what a handshake found, for people: the rule, the verdict, what goes over the link and what is lost.
func explain(d state.Decision, mine, theirs *frame.State) []string {
	lines := append([]string(nil), d.Explain...)
	verdict := d.Action.String()
	if d.DryRun {
		verdict = d.Would.String() + " (tried only, nothing was done)"
	}
	lines = append(lines, "verdict: "+verdict)
	if d.Discards.Self || d.Discards.Peer {
		lines = append(lines, "sent: "+amount(d.Full, d.Sends))
	}
	switch {
	case d.Discards.Self:
		lines = append(lines, "discarded here: "+loss(d.Discards, mine.Written))
	case d.Discards.Peer:
		lines = append(lines, "discarded at the peer: "+loss(d.Discards, theirs.Written))
	}
	if d.Action == state.SplitBrain {
		lines = append(lines, "changed here: "+loss(state.Discard{Blocks: changed(mine)}, mine.Written),
			"changed at the peer: "+loss(state.Discard{Blocks: changed(theirs)}, theirs.Written))
	}
	return lines
}

func changed(s *frame.State) (blocks uint64) {
	for _, v := range s.Volumes {
		blocks += v.OOS
	}
	return blocks
}

func amount(full bool, blocks uint64) string {
	if full {
		return "everything (a full sync)"
	}
	return fmt.Sprintf("at most %d blocks of 4 KiB, %d bytes", blocks, blocks*block.Size)
}

func loss(d state.Discard, written int64) string {
	text := amount(d.All, d.Blocks)
	if d.Blocks == 0 && !d.All {
		return "nothing"
	}
	if written == 0 {
		return text + "; last write not known"
	}
	return text + "; last write " + time.Unix(0, written).UTC().Format(time.RFC3339)
}
