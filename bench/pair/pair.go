// Package pair runs nodes of the real program on one machine, each in a process of its own: it writes their configuration,
// starts and kills them, speaks to them through the program's own verbs, and cleans up behind them.
//
// Everything lies in one scratch folder:
//
//	DIR/alice/drship.conf   what alice is told (her peers may stand behind a relay)
//	DIR/alice/state, run    --state-dir and --run-dir
//	DIR/alice/vol0.img      the backing file of volume 0
//	DIR/alice/daemon.log    what the daemon wrote, over all its starts
package pair

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"drship/bench/relay"
)

// Resource is the name of the one resource that every pair has.
const Resource = "r0"

// Options say what to run. The zero value of each field has a default that makes a plain pair.
type Options struct {
	Binary   string   // path of the program; required
	Dir      string   // scratch folder, made if missing; required
	Nodes    []string // default alice, bob
	Sizes    []int64  // bytes of each volume's backing file; default one of 64 MiB
	Protocol string   // A, B or C; default C
	Secret   string   // shared secret; default one for all
	Auth     []string // statements that replace cram-hmac-alg and shared-secret, where not nil

	// Statements added to the resource's sections, without the semicolon: "max-size 64M".
	Net, Disk, Journal, WAN []string
	Handlers, Startup       []string
	ResourceOptions         []string // of the section options
	// Statements added to the global section.
	Global []string

	Link *relay.Link // stand a relay between the two nodes, which starts so; nil: they meet directly
	Seed uint64      // of the relay
	Tap  func(relay.Direction, []byte)

	Addresses []netip.AddrPort                          // where each node listens; nil: free loopback addresses
	Spawn     func(node string, daemon *exec.Cmd) error // starts a daemon's process; nil: daemon.Start()

	StateDir func(node string) string                 // where a node keeps its state; nil: inside Dir
	Backing  func(node string, volume int) string     // where a node's disk is; nil: a file inside Dir
	Adjust   func(node, resource, text string) string // the last word on a node's configuration; nil: as it is
	Env      []string                                 // added to every process
	Detached bool                                     // daemons outlive this process
}

// Pair is a set of nodes, usually two.
type Pair struct {
	Nodes []*Node
	Relay *relay.Relay // nil without Options.Link

	o       Options
	address []netip.AddrPort // by node: where it really listens
}

