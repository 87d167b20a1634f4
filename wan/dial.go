package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	firstPause  = 100 * time.Millisecond // before the second attempt; doubles up to connect-int
	authStretch = 6                      // times connect-int: the longest pause while authentication fails
	steady      = time.Second            // a session that lived this long was no part of a row of failures
)

// backoff paces attempts. The Endpoint's mu guards it where it belongs to a peer.
type backoff struct {
	limit     time.Duration // connect-int
	fails     int           // in a row
	authFails int           // of these, the last ones that failed to authenticate
	notBefore time.Time     // the next attempt
}

func newBackoff(limit time.Duration) backoff { return backoff{limit: limit} }

func (b *backoff) reset() { *b = backoff{limit: b.limit} }

// failed sets the next attempt after one that failed at now. Attempts that fail to authenticate will not do better
// soon and start from the longest pause.
func (b *backoff) failed(now time.Time, auth bool) {
	pause := b.limit
	if b.fails < 30 {
		pause = min(b.limit, firstPause<<b.fails)
	}
	b.fails++
	if auth {
		b.authFails++
		pause = b.limit * time.Duration(min(b.authFails, authStretch))
	} else {
		b.authFails = 0
	}
	jitter := 0.75 + rand.Float64()/2
	b.notBefore = now.Add(time.Duration(float64(pause) * jitter))
}

// ended sets the next attempt after a session that had lived that long.
func (b *backoff) ended(now time.Time, lived time.Duration) {
	if lived >= steady {
		b.reset()
	}
	b.failed(now, false)
}

// dialLoop keeps a peer connected while it is wanted, if this side has to dial.
func (s *socket) dialLoop(p *peer) {
	for s.waitToDial(p) {
		conn, err := s.dial(p)
		if err != nil {
			s.dialFailed(p, conn, err)
		}
	}
}

// waitToDial returns true when p is wanted, not connected, and its pause is over.
func (s *socket) waitToDial(p *peer) bool {
	for {
		s.e.mu.Lock()
		due, pause := p.wanted && p.current == nil, time.Until(p.backoff.notBefore)
		s.e.mu.Unlock()
		if s.ctx.Err() != nil {
			return false
		}
		if due && pause <= 0 {
			return true
		}
		var timer *time.Timer
		var over <-chan time.Time
		if due {
			timer = time.NewTimer(pause)
			over = timer.C
		}
		select {
		case <-s.ctx.Done():
		case <-p.changed:
		case <-over:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// dial makes one attempt, handshake included, bounded by the timeout. The address is where it went.
func (s *socket) dial(p *peer) (addr string, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.e.cfg.Timing.Timeout)
	defer cancel()
	to, err := s.resolve(ctx, p)
	if err != nil {
		return p.addr, err
	}
	conn, err := s.tr.Dial(ctx, to, s.e.cfg.Trust.dialConfig(p.name), s.e.quicConfig(false))
	if err != nil {
		return to.String(), fromQUIC(err)
	}
	h := &handshake{e: s.e, sock: s, conn: conn, peer: p, dialled: true}
	if err := h.call(ctx, s); err != nil {
		return to.String(), s.abort(ctx, conn, err)
	}
	return to.String(), nil
}

func (s *socket) dialFailed(p *peer, addr string, err error) {
	if s.ctx.Err() != nil {
		return
	}
	err = fmt.Errorf("connect to %s at %s: %w", p.name, addr, err)
	duplicate := errors.Is(err, errDuplicate)
	s.e.mu.Lock()
	p.backoff.failed(time.Now(), errors.Is(err, ErrAuth))
	news := !duplicate && p.current == nil && (p.lastErr == nil || p.lastErr.Error() != err.Error())
	if news {
		p.lastErr = err
	}
	s.e.mu.Unlock()
	if duplicate {
		return
	}
	if news { // a peer that is down for a day is one line, not thousands
		s.e.log.Info("link cannot connect, trying again", "peer", p.name, "err", err)
	}
	s.e.observe(Event{Kind: EventDialFailed, Peer: p.name, Addr: addr, Err: err})
}

// resolve looks the peer's address up and takes the addresses that it yields in turn, attempt by attempt, of those
// that the socket can reach.
func (s *socket) resolve(ctx context.Context, p *peer) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(p.addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", p.addr, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("address %q: the port is not a number in 1…65535", p.addr)
	}
	var found []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{ip}
	} else if found, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	usable := found[:0]
	for _, ip := range found {
		if ip = ip.Unmap(); reachable(s.tr.Conn.LocalAddr(), ip) {
			usable = append(usable, ip)
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("resolve %s: %w of the kind that %s can reach", host, errNoAddress, s.tr.Conn.LocalAddr())
	}
	s.e.mu.Lock()
	turn := p.backoff.fails
	s.e.mu.Unlock()
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(usable[turn%len(usable)], uint16(port))), nil
}

// reachable says whether a socket at the local address can send to ip: one bound to an IPv4 address cannot send to
// IPv6, and the other way round.
func reachable(local net.Addr, ip netip.Addr) bool {
	udp, ok := local.(*net.UDPAddr)
	if !ok || udp.IP == nil || udp.IP.To4() == nil && udp.IP.IsUnspecified() {
		return true
	}
	return (udp.IP.To4() != nil) == ip.Is4()
}
