package wan

import (
	"fmt"
	"slices"
	"time"
)

// Which connection is the session? The arbiter, the node whose name sorts first, decides alone and numbers its
// decisions. The other side takes the highest number it has heard of from this instance of the arbiter.
//
// The arbiter holds a session and a new connection with the same peer has proved itself:
//
//	the peer was restarted (another instance)                → the new one
//	the peer says it holds the session, alive                → the old one
//	the peer knows of the session and says it is gone        → the new one
//	the peer does not know of it: its Go is still under way  → the old one, while it is young; else the new one

// verdict decides for the arbiter; nil means that the new connection takes over. cur is not nil.
func verdict(cur *Session, self, peerInstance instanceID, h held, young bool) error {
	known := h.arbiter == self && h.serial >= cur.serial
	switch {
	case cur.Err() != nil, cur.peerInstance != peerInstance:
		return nil
	case known && h.alive && h.serial == cur.serial:
		return fmt.Errorf("%w: the peer holds it", errDuplicate)
	case known:
		return nil
	case young:
		return fmt.Errorf("%w: it is just being made", errDuplicate)
	}
	return nil
}

// decide makes s the session with p if this node, the arbiter, finds for it, and gives it its number.
func (e *Endpoint) decide(sock *socket, p *peer, s *Session, h held) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.admissible(sock, p); err != nil {
		return err
	}
	if p.current != nil {
		young := time.Since(p.current.since) < e.cfg.Timing.Timeout
		if err := verdict(p.current, e.instance, s.peerInstance, h, young); err != nil {
			return err
		}
	}
	p.serial++
	s.serial = p.serial
	e.install(sock, p, s)
	return nil
}

// obey makes s the session with p, as the arbiter has decided under that number, unless a later decision came first.
func (e *Endpoint) obey(sock *socket, p *peer, s *Session, serial uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.admissible(sock, p); err != nil {
		return err
	}
	if p.heardOf == s.peerInstance && serial <= p.serial {
		return fmt.Errorf("%w: the arbiter has decided again since", errDuplicate)
	}
	p.heardOf, p.serial = s.peerInstance, serial
	s.serial = serial
	e.install(sock, p, s)
	return nil
}

// held is what this side, which is not the arbiter, tells the arbiter.
func (e *Endpoint) held(p *peer) held {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.arbiter {
		return held{}
	}
	alive := p.current != nil && p.current.Err() == nil && p.current.serial == p.serial
	return held{arbiter: p.heardOf, serial: p.serial, alive: alive}
}

func (e *Endpoint) admissible(sock *socket, p *peer) error {
	if sock.ctx.Err() != nil {
		return ErrClosed
	}
	if !p.wanted {
		return refuse(ErrNotWanted, "disconnected by the administrator", "%s is not to be connected", p.name)
	}
	return nil
}

// install puts s in the place of whatever session there was, under mu. From here on the session's owner is its watch
// goroutine, which the socket waits for.
func (e *Endpoint) install(sock *socket, p *peer, s *Session) {
	if old := p.current; old != nil {
		old.fail(ErrReplaced)
		e.ready = slices.DeleteFunc(e.ready, func(r *Session) bool { return r == old })
	}
	p.current, p.lastErr = s, nil
	s.since = time.Now()
	e.ready = append(e.ready, s)
	e.signal()
	p.wake()
	sock.running.Go(func() {
		e.log.Info("link is up", "peer", p.name, "addr", s.RemoteAddr().String(), "dialled", s.dialled)
		e.observe(Event{Kind: EventConnected, Peer: p.name, Addr: s.RemoteAddr().String()})
		s.watch()
		e.ended(p, s)
	})
}

// ended notes the end of a session. If nobody took its place, it is dialled again: at once if it had lasted.
func (e *Endpoint) ended(p *peer, s *Session) {
	err := s.Err()
	now := time.Now()
	e.mu.Lock()
	e.ready = slices.DeleteFunc(e.ready, func(r *Session) bool { return r == s })
	if p.current == s {
		p.current, p.lastErr = nil, err
		p.backoff.ended(now, now.Sub(s.since))
		p.wake()
	}
	e.mu.Unlock()
	e.log.Info("link is down", "peer", p.name, "addr", s.RemoteAddr().String(), "err", err)
	e.observe(Event{Kind: EventEnded, Peer: p.name, Addr: s.RemoteAddr().String(), Err: err})
}
