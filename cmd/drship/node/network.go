package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/state"
	"drship/wan"
	"drship/wan/fec"
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
	steered *steering // peer-device-options of this peer alone; nil: as the resource
}

// inSight reports whether the peer's data is being kept equal with ours, or at least known. Called with mu held.
func (p *peer) inSight() bool { return p.session != nil && p.session.ready }

// network is what a resource has while it is connected or waits: an endpoint for each of its own addresses that peers are spoken to from, and the
// goroutines that serve sessions.
type network struct {
	endpoints map[string]*wan.Endpoint // by the name of the peer; several peers may share one
	cancel    context.CancelFunc
	done      sync.WaitGroup
}

// want starts to connect with a peer, or gives it up.
func (n *network) want(peer string, on bool) {
	if e := n.endpoints[peer]; e != nil {
		e.Want(peer, on)
	}
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
			n.want(p.name, true)
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

// openNetwork starts listening, and goroutines that take sessions as they come.
func (r *Resource) openNetwork() (*network, error) {
	n := &network{endpoints: map[string]*wan.Endpoint{}}
	var all []*wan.Endpoint
	for _, group := range byAddress(r.peers) {
		cfg, err := r.endpointConfig(group)
		if err != nil {
			return nil, err
		}
		e, err := wan.NewEndpoint(cfg)
		if err != nil {
			return nil, fmt.Errorf("open network of %s: %w", r.name, err)
		}
		all = append(all, e)
		for _, p := range group {
			n.endpoints[p.name] = e
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	for _, e := range all {
		n.done.Go(func() {
			if err := e.Run(ctx); err != nil && ctx.Err() == nil {
				r.log.Error("network stopped", "err", err)
				r.networkFailed(n, e, err)
			}
		})
		n.done.Go(func() { r.accept(ctx, n, e) })
	}
	if len(r.peers) > 1 {
		n.done.Go(func() { r.newsLoop(ctx) })
	}
	r.mu.Lock()
	r.net = n
	r.mu.Unlock()
	return n, nil
}

// byAddress puts peers together that are spoken to from the same address, in the order of the configuration.
func byAddress(peers []*peer) (groups [][]*peer) {
	at := map[string]int{}
	for _, p := range peers {
		local := p.cfg.Local.HostPort()
		i, ok := at[local]
		if !ok {
			i = len(groups)
			at[local] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

func (r *Resource) networkFailed(n *network, e *wan.Endpoint, err error) {
	r.mu.Lock()
	for _, p := range r.peers {
		if n.endpoints[p.name] == e {
			p.lastErr = err.Error()
		}
	}
	r.mu.Unlock()
	r.node.changed()
}

// endpointConfig is that of the endpoint for peers that are spoken to from one address. What one of them alone has for itself counts, else what the
// resource has.
func (r *Resource) endpointConfig(peers []*peer) (wan.Config, error) {
	net := r.cfg.Net
	if len(r.peers) > 1 && sameLink(peers) {
		net = peers[0].cfg.Net
	}
	c := wan.Config{
		Resource: r.name, Node: r.node.env.Node, Listen: r.host.Address.HostPort(),
		Timing:       wan.Timing{ConnectInt: net.ConnectInt, PingInt: net.PingInt, PingTimeout: net.PingTimeout, Timeout: net.Timeout},
		Logger:       r.log,
		ListenPacket: r.node.env.ListenPacket,
		Version:      r.node.env.WireVersion,
	}
	pins := map[string][]string{}
	for _, p := range peers {
		c.FEC = parityMode(c.FEC, p.cfg.WAN.FEC, len(c.Peers) == 0)
		c.MaxStripes = max(c.MaxStripes, p.cfg.WAN.MaxStripes)
		c.Peers = append(c.Peers, wan.Peer{Name: p.name, Addr: p.cfg.Remote.HostPort()})
		if fp := p.cfg.Host.Fingerprint; fp != "" {
			pins[p.name] = append(pins[p.name], fp)
		}
	}
	if peers[0].cfg.Local.Port != 0 {
		c.Listen = peers[0].cfg.Local.HostPort()
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

// sameLink reports whether all have the same timers and the same secret.
func sameLink(peers []*peer) bool {
	first := linkKey(peers[0].cfg.Net)
	return !slices.ContainsFunc(peers, func(p *peer) bool { return linkKey(p.cfg.Net) != first })
}

// linkKey is what an endpoint is told of the net section.
func linkKey(n config.Net) string {
	return fmt.Sprint(n.ConnectInt, n.PingInt, n.PingTimeout, n.Timeout, n.CramHMACAlg, n.SharedSecret, n.AllowUnauthenticated)
}

// accept serves sessions as they come, one at a time for each peer.
func (r *Resource) accept(ctx context.Context, n *network, e *wan.Endpoint) {
	for {
		link, err := e.Accept(ctx)
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
			r.net.want(p.name, false)
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

// parityMode adds what one peer's fec says to what the link does, which several peers may share: the most that any of them asks for.
func parityMode(so fec.Mode, word string, first bool) fec.Mode {
	m, known := map[string]fec.Mode{"on": fec.On, "off": fec.Off}[word]
	switch {
	case first:
		return m // auto, where it is neither
	case so == fec.On || known && m == fec.On:
		return fec.On
	case so == fec.Off && known:
		return fec.Off
	}
	return fec.Auto
}
