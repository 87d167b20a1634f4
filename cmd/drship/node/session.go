package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"drship/internal/state"
	"drship/receiver"
	"drship/sender"
	"drship/wan"
	"drship/wan/frame"
)

var (
	errDisconnected = errors.New("disconnected by the administrator")
	errRenegotiate  = errors.New("a new handshake is needed")
	errGoneAway     = errors.New("the peer disconnected in order")
)

// maxRequests bounds what a peer may ask for at the same time.
const maxRequests = 4

// session is one established link to a peer and what runs over it.
type session struct {
	r    *Resource
	peer *peer
	link *wan.Session

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when everything that the session started has ended
	work   sync.WaitGroup

	// Guarded by Resource.mu.
	ready    bool // the handshake is done
	leaving  bool // disconnect was asked for here
	frozen   bool // I/O was frozen as the stream ended
	targeted bool // the peer ships to this side, or is about to
	turn     int  // of the resource, when both sides agreed on who has what
	repl     state.Conn
	serial   uint64
	source   *source                     // nil unless this side ships
	run      *receiver.Run               // nil unless this side is the target
	news     *frame.Peers                // source: what the target was told last of the other peers
	adopt    []state.IDs                 // target: what to take over when the resync is done
	shares   []share                     // target: by volume, what the stream is to it
	given    []state.Disk                // target: what the source's data counts as, by volume; ours is no better
	total    uint64                      // target: blocks to come
	before   uint64                      // target: bytes of resyncs dealt with when this one started
	since    time.Time                   // target: when the resync started
	verify   *verifyRun                  // nil unless an online verify runs from this side
	verified *verifiedBy                 // nil unless the peer verifies this side
	service  *service                    // nil unless this side serves the peer's clients
	fetch    *sender.Remote              // source: reads from the target what the disk here lacks
	reads    *sender.Server              // target: carries such reads out; nil before the first
	requests map[uint64]chan frame.Reply // ours, not answered
	lastReq  uint64

	line  lineMeter     // has its own lock
	asked chan struct{} // one token for each request of the peer in work
}

// source is a stream and the goroutine that runs it.
type source struct {
	stream *sender.Stream
	cancel context.CancelFunc
	done   chan struct{}
}

// serve is the life of one session.
func (r *Resource) serve(ctx context.Context, link *wan.Session) {
	s := r.newSession(ctx, link)
	if s == nil {
		link.Close(errDisconnected)
		return
	}
	err := r.handshake(s)
	if err == nil {
		s.work.Go(func() { s.end(s.controlLoop()) })
		s.work.Go(func() { s.end(s.dataLoop()) })
		s.work.Go(func() { r.seekService(s) })
		<-s.ctx.Done()
		err = context.Cause(s.ctx)
	}
	s.end(err)
	r.endSession(s, err)
}

// newSession makes the session the peer's own, once an older one is out of the way. It returns nil where the peer is not
// wanted.
func (r *Resource) newSession(ctx context.Context, link *wan.Session) *session {
	for {
		r.mu.Lock()
		p := r.peerLocked(link.Peer())
		if p == nil || !p.wanted || ctx.Err() != nil {
			r.mu.Unlock()
			return nil
		}
		old := p.session
		if old == nil {
			s := &session{r: r, peer: p, link: link, done: make(chan struct{}), repl: state.WFReportParams,
				requests: map[uint64]chan frame.Reply{}, asked: make(chan struct{}, maxRequests)}
			s.ctx, s.cancel = context.WithCancelCause(ctx)
			p.session, p.conn, p.lastErr = s, state.WFReportParams, ""
			r.passLocked(p, state.WFReportParams)
			r.mu.Unlock()
			s.work.Go(s.watchLink)
			link.SetCeiling(r.lineRate(s))
			r.node.changed()
			return s
		}
		r.mu.Unlock()
		old.end(wan.ErrReplaced)
		<-old.done
	}
}

// watchLink ends the session when its link does.
func (s *session) watchLink() {
	select {
	case <-s.link.Done():
		s.end(s.link.Err())
	case <-s.ctx.Done():
	}
}

// end ends the session; the first reason counts.
func (s *session) end(reason error) {
	if reason == nil {
		reason = errGoneAway
	}
	s.cancel(reason)
	s.link.Close(context.Cause(s.ctx))
}

// comesBack reports whether a session ended only so that another one follows at once, on the word of either side.
func comesBack(reason error) bool {
	return errors.Is(reason, errRenegotiate) || errors.Is(reason, wan.ErrReplaced) || strings.Contains(reason.Error(), errRenegotiate.Error())
}

