// Package node is one node: its resources, and the wiring of both halves to the store, the link, the exports and the
// control socket.
//
//	node.go      the node: start, reload, stop
//	resource.go  one resource: what it holds, up and down, attach and detach
//	setup.go     what runs and what the configuration asks for; adjust.go leads from one to the other, options.go changes it for now
//	meta.go      what a resource remembers durably, and its generation identifiers
//	network.go   the endpoint and the sessions of a resource
//	session.go   one session: the loops that read its lanes
//	handshake.go who is source, who is target
//	source.go    the source side of a session
//	packing.go   how the configuration wants batches packed
//	target.go    the target side of a session
//	several.go   more than one peer: who ships, who leaves whom alone; hearsay.go what nodes tell each other of third ones
//	forget.go    a peer that will not come back
//	splitbrain.go what happens when the handshake finds more than one truth
//	fence.go     a peer out of sight: fence-peer, frozen I/O, outdated data
//	iofail.go    a backing disk that fails
//	front.go     where clients' requests go: the disks here, or a peer
//	partial.go   a volume that loses its disk while the resource goes on; fetch.go what a peer reads for it
//	invalidate.go the data of a Primary is given up under its clients
//	remote.go    a Primary without a good disk
//	served.go    what its peer does for it
//	startup.go   become-primary-on
//	alarm.go     limits that call handlers: lag, silence
//	helper.go    handlers: the administrator's shell lines for events
//	explain.go   what a handshake found, for people
//	role.go      promotion and demotion
//	verify.go    online verify from this side: order, run, report
//	verified.go  the side that is compared; repair
//	schedule.go  what runs by itself, by the clock
//	verbs.go     what the control socket asks for
//	status.go    snapshots for status, proc and events
//	exports.go   volumes as NBD exports
//	create.go    create-md; adopt.go takes over what DRBD left on the disks
//	journalexport.go the journal as a trace
//	metadata.go  verbs on the metadata of a resource that is down; gi.go its identifiers
//	procfile.go  the file that stands for /proc/drbd
//
// Locks, outermost first: Resource.ops (one change at a time: verbs, handshakes, changes of direction), Resource.mu (the
// state itself; metadata is written under it, so that memory and disk never tell different things).
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/disk"
	"drship/internal/nbd"
	"drship/journal"
)

// Env is what a node runs in. The seams are nil for the real world; a simulation fills them.
type Env struct {
	ConfigFile string
	StateDir   string
	RunDir     string
	Node       string
	Logger     *slog.Logger
	Reload     <-chan struct{}     // each value asks to read the configuration again
	Ready      func()              // called once, when the node serves
	Sized      func(resources int) // called where not nil whenever the configuration was read: what it asks this node to run
	RenderProc RenderProc          // what <run-dir>/proc-drbd holds; nil: the file is not kept

	Now          func() time.Time // the clock on the wall: it may be set while the node runs
	AheadDwell   time.Duration    // 0: the product's; how long a peer stays Behind at least
	LoadConfig   func() (*config.Config, error)
	FS           vfs.FS
	Store        func(*journal.Options) // changes how a store is opened
	WireVersion  uint8                  // that is spoken
	OpenDisk     func(path string) (disk.Disk, error)
	ListenPacket func(ctx context.Context, addr string) (net.PacketConn, error)
}

// load reads the configuration as it is run.
func (e *Env) load() (*config.Config, error) {
	cfg, err := e.LoadConfig()
	if err != nil {
		return nil, err
	}
	return cfg.Unstacked(), nil
}

// Node is a running node.
type Node struct {
	env      Env
	log      *slog.Logger
	trust    trust
	exports  *exports
	helpers  *helpers
	watchers watchers
	turns    chan struct{} // a resync began or ended: see resyncTurns

	mu        sync.Mutex // guards what follows
	config    *config.Config
	resources []*Resource // in the order of the configuration
}