// New prepares folders, backing files, addresses and configuration. It starts nothing but the relay.
func New(o Options) (*Pair, error) {
	o.setDefaults()
	p := &Pair{o: o}
	if o.Link != nil && len(o.Nodes) != 2 {
		return nil, fmt.Errorf("a relay stands between two nodes, not %d", len(o.Nodes))
	}
	for _, name := range o.Nodes {
		n := newNode(p, name)
		if err := n.makeDirs(); err != nil {
			return nil, err
		}
		for i, size := range o.Sizes {
			if err := makeBacking(n.Backing(i), size); err != nil {
				return nil, err
			}
		}
		p.Nodes = append(p.Nodes, n)
	}
	var err error
	if p.address = o.Addresses; p.address == nil {
		p.address, err = freeAddresses(len(o.Nodes))
	}
	if err != nil {
		return nil, err
	}
	if len(p.address) != len(o.Nodes) {
		return nil, fmt.Errorf("%d addresses for %d nodes", len(p.address), len(o.Nodes))
	}
	if o.Link != nil {
		if err := p.startRelay(); err != nil {
			return nil, err
		}
	}
	for _, n := range p.Nodes {
		if err := n.WriteConfig(); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

func (o *Options) setDefaults() {
	if o.Nodes == nil {
		o.Nodes = []string{"alice", "bob"}
	}
	if o.Sizes == nil {
		o.Sizes = []int64{64 << 20}
	}
	if o.Protocol == "" {
		o.Protocol = "C"
	}
	if o.Secret == "" {
		o.Secret = "correct horse battery staple"
	}
}

func (p *Pair) startRelay() error {
	local := netip.AddrPortFrom(p.address[0].Addr(), 0)
	r, err := relay.Start(relay.Config{
		A: p.address[0], B: p.address[1],
		FrontA: local, FrontB: local,
		Link: *p.o.Link, Seed: p.o.Seed, Tap: p.o.Tap,
	})
	if err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	p.Relay = r
	return nil
}

// Node returns the node of that name; it panics where there is none, which is a mistake of the caller.
func (p *Pair) Node(name string) *Node {
	i := p.index(name)
	return p.Nodes[i]
}

func (p *Pair) index(name string) int {
	i := slices.IndexFunc(p.Nodes, func(n *Node) bool { return n.Name == name })
	if i < 0 {
		panic("no node " + name)
	}
	return i
}

// Address is where a node really listens, whatever its peers believe.
func (p *Pair) Address(name string) netip.AddrPort { return p.address[p.index(name)] }

// Volumes is how many volumes the resource has.
func (p *Pair) Volumes() int { return len(p.o.Sizes) }

// Size of a volume's backing file, in bytes.
func (p *Pair) Size(volume int) int64 { return p.o.Sizes[volume] }

// StartAll starts every daemon.
func (p *Pair) StartAll(ctx context.Context) error {
	for _, n := range p.Nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Create starts every daemon, makes metadata and brings the resource up on each node. No node is Primary afterwards.
func (p *Pair) Create(ctx context.Context) error {
	if err := p.StartAll(ctx); err != nil {
		return err
	}
	for _, n := range p.Nodes {
		if _, err := n.Verb(ctx, "create-md", Resource); err != nil {
			return err
		}
		if _, err := n.Verb(ctx, "up", Resource); err != nil {
			return err
		}
	}
	return nil
}

// DeclareEqual has a pair that was just created take its disks for equal.
func (p *Pair) DeclareEqual(ctx context.Context) error {
	if _, err := p.Nodes[0].Verb(ctx, "wait-connect", Resource); err != nil {
		return err
	}
	_, err := p.Nodes[0].Verb(ctx, "new-current-uuid", "--clear-bitmap", Resource)
	return err
}

// Sync makes the first node Primary, forced, and waits until all nodes are UpToDate.
func (p *Pair) Sync(ctx context.Context) error {
	if _, err := p.Nodes[0].Verb(ctx, "primary", "--force", Resource); err != nil {
		return err
	}
	return p.WaitUpToDate(ctx)
}

// WaitUpToDate waits until every node sees itself and all its peers connected, UpToDate and with nothing out of sync.
func (p *Pair) WaitUpToDate(ctx context.Context) error {
	for _, n := range p.Nodes {
		if _, err := n.Wait(ctx, "everything UpToDate", Status.InSync); err != nil {
			return err
		}
	}
	return nil
}

// Close kills what still runs and stops the relay. The folder stays: see Remove.
func (p *Pair) Close() error {
	var errs []error
	for _, n := range p.Nodes {
		errs = append(errs, n.Kill())
	}
	if p.Relay != nil {
		errs = append(errs, p.Relay.Close())
	}
	return errors.Join(errs...)
}

// Autopsy ends every daemon with its goroutines in its log. Close comes behind it.
func (p *Pair) Autopsy() error {
	var errs []error
	for _, n := range p.Nodes {
		errs = append(errs, n.Autopsy())
	}
	return errors.Join(errs...)
}

// Remove deletes the scratch folder. Call it behind Close, where nothing in it is needed any more.
func (p *Pair) Remove() error {
	if err := os.RemoveAll(p.o.Dir); err != nil {
		return fmt.Errorf("remove scratch folder: %w", err)
	}
	return nil
}

// Dir is the scratch folder.
func (p *Pair) Dir() string { return p.o.Dir }

func makeBacking(path string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder of backing file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make backing file: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && st.Size() != size {
		err = f.Truncate(size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make backing file %s: %w", path, err)
	}
	return nil
}
