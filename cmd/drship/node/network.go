package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/state"
	"drship/wan"
	"drship/wan/frame"
)

// peer is one peer of a resource, connected or not. Its fields are guarded by Resource.mu.
type peer struct {
	name    string
	cfg     *config.Peer
	conn    state.Conn
	wanted  bool     // connect was asked for
	discard bool     // connect --discard-my-data, until a handshake has used it
	try     bool     // connect --tentative: say what would happen, then disconnect
	session *session // nil without a link
	view    frame.State
	lastErr string
	known   []state.Disk // by volume: what fencing or an orderly end says of its disks while it is out of sight; nil: nothing
	alarms  alarms
	stall   stall
	explain []string // what the last handshake decided, in words
	passed  []face.PassedConn
}

// inSight reports whether the peer's data is being kept equal with ours, or at least known. Called with mu held.
func (p *peer) inSight() bool { return p.session != nil && p.session.ready }

// network is the endpoint of a resource and the goroutines that serve its sessions.
type network struct {
	endpoint *wan.Endpoint
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

type connectOptions struct{ discard, tentative bool }

// connect starts networking with the named peers, all of them if none is named.
func (r *Resource) connect(ctx context.Context, names []string, o connectOptions) error {
	r.mu.Lock()
	n := r.net
	r.mu.Unlock()
	if n == nil {
		if len(r.peers) == 0 {
			return nil
		}
		var err error
		if n, err = r.openNetwork(); err != nil {
			return err
		}
	}
	strange := ""
	r.mu.Lock()
	for _, p := range r.peers {
		if !named(names, p.name) {
			continue
		}
		if r.att != nil && !r.att.keepsFor(p.name) {
			strange = p.name
			continue
		}
		p.discard, p.try = o.discard, o.tentative
		if p.session == nil {
			if p.conn == state.StandAlone {
				r.passLocked(p, state.Unconnected)
			}
			p.wanted, p.conn, p.lastErr = true, state.WFConnection, ""
			n.endpoint.Want(p.name, true)
		}
	}
	r.mu.Unlock()
	r.node.changed()
	if strange != "" {
		return &refused{exit: control.ExitRefused, text: "peer " + strange + " is new, or was forgotten, and has no bitmap here",
			hint: fmt.Sprintf("it gets one when the disks are attached: drship down %s, drship up %s", r.name, r.name)}
	}
	return nil
}

func named(names []string, name string) bool {
	if len(names) == 0 {
		return true
	}
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// openNetwork starts listening, and a goroutine that takes sessions as they come.
func (r *Resource) openNetwork() (*network, error) {
	cfg, err := r.endpointConfig()
	if err != nil {
		return nil, err
	}
	e, err := wan.NewEndpoint(cfg)
	if err != nil {
		return nil, fmt.Errorf("open network of %s: %w", r.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &network{endpoint: e, cancel: cancel}
	n.done.Go(func() {
		if err := e.Run(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("network stopped", "err", err)
			r.networkFailed(err)
		}
	})
	n.done.Go(func() { r.accept(ctx, n) })
	if len(r.peers) > 1 {
		n.done.Go(func() { r.newsLoop(ctx) })
	}
	r.mu.Lock()
	r.net = n
	r.mu.Unlock()
	return n, nil
}

func (r *Resource) networkFailed(err error) {
	r.mu.Lock()
	for _, p := range r.peers {
		p.lastErr = err.Error()
	}
	r.mu.Unlock()
	r.node.changed()
}

func (r *Resource) endpointConfig() (wan.Config, error) {
	net := r.cfg.Net
	c := wan.Config{
		Resource: r.name, Node: r.node.env.Node, Listen: r.host.Address.HostPort(),
		Timing:       wan.Timing{ConnectInt: net.ConnectInt, PingInt: net.PingInt, PingTimeout: net.PingTimeout, Timeout: net.Timeout},
		Logger:       r.log,
		ListenPacket: r.node.env.ListenPacket,
	}
	pins := map[string][]string{}
	for _, p := range r.peers {
		c.MaxStripes = max(c.MaxStripes, p.cfg.WAN.MaxStripes)
		c.Peers = append(c.Peers, wan.Peer{Name: p.name, Addr: p.cfg.Remote.HostPort()})
		if fp := p.cfg.Host.Fingerprint; fp != "" {
			pins[p.name] = append(pins[p.name], fp)
		}
	}
	if len(r.peers) > 0 && r.peers[0].cfg.Local.Port != 0 {
		c.Listen = r.peers[0].cfg.Local.HostPort()
	}
	t, err := r.node.trust.forLink(pins)
	if err != nil {
		return c, err
	}
	t.HMACAlg, t.Secret, t.AllowUnauthenticated = net.CramHMACAlg, net.SharedSecret, net.AllowUnauthenticated
	if t.Secret != "" && t.HMACAlg == "" {
		t.HMACAlg = "sha256"
	}
	if t.HMACAlg == "" {
		t.Secret = ""
	}
	c.Trust = t
	if t.AllowUnauthenticated {
		r.log.Warn("allow-unauthenticated is on: whoever reaches the port may read and change the data")
	}
	return c, nil
}

// accept serves sessions as they come, one at a time for each peer.
func (r *Resource) accept(ctx context.Context, n *network) {
	for {
		link, err := n.endpoint.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, wan.ErrClosed) {
				r.log.Error("no more sessions", "err", err)
			}
			return
		}
		n.done.Go(func() { r.serve(ctx, link) })
	}
}

// disconnect ends networking with the named peers and waits for their sessions.
func (r *Resource) disconnect(names []string) {
	r.mu.Lock()
	var ending []*session
	for _, p := range r.peers {
		if !named(names, p.name) {
			continue
		}
		p.wanted, p.conn = false, state.StandAlone
		if p.session != nil {
			p.session.leaving = true
			ending = append(ending, p.session)
		} else if r.net != nil {
			r.net.endpoint.Want(p.name, false)
		}
	}
	r.mu.Unlock()
	for _, s := range ending {
		if s.inUse() {
			r.leaveInOrder(s)
			s.goAway()
		}
		r.standAlone(s.peer)
		s.end(errDisconnected)
		<-s.done
	}
	r.node.changed()
}

// closeNetwork stops listening and waits for everything that the network started.
func (r *Resource) closeNetwork() {
	r.mu.Lock()
	n := r.net
	r.net = nil
	r.mu.Unlock()
	if n != nil {
		n.cancel()
		n.done.Wait()
	}
}

// renegotiate ends the sessions with the named peers so that a new handshake follows at once: identifiers or disk states
// changed in a way that decides anew who is source.
func (r *Resource) renegotiate(names []string) {
	r.mu.Lock()
	var ending []*session
	for _, p := range r.peers {
		if named(names, p.name) && p.session != nil {
			ending = append(ending, p.session)
		}
	}
	r.mu.Unlock()
	for _, s := range ending {
		s.end(errRenegotiate)
		<-s.done
	}
}

// waitConn returns when ok holds for every named peer.
func (r *Resource) waitPeers(ctx context.Context, names []string, ok func(*peer) bool) error {
	updates, stop := r.node.watchers.subscribe()
	defer stop()
	for {
		if r.peersAre(names, ok) {
			return nil
		}
		select {
		case <-updates:
		case <-time.After(time.Second): // marks move without a notice
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *Resource) peersAre(names []string, ok func(*peer) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if named(names, p.name) && !ok(p) {
			return false
		}
	}
	return true
}
