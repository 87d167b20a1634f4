package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/state"
	"drship/wan/frame"
)

const (
	requestTimeout = 30 * time.Second
	drainTimeout   = 25 * time.Second // below requestTimeout: the answer must still come in time
)

// ask sends a request to the peer and waits for its answer.
func (s *session) ask(ctx context.Context, verb uint8, arg uint64) (frame.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s.r.mu.Lock()
	if s.requests == nil {
		s.r.mu.Unlock()
		return frame.Reply{}, fmt.Errorf("ask %s: session has ended", s.peer.name)
	}
	s.lastReq++
	id := s.lastReq
	ch := make(chan frame.Reply, 1)
	s.requests[id] = ch
	s.r.mu.Unlock()
	defer func() {
		s.r.mu.Lock()
		delete(s.requests, id)
		s.r.mu.Unlock()
	}()
	if err := s.link.Send(ctx, &frame.Request{ID: id, Verb: verb, Arg: arg}); err != nil {
		return frame.Reply{}, fmt.Errorf("ask %s: %w", s.peer.name, err)
	}
	select {
	case reply, ok := <-ch:
		if !ok {
			return frame.Reply{}, fmt.Errorf("ask %s: session has ended", s.peer.name)
		}
		return reply, nil
	case <-ctx.Done():
		return frame.Reply{}, fmt.Errorf("ask %s: %w", s.peer.name, ctx.Err())
	}
}

func (s *session) answered(m *frame.Reply) {
	s.r.mu.Lock()
	ch := s.requests[m.ID]
	delete(s.requests, m.ID)
	s.r.mu.Unlock()
	if ch != nil {
		ch <- *m
	}
}

// peerAsks serves one request of the peer beside the control loop. A peer that asks for more at once than it may is cut.
func (s *session) peerAsks(m *frame.Request) error {
	select {
	case s.asked <- struct{}{}:
	default:
		return fmt.Errorf("peer has more than %d requests open", maxRequests)
	}
	s.work.Go(func() {
		defer func() { <-s.asked }()
		reply := s.grant(m)
		reply.ID = m.ID
		if err := s.link.Send(s.ctx, &reply); err != nil {
			s.end(fmt.Errorf("answer %s: %w", s.peer.name, err))
		}
	})
	return nil
}

// grant decides a request of the peer.
func (s *session) grant(m *frame.Request) frame.Reply {
	ctx, cancel := context.WithTimeout(s.ctx, drainTimeout)
	defer cancel()
	switch m.Verb {
	case frame.RequestPrimary:
		return s.grantPrimary(ctx)
	case frame.RequestOutdate:
		return refusal(s.r.grantOutdate(s.peer))
	case frame.RequestSyncFromMe:
		return refusal(s.r.invalidate(ctx, false))
	case frame.RequestNewUUIDs:
		return s.r.grantNewUUIDs(ctx, m.Arg)
	case frame.RequestRoom:
		return s.r.grantRoom(m.Arg)
	case frame.RequestGrow:
		return s.r.grantGrow(ctx, m.Arg)
	case frame.RequestServe:
		return refusal(s.grantServe(ctx, m.Arg))
	case frame.RequestHome:
		return refusal(s.grantHome(ctx))
	case frame.RequestVerifyStart:
		return refusal(s.verifyAsked(ctx, m.Arg))
	case frame.RequestVerifyStop:
		s.verifyOver(m.Arg)
		return frame.Reply{}
	}
	return frame.Reply{Code: int32(state.SSNotSupported), Text: fmt.Sprintf("request %d is not known here", m.Verb)}
}

// grantPrimary lets the peer be Primary once it has all that this side has written.
func (s *session) grantPrimary(ctx context.Context) frame.Reply {
	s.r.mu.Lock()
	role, wanted, att, src := s.r.role, s.r.wanted, s.r.att, s.source
	other := s.r.otherPrimaryLocked(s.peer)
	s.r.mu.Unlock()
	switch {
	case role == state.Primary:
		return reply(state.Refused(state.SSTwoPrimaries, "%s is Primary; make it Secondary first", s.r.node.env.Node))
	case wanted:
		return reply(state.Refused(state.SSConcurrentChange, "%s is being promoted at the same time", s.r.node.env.Node))
	case other != "":
		return reply(state.Refused(state.SSTwoPrimaries, "%s is Primary, says %s; make it Secondary first", other, s.r.node.env.Node))
	case src == nil || att == nil:
		return frame.Reply{}
	}
	if !s.awaitDrained(ctx, att) {
		return reply(state.Refused(state.SSTransientState, "%s still has writes to send; try again, or disconnect first to go without them", s.r.node.env.Node))
	}
	return frame.Reply{}
}

// awaitDrained waits until the peer has applied everything; false where ctx ends before.
func (s *session) awaitDrained(ctx context.Context, a *attachment) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !a.group.Peer(s.peer.name).Drained() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func reply(f *state.Refusal) frame.Reply {
	if f == nil {
		return frame.Reply{}
	}
	return frame.Reply{Code: int32(f.Code), Text: f.Detail}
}

// refusalOf is what the peer refused with.
func refusalOf(m frame.Reply) *state.Refusal {
	return &state.Refusal{Code: state.Code(m.Code), Text: state.CodeText(state.Code(m.Code)), Detail: m.Text}
}

func refusal(err error) frame.Reply {
	if err == nil {
		return frame.Reply{}
	}
	if f, ok := errors.AsType[*state.Refusal](err); ok {
		return reply(f)
	}
	return frame.Reply{Code: int32(state.SSNotSupported), Text: err.Error()}
}