// endSession waits for what the session started and puts the peer out of sight.
func (r *Resource) endSession(s *session, reason error) {
	s.closeFetch()
	s.work.Wait()
	s.closeFetch() // what was opened meanwhile
	r.mu.Lock()
	r.lostKeeperLocked(s)
	if comesBack(reason) {
		r.parted = time.Now()
	}
	r.mu.Unlock()
	s.stopSource()
	s.stopRun()
	r.endService(s)
	r.mu.Lock()
	p := s.peer
	r.remoteLostLocked(s, reason)
	wasReady := s.ready
	targeted := s.targeted
	p.session = nil
	p.lastErr = reason.Error()
	r.passLocked(p, ending(reason))
	if p.wanted {
		r.passLocked(p, state.Unconnected)
		p.conn = state.WFConnection
	} else {
		p.conn = state.StandAlone
	}
	for _, ch := range s.requests {
		close(ch)
	}
	s.requests = nil
	err := r.lostLocked(s, reason)
	r.mu.Unlock()
	close(s.done)
	r.log.Info("session ended", "peer", p.name, "reason", reason)
	if wasReady && !comesBack(reason) {
		r.helperSoon(p, "disconnected")
	}
	if err != nil {
		r.log.Error("new generation is not durable", "err", err)
	}
	r.broadcastState()
	if targeted {
		r.sourceGone()
	}
	r.node.changed()
}

// controlLoop reads the control lane until the session ends.
func (s *session) controlLoop() error {
	for {
		m, err := s.link.Recv(s.ctx, frame.Control)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *frame.State:
			err = s.peerState(m)
		case *frame.Ack, *frame.Resend, *frame.ChunkAck, *frame.QueryReply, *frame.ResyncDone, *frame.Offer:
			if src := s.currentSource(); src != nil {
				err = src.stream.Handle(s.ctx, m)
			}
		case *frame.VerifyReply:
			err = s.verifyAnswered(m)
		case *frame.Request:
			err = s.peerAsks(m)
		case *frame.Reply:
			s.answered(m)
		default:
			err = fmt.Errorf("%w: message %T has no place behind the handshake", wan.ErrProtocol, m)
		}
		if err != nil {
			return err
		}
	}
}

// dataLoop reads the data lane until the session ends. What comes before a StreamStart belongs to a stream that this side
// has given up.
func (s *session) dataLoop() error {
	for {
		m, err := s.link.Recv(s.ctx, frame.Data)
		if err != nil {
			return err
		}
		if start, ok := m.(*frame.StreamStart); ok {
			if err := s.r.becomeTarget(s, start); err != nil {
				return err
			}
		}
		if ok, err := s.remoteMessage(m); err != nil {
			return err
		} else if ok {
			continue
		}
		if _, ok := m.(*frame.Verify); ok {
			if err := s.r.becomeVerified(s); err != nil {
				return err
			}
		}
		run := s.currentRun()
		if run == nil {
			continue
		}
		if err := run.Handle(s.ctx, m); err != nil {
			return fmt.Errorf("replicate from %s: %w", s.peer.name, err)
		}
	}
}

func (s *session) currentSource() *source {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.source
}

func (s *session) currentRun() *receiver.Run {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.run
}

// peerState takes over what the peer says of itself.
func (s *session) peerState(m *frame.State) error {
	s.r.align(m)
	s.r.mu.Lock()
	followed := s.peer.view.Flags&frame.FlagFollows != 0
	s.peer.view = *m
	s.r.noteKeeperLocked(s.peer)
	src := s.source
	paused := s.r.paused || s.r.waits
	err := s.r.confirmJournalLocked(s)
	if s.service != nil && state.Role(m.Role) != state.Primary {
		s.work.Go(func() { s.r.endService(s) })
	}
	if followed && s.r.settlesAnewLocked(s) {
		err = errors.Join(err, errRenegotiate)
	}
	if m.Flags&frame.FlagGoingAway != 0 {
		err = errors.Join(err, s.r.leftLocked(s.peer))
	}
	s.r.mu.Unlock()
	if err != nil {
		return err
	}
	if src != nil {
		src.stream.PauseResync(paused || m.Flags&(frame.FlagPausedByUser|frame.FlagPausedByDependency) != 0)
	}
	s.r.node.changed()
	if m.Flags&frame.FlagGoingAway != 0 {
		return errGoneAway
	}
	return nil
}

// sendState tells the peer what changed here.
func (s *session) sendState(flags uint32) error {
	s.r.mu.Lock()
	m := s.r.stateLocked(s)
	m.Flags |= flags
	s.r.mu.Unlock()
	if err := s.link.Send(s.ctx, m); err != nil {
		return fmt.Errorf("send state to %s: %w", s.peer.name, err)
	}
	return nil
}

// goAway tells the peer that the end of the session is no failure. It is a courtesy: the link may be gone already.
func (s *session) goAway() {
	if err := s.sendState(frame.FlagGoingAway); err != nil {
		s.r.log.Debug("no good-bye", "err", err)
	}
}

// broadcastState tells every connected peer what changed here.
func (r *Resource) broadcastState() {
	r.mu.Lock()
	var to []*session
	for _, p := range r.peers {
		if p.session != nil && p.session.ready {
			to = append(to, p.session)
		}
	}
	r.mu.Unlock()
	for _, s := range to {
		if err := s.sendState(0); err != nil {
			s.end(err)
		}
	}
	r.node.changed()
}

// inUse reports whether the handshake is done.
func (s *session) inUse() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.ready
}
