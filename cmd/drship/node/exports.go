package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"drship/internal/disk"
	"drship/internal/nbd"
	"drship/internal/state"
	"drship/sender"
)

// exports shows the volumes of the node to NBD clients and knows who uses them.
type exports struct {
	node *Node

	mu     sync.Mutex
	next   int
	opened map[int]opener
}

type opener struct {
	resource string
	volume   uint16
	who      string
}

func newExports(n *Node) *exports { return &exports{node: n, opened: map[int]opener{}} }

// openers says who has a volume of the resource open, for people.
func (e *exports) openers(resource string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var who []string
	for _, o := range e.opened {
		if o.resource == resource {
			who = append(who, o.who)
		}
	}
	slices.Sort(who)
	return who
}

func (e *exports) clients(resource string, volume uint16) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var who []string
	for _, o := range e.opened {
		if o.resource == resource && o.volume == volume {
			who = append(who, o.who)
		}
	}
	slices.Sort(who)
	return who
}

// Open implements nbd.Directory.
func (e *exports) Open(ctx context.Context, name string, c nbd.Client) (nbd.Export, func(), error) {
	r, number := e.lookup(name)
	if r == nil {
		return nil, nil, nbd.ErrUnknown
	}
	r.awaitMove(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil && r.remote == nil {
		return nil, nil, &nbd.PolicyError{Text: fmt.Sprintf("%s is down on %s; bring it up with: drship up %s", r.name, e.node.env.Node, r.name)}
	}
	if r.role != state.Primary {
		return nil, nil, &nbd.PolicyError{Text: fmt.Sprintf("%s is Secondary on %s; promote it with: drship primary %s", r.name, e.node.env.Node, r.name)}
	}
	f := r.front.Load()
	if f == nil || f.volumes[number] == nil {
		return nil, nil, nbd.ErrUnknown
	}
	if name := r.undeclaredLocked(number); name != "" {
		return nil, nil, &nbd.PolicyError{Text: fmt.Sprintf("%s is new: say whose data counts with drship primary --force %s, or that both sides are equal with drship new-current-uuid --clear-bitmap %s", name, name, name)}
	}
	e.mu.Lock()
	e.next++
	id := e.next
	e.opened[id] = opener{resource: r.name, volume: number, who: who(c)}
	e.mu.Unlock()
	e.node.changed()
	return export{r: r, number: number, era: f.era, size: f.volumes[number].Size(), name: exportName(r.name, number)}, func() {
		e.mu.Lock()
		delete(e.opened, id)
		e.mu.Unlock()
		e.node.changed()
	}, nil
}

func who(c nbd.Client) string {
	if c.PID == 0 {
		return c.Addr
	}
	return fmt.Sprintf("%s (pid %d)", c.Command, c.PID)
}

// List implements nbd.Directory.
func (e *exports) List(context.Context) []nbd.Info {
	var all []nbd.Info
	for _, r := range e.node.all() {
		r.mu.Lock()
		if r.att != nil {
			for _, v := range r.att.meta.Volumes {
				all = append(all, nbd.Info{Name: exportName(r.name, v.Volume), Description: fmt.Sprintf("drship resource %s, volume %d, %s here", r.name, v.Volume, r.role)})
			}
		}
		r.mu.Unlock()
	}
	return all
}

func exportName(resource string, volume uint16) string {
	if volume == 0 {
		return resource
	}
	return fmt.Sprintf("%s/%d", resource, volume)
}

// lookup finds a volume by "r0", "r0/1", or the name of its device, "drbd0". The empty name is the only resource's first
// volume, as clients without a name expect.
func (e *exports) lookup(name string) (*Resource, uint16) {
	all := e.node.all()
	if name == "" && len(all) == 1 {
		return all[0], all[0].firstVolume()
	}
	base, vol, found := strings.Cut(name, "/")
	if r := find(all, base); r != nil {
		if !found {
			return r, 0
		}
		n, err := strconv.ParseUint(vol, 10, 16)
		if err != nil {
			return nil, 0
		}
		return r, uint16(n)
	}
	for _, r := range all {
		for _, v := range r.volumesConfigured() {
			if v.Device != "" && (path.Base(v.Device) == name || v.Device == name) {
				return r, v.Number
			}
		}
	}
	return nil, 0
}

// export is a volume of a Primary as the NBD server wants it.
type export struct {
	r      *Resource
	number uint16
	era    uint64 // of the promotion in which it was opened
	size   int64
	name   string
}

// do makes a request where the volume is served, and again where that changed under it.
func (x export) do(ctx context.Context, fn func(volume) error) error {
	for {
		f := x.r.front.Load()
		if f == nil || f.era != x.era {
			return forClient(sender.ErrNotPrimary)
		}
		v := f.volumes[x.number]
		if v == nil {
			return forClient(sender.ErrNotPrimary)
		}
		err := fn(v)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !x.r.movedFrom(ctx, f) {
			return forClient(err)
		}
	}
}

// Info describes the export under its own name, whatever alias it was asked for.
func (x export) Info() nbd.Info { return nbd.Info{Name: x.name} }

func (x export) Size() int64                                 { return x.size }
func (x export) BlockSizes() (least, preferred, most uint32) { return 1, 4096, 32 << 20 }
func (x export) ReadOnly() bool                              { return false }

func (x export) ReadAt(ctx context.Context, p []byte, off int64) error {
	return x.do(ctx, func(v volume) error { return v.ReadAt(ctx, p, off) })
}

func (x export) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return x.do(ctx, func(v volume) error { return v.WriteAt(ctx, p, off, fua) })
}