// New reads the configuration and the node's identity. Nothing runs yet.
func New(env Env) (*Node, error) {
	if env.LoadConfig == nil {
		env.LoadConfig = func() (*config.Config, error) { return config.Load(env.ConfigFile) }
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.OpenDisk == nil {
		env.OpenDisk = func(path string) (disk.Disk, error) { return disk.Open(path, disk.Options{}) }
	}
	cfg, err := env.load()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(env.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	n := &Node{env: env, log: env.Logger, config: cfg, turns: make(chan struct{}, 1)}
	if n.trust, err = loadTrust(env.StateDir, env.Node); err != nil {
		return nil, err
	}
	n.exports, n.helpers = newExports(n), newHelpers()
	for _, w := range cfg.Warnings {
		n.log.Warn("configuration", "at", w.Pos, "text", w.Text)
	}
	for _, rc := range cfg.Resources {
		r, err := newResource(n, rc)
		if err != nil {
			return nil, err
		}
		if r != nil {
			n.resources = append(n.resources, r)
		}
	}
	n.sized()
	return n, nil
}

// Run serves until ctx ends, then takes everything down in order. Resources with metadata come up by themselves.
func Run(ctx context.Context, env Env) error {
	n, err := New(env)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// Run is the life of the node.
func (n *Node) Run(ctx context.Context) error {
	if err := os.MkdirAll(n.env.RunDir, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	socket, err := control.Listen(n.env.RunDir)
	if err != nil {
		return err
	}
	listeners, err := n.listenNBD(ctx)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	nbdConfig, err := n.nbdConfig()
	if err != nil {
		return err
	}
	n.upAll(ctx)

	served, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, _ := errgroup.WithContext(served)
	group.Go(func() error { return n.ending(n.watchers.run(served), stop) })
	group.Go(func() error { return n.ending(control.Serve(served, socket, n, n.log), stop) })
	server := nbd.NewServer(nbdConfig)
	for _, l := range listeners {
		group.Go(func() error { return n.ending(server.Serve(served, l), stop) })
	}
	group.Go(func() error { n.reloads(served); return nil })
	group.Go(func() error { return n.watchLimits(served) })
	n.startPrimary(ctx)
	group.Go(func() error { n.schedules(served); return nil })
	if n.env.RenderProc != nil {
		group.Go(func() error { return n.keepProcFile(served) })
	}
	if n.env.Ready != nil {
		n.env.Ready()
	}
	n.log.Info("node is up", "node", n.env.Node, "resources", len(n.all()))
	select {
	case <-ctx.Done():
	case <-served.Done():
	}
	n.downAll()
	n.helpers.close()
	stop()
	return group.Wait()
}

func (n *Node) sized() {
	if n.env.Sized != nil {
		n.env.Sized(len(n.resources))
	}
}

// ending stops the node when one of its servers ends with an error.
func (n *Node) ending(err error, stop func()) error {
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err != nil {
		stop()
	}
	return err
}

// upAll brings up every resource that has metadata. One that fails stays down and says why; the others go on.
func (n *Node) upAll(ctx context.Context) {
	for _, r := range n.all() {
		switch err := r.Up(ctx); {
		case errors.Is(err, errNoMetadata):
			n.log.Info("resource has no metadata yet", "resource", r.name, "hint", "drship create-md "+r.name)
		case err != nil:
			n.log.Error("resource stays down", "resource", r.name, "err", err)
		}
	}
}

// downAll takes every resource down as an orderly shutdown does: clients lose their exports, data is flushed, roles are
// given up.
func (n *Node) downAll() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range n.all() {
		wg.Go(func() {
			if err := r.Stop(ctx); err != nil {
				n.log.Error("resource did not stop in order", "resource", r.name, "err", err)
			}
		})
	}
	wg.Wait()
}

func (n *Node) reloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.env.Reload:
			if err := n.reload(ctx); err != nil {
				n.log.Error("configuration was not read again; the old one stays in force", "err", err)
				continue
			}
			n.log.Info("configuration was read again", "resources", len(n.all()))
		}
	}
}

// reload reads the configuration again. New resources appear, those that are gone and down disappear; what runs goes on as it was set up
// (setup.go) until adjust, attach or connect.
func (n *Node) reload(ctx context.Context) error {
	cfg, err := n.env.load()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var next []*Resource
	for _, rc := range cfg.Resources {
		if r := find(n.resources, rc.Name); r != nil {
			switch err := r.reconfigure(rc); {
			case err == nil:
				next = append(next, r)
			case !errors.Is(err, config.ErrNotForHost):
				return err
			}
			continue
		}
		r, err := newResource(n, rc)
		if err != nil {
			return err
		}
		if r != nil {
			next = append(next, r)
		}
	}
	for _, r := range n.resources {
		if find(next, r.name) == nil && r.isUp() {
			n.log.Warn("resource is gone from the configuration of this node and still up", "resource", r.name)
			next = append(next, r)
		}
	}
	n.config, n.resources = cfg, next
	n.sized()
	n.changed()
	return nil
}

func find(rs []*Resource, name string) *Resource {
	for _, r := range rs {
		if r.name == name || r.alias(name) {
			return r
		}
	}
	return nil
}

func (n *Node) all() []*Resource {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*Resource(nil), n.resources...)
}

func (n *Node) global() config.Global {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config.Global
}

// changed tells the watchers that a snapshot would look different.
func (n *Node) changed() { n.watchers.notify() }

func (n *Node) storeDir(resource string) string { return filepath.Join(n.env.StateDir, resource) }

// Exports finds the node's volumes as clients do. For those who run a node without its sockets.
func (n *Node) Exports() nbd.Directory { return n.exports }

// Close takes everything down, for a node that was not started by Run.
func (n *Node) Close() {
	n.downAll()
	n.helpers.close()
}
