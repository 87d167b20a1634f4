package node

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/handler"
	"drship/wan/frame"
)

const (
	// helperLimit bounds one run of a handler; what still runs then is killed.
	helperLimit = 2 * time.Minute
	// maxHelpers bounds the handlers of a node that run without anybody waiting for them.
	maxHelpers = 16
	// noHandler is the answer of an event for which no handler is set, or whose handler gave none.
	noHandler = -1
)

// helpers runs the handlers of a node.
type helpers struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{} // one token for each run in the background

	seq atomic.Uint64 // runs begun

	mu     sync.Mutex // guards closed, and work against it
	closed bool
	work   sync.WaitGroup
}

func newHelpers() *helpers {
	h := &helpers{slots: make(chan struct{}, maxHelpers)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// close kills what runs and waits for it.
func (h *helpers) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.work.Wait()
}

// goDo runs fn in a goroutine that close waits for; false once the node stops.
func (h *helpers) goDo(fn func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Go(fn)
	return true
}

// helper runs the handler of an event and waits for it. It returns the handler's exit code, noHandler where there is none, or
// where it gave no answer. When ctx ends it waits no longer; the handler itself goes on within its limit, so that a link that breaks
// does not leave half a snapshot behind. p is nil for an event that is not about a peer. More variables go into extra. Called
// without Resource.mu.
func (r *Resource) helper(ctx context.Context, name string, p *peer, extra ...string) int {
	h := r.node.helpers
	answer := make(chan int, 1)
	if !r.hasHandler(name) || !h.goDo(func() { answer <- r.runHelper(name, p, extra) }) {
		return noHandler
	}
	select {
	case code := <-answer:
		return code
	case <-ctx.Done():
		return noHandler
	}
}

// helperSoon runs the handlers of events in the background, one after the other.
func (r *Resource) helperSoon(p *peer, names ...string) { r.helperSoonWith(p, nil, names...) }

// helperSoonWith is helperSoon with more variables.
func (r *Resource) helperSoonWith(p *peer, extra []string, names ...string) {
	h := r.node.helpers
	select {
	case h.slots <- struct{}{}:
	default:
		r.log.Error("too many handlers run; these events get none", "handlers", names, "running", maxHelpers)
		return
	}
	started := h.goDo(func() {
		defer func() { <-h.slots }()
		for _, name := range names {
			if r.hasHandler(name) {
				r.runHelper(name, p, extra)
			}
		}
	})
	if !started {
		<-h.slots
	}
}

// oldUserland is an exit code of before-resync-source that DRBD ignores.
const oldUserland = 3

// beforeResync runs the handler that comes before a resync, and waits for it: a snapshot is taken before anything is
// overwritten. A handler that fails has an administrator look at it first.
func (r *Resource) beforeResync(ctx context.Context, s *session, m *frame.StreamStart, name string) error {
	if m.Mode != frame.ModeResync {
		return nil
	}
	code := r.helper(ctx, name, s.peer)
	if code <= 0 || name == "before-resync-source" && code == oldUserland {
		return nil
	}
	r.standAlone(s.peer)
	return fmt.Errorf("%w: the %s handler ended with exit code %d", errDropped, name, code)
}

func (r *Resource) peerNamed(name string) *peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peerLocked(name)
}

func (r *Resource) hasHandler(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Handlers[name] != ""
}

func (r *Resource) runHelper(name string, p *peer, extra []string) int {
	h := r.node.helpers
	r.mu.Lock()
	c := handler.Call{Name: name, Line: r.cfg.Handlers[name], Env: append(r.helperEnvLocked(p), extra...), Limit: helperLimit}
	run := face.Helper{Seq: h.seq.Add(1), Name: name, Peer: -1, Volume: -1}
	if p != nil {
		run.Peer = p.cfg.Host.NodeID
	}
	r.mu.Unlock()
	r.log.Info("helper command", "handler", c.Name, "line", c.Line)
	r.showHelper(run)
	res, err := handler.Run(h.ctx, c)
	for _, line := range res.Output {
		r.log.Info("helper output", "handler", c.Name, "text", line)
	}
	run.Done, run.Status = true, res.Code
	r.showHelper(run)
	if err != nil {
		r.log.Error("handler gave no answer", "handler", c.Name, "err", err)
		return noHandler
	}
	r.log.Info("helper command ended", "handler", c.Name, "exit", res.Code)
	return res.Code
}

func (r *Resource) showHelper(run face.Helper) {
	r.mu.Lock()
	if run.Seq >= r.lastHelper.Seq {
		r.lastHelper = run
	}
	r.mu.Unlock()
	r.node.changed()
}

// helperEnvLocked is what DRBD's helper and drbdadm tell a handler. Called with mu held.
func (r *Resource) helperEnvLocked(p *peer) []string {
	var minors, volumes, disks []string
	for _, v := range r.host.Volumes {
		minors = append(minors, strconv.Itoa(v.Minor))
		volumes = append(volumes, strconv.Itoa(int(v.Number)))
		disks = append(disks, v.Disk)
	}
	var peers []string
	env := []string{
		"DRBD_RESOURCE=" + r.name,
		"DRBD_CONF=" + r.node.env.ConfigFile,
		"DRBD_MINOR=" + strings.Join(minors, " "),
		"DRBD_VOLUME=" + strings.Join(volumes, " "),
		"DRBD_LL_DISK=" + strings.Join(disks, " "),
		"DRBD_BACKING_DEV=" + strings.Join(disks, " "),
		fmt.Sprintf("DRBD_MY_NODE_ID=%d", r.host.NodeID),
		fmt.Sprintf("DRBD_NODE_ID_%d=%s", r.host.NodeID, r.node.env.Node),
	}
	for _, o := range r.peers {
		peers = append(peers, o.name)
		env = append(env, fmt.Sprintf("DRBD_NODE_ID_%d=%s", o.cfg.Host.NodeID, o.name))
	}
	env = append(env, "DRBD_PEERS="+strings.Join(peers, " "))
	if p == nil && len(r.peers) == 1 {
		p = r.peers[0]
	}
	if p == nil {
		return env
	}
	return append(env,
		"DRBD_PEER="+p.name,
		fmt.Sprintf("DRBD_PEER_NODE_ID=%d", p.cfg.Host.NodeID),
		"DRBD_PEER_AF="+family(p.cfg.Remote), "DRBD_PEER_ADDRESS="+p.cfg.Remote.Host,
		"DRBD_MY_AF="+family(p.cfg.Local), "DRBD_MY_ADDRESS="+p.cfg.Local.Host,
		"DRBD_CSTATE="+r.cstateLocked(p))
}

func (r *Resource) cstateLocked(p *peer) string {
	if p.inSight() {
		return r.replLocked(p).String()
	}
	return p.conn.String()
}

func family(a config.Address) string {
	if a.Family == "" {
		return "ipv4"
	}
	return a.Family
}