func (x export) Zero(ctx context.Context, off, n int64, o nbd.ZeroOptions) error {
	return x.do(ctx, func(v volume) error { return v.Zero(ctx, off, n, o.NoHole, o.FUA) })
}

func (x export) Trim(ctx context.Context, off, n int64, fua bool) error {
	return x.do(ctx, func(v volume) error { return v.Trim(ctx, off, n, fua) })
}

func (x export) Flush(ctx context.Context) error {
	return x.do(ctx, func(v volume) error { return v.Flush(ctx) })
}

func (x export) Extents(ctx context.Context, off, n int64) ([]nbd.Extent, error) {
	var segments []disk.Segment
	err := x.do(ctx, func(v volume) (err error) {
		segments, err = v.Segments(ctx, off, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	extents := make([]nbd.Extent, 0, len(segments))
	for _, s := range segments {
		extents = append(extents, nbd.Extent{Len: s.Len, Hole: s.Hole, Zero: s.Hole})
	}
	return extents, nil
}

// forClient says which NBD error a failure is.
func forClient(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sender.ErrNotPrimary):
		return fmt.Errorf("%w: %w", nbd.ErrPerm, err)
	case errors.Is(err, sender.ErrStopped):
		return fmt.Errorf("%w: %w", nbd.ErrShutdown, err)
	}
	return err
}

func (n *Node) nbdConfig() (nbd.Config, error) {
	t, err := n.nbdTLS()
	return nbd.Config{Directory: n.exports, Logger: n.log, TLS: t, RequireTLS: t != nil && !n.global().AllowPlaintextNBD}, err
}

// listenNBD opens the unix socket and what the configuration asks for beside it.
func (n *Node) listenNBD(ctx context.Context) ([]net.Listener, error) {
	socket := filepath.Join(n.env.RunDir, "nbd.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale NBD socket: %w", err)
	}
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", socket)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen for NBD: %w", err)
	}
	listeners := []net.Listener{l}
	if addr := n.global().NBDListen; addr != "" {
		var lc net.ListenConfig
		t, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for NBD on %s: %w", addr, err), l.Close())
		}
		listeners = append(listeners, t)
		if n.global().AllowPlaintextNBD {
			n.log.Warn("allow-plaintext-nbd is on: whoever reaches the address may read and write what is Primary here", "address", addr)
		}
	}
	return listeners, nil
}

// nbdTLS reads what STARTTLS needs; nil without a certificate in the configuration.
func (n *Node) nbdTLS() (*tls.Config, error) {
	g := n.global()
	if g.NBDTLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(g.NBDTLSCert, g.NBDTLSKey)
	if err != nil {
		return nil, fmt.Errorf("read the NBD certificate: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if g.NBDTLSCA != "" {
		pem, err := os.ReadFile(g.NBDTLSCA)
		if err != nil {
			return nil, fmt.Errorf("read the NBD authority: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", g.NBDTLSCA)
		}
	}
	return c, nil
}
