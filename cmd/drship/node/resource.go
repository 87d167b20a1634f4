package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drship/internal/config"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/internal/face"
	"drship/internal/state"
	"drship/journal"
	"drship/receiver"
	"drship/sender"
)

const (
	stopTimeout   = 60 * time.Second // for a resource to come down in order
	maxHandshakes = 60 * time.Second // for the exchange of states and bitmaps
)

var errNoMetadata = errors.New("no metadata")

// Resource is one resource of the node, up or not.
type Resource struct {
	node *Node
	name string
	log  *slog.Logger

	ops chan struct{} // holds one token: who has it may change the resource

	mu       sync.Mutex       // guards what follows
	cfg      *config.Resource // what runs; see setup.go
	host     *config.Host
	file     *config.Resource // as it was read last
	fileHost *config.Host
	whole    *config.Resource // the file that cfg was taken from as a whole
	peers    []*peer
	role     state.Role
	wanted   bool        // a promotion of ours is under way: a peer's is refused
	att      *attachment // nil: diskless
	net      *network    // nil: no network configured
	paused   bool        // pause-sync here
	waits    bool        // resync held for another resource's (resync-after)
	toldRate int64       // rate of the disks that the peers were told last
	held     bool        // replication paused here
	seed     bool        // the next resync compares digests first: the peer's disk was carried over
	tempRate int64       // bytes/s, until the next adjust
	turn     int         // counts whoever began to ship to this side: what was agreed on before with others is void
	stopping bool        // the node stops: sessions end, and come back with the next start

	verifies *verifyDoc // has its own lock

	front       atomic.Pointer[front] // where clients' requests go; nil unless Primary
	serviceEnds sync.Mutex            // one end of a service at a time; before mu

	remote  *remoteIO     // not nil: Primary, and a peer carries out the clients' requests
	serving bool          // this side writes for a Primary without a disk
	era     uint64        // counts promotions
	moving  chan struct{} // not nil while the clients are about to be served from elsewhere; closed then

	still   *face.Resource // what to show while the disks are let go of and taken again; nil: what is
	waiting atomic.Int64   // requests that wait because nobody has the data
	parted  time.Time      // when a session ended that comes back at once

	suspend    bool        // suspend-io
	fencing    int         // lost peers that fence-peer has not answered for yet: I/O is frozen
	lastHelper face.Helper // the handler that ran last

	passSeq     uint64 // counts what passed; see passing.go
	passedDisks []passedDisk
}

// attachment is what a resource has while its disks are open.
type attachment struct {
	store   *journal.Store
	disks   []disk.Disk
	meters  []*disk.Meter     // of the disks
	sized   []*sizedDisk      // by volume: how much of each disk is used
	parts   []*disk.Partial   // by volume: what of each disk there is
	missing []*journal.Bitmap // what they lack
	group   *sender.Group
	target  *receiver.Target
	meta    journal.Meta
	aside   []journal.VolumeMeta // metadata of volumes that are not configured
	unsaved atomic.Int64         // bytes that a resync has made equal here since the bitmap was durable last

	healing sync.Mutex // held by whoever fetches what disks lack

	failed  bool // a disk failed; it is being given up
	crashed bool // was Primary when it went down, and no peer has been made equal since
	cured   bool // the data has become equal to that of the peer that serves
}

// newResource returns nil where the resource is not for this node.
func newResource(n *Node, rc *config.Resource) (*Resource, error) {
	if _, err := rc.Local(n.env.Node); errors.Is(err, config.ErrNotForHost) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := &Resource{node: n, name: rc.Name, log: n.log.With("resource", rc.Name), ops: make(chan struct{}, 1), role: state.Secondary}
	r.ops <- struct{}{}
	r.verifies = openVerifyDoc(n, rc.Name)
	if err := r.reconfigure(rc); err != nil {
		return r, err
	}
	return r, nil
}

// acquire takes the token of changes; the returned function gives it back.
func (r *Resource) acquire(ctx context.Context) (func(), error) {
	select {
	case <-r.ops:
		r.mu.Lock()
		r.freshenLocked()
		r.mu.Unlock()
		return func() { r.ops <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change is under way: %w", ctx.Err())
	}
}

func (r *Resource) peerLocked(name string) *peer {
	for _, p := range r.peers {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (r *Resource) isUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.att != nil || r.net != nil || r.still != nil
}

func (r *Resource) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

func (r *Resource) attachment() *attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.att
}

// Up attaches and connects; what is already so stays so.
func (r *Resource) Up(ctx context.Context) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.attachment() == nil {
		r.take(partDisk)
		if err := r.attach(ctx); err != nil {
			return err
		}
		r.renegotiate(nil)
	}
	if err := r.refreshNet(); err != nil {
		return err
	}
	return r.connect(ctx, nil, connectOptions{})
}

// Down disconnects and detaches. A Primary that is in use is refused.
func (r *Resource) Down(ctx context.Context) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.currentRole() == state.Primary {
		if err := r.demote(ctx, false); err != nil {
			return err
		}
	}
	return r.takeDown(ctx)
}

// Stop takes the resource down because the node stops: clients are cut off.
func (r *Resource) Stop(ctx context.Context) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	var errs []error
	if r.currentRole() == state.Primary {
		errs = append(errs, r.demote(ctx, true))
	}
	return errors.Join(append(errs, r.takeDown(ctx))...)
}

func (r *Resource) takeDown(ctx context.Context) error {
	r.disconnect(nil)
	r.closeNetwork()
	return r.detach(ctx)
}

func (r *Resource) currentRole() state.Role {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.role
}

// openStore opens the resource's store; the caller closes it.
func (r *Resource) openStore() (*journal.Store, error) {
	j := r.cfg.Journal
	o := journal.Options{
		FS: r.node.env.FS, Logger: r.log, MaxJournal: j.MaxSize, MaxStaged: j.MaxStaged, MaxHistory: j.MaxHistory,
		OnFailure: func(err error) {
			r.log.Error("state directory cannot be written; blocks are tracked in memory", "err", err)
		},
	}
	if change := r.node.env.Store; change != nil {
		change(&o)
	}
	s, err := journal.Open(r.node.storeDir(r.name), o)
	if err != nil {
		return nil, fmt.Errorf("open store of %s: %w", r.name, err)
	}
	return s, nil
}

// attach opens store and disks and brings the data to the newest point that is known here.
func (r *Resource) attach(ctx context.Context) (err error) {
	r.mu.Lock()
	if r.still == nil {
		r.passDisksLocked(state.Attaching)
	}
	r.mu.Unlock()
	store, err := r.openStore()
	if err != nil {
		return err
	}
	a := &attachment{store: store}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(ctx))
		}
	}()
	if err := r.readMeta(a); err != nil {
		return err
	}
	if err := r.openDisks(a); err != nil {
		return err
	}
	if a.group, err = sender.New(r.senderConfig(a)); err != nil {
		return err
	}
	if a.target, err = receiver.New(r.receiverConfig(a)); err != nil {
		return err
	}
	if err := r.meetPeers(a); err != nil {
		return err
	}
	if err := a.target.Recover(ctx); err != nil {
		return fmt.Errorf("recover %s: %w", r.name, err)
	}
	if a.worstDisk() == state.UpToDate {
		// A resync that ended just before the crash needs its way back no longer.
		if err := a.target.EndHistory(); err != nil {
			return fmt.Errorf("forget the way back of %s: %w", r.name, err)
		}
	}
	if err := r.settleAside(a); err != nil {
		return err
	}
	if err := r.afterCrash(a); err != nil {
		return err
	}
	if err := r.taken(a); err != nil {
		return err
	}
	r.log.Info("attached", "volumes", len(a.disks), "crashed", a.crashed, "end", a.group.End())
	r.node.changed()
	return nil
}

// readMeta reads the metadata of what is being attached.
func (r *Resource) readMeta(a *attachment) error {
	meta, err := a.store.Meta()
	if errors.Is(err, journal.ErrNoMeta) {
		return fmt.Errorf("%s: %w", r.name, errNoMetadata)
	}
	if err != nil {
		return fmt.Errorf("read metadata of %s: %w", r.name, err)
	}
	return a.divide(meta, r.host.Volumes)
}

// taken makes the attachment the resource's.
func (r *Resource) taken(a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.remote != nil {
		if err := a.behind(); err != nil {
			return err
		}
	} else if r.still == nil {
		r.role = state.Secondary
	}
	r.att = a
	if slices.ContainsFunc(r.peers, (*peer).inSight) {
		r.passDisksLocked(state.Negotiating)
	}
	r.paused = r.paused || a.meta.Flags&metaPauseSync != 0
	r.held = r.held || a.meta.Flags&metaHold != 0
	for _, p := range r.peers {
		p.known = a.peerDisks(p.name)
	}
	return nil
}

// behind makes durable that the data lacks what a peer has written for this node's clients.
func (a *attachment) behind() error {
	for i := range a.meta.Volumes {
		a.meta.Volumes[i].Disk = min(a.meta.Volumes[i].Disk, state.Outdated)
	}
	return a.save()
}

// openDisks opens the disks. One of several that cannot be opened is gone, and the others go on.
func (r *Resource) openDisks(a *attachment) error {
	var failures []error
	for i, vm := range a.meta.Volumes {
		vc := r.volumeConfig(vm.Volume)
		if vc == nil {
			return fmt.Errorf("volume %d of %s has metadata but is not in the configuration", vm.Volume, r.name)
		}
		d, err := r.openDisk(vc, vm)
		if err != nil {
			if len(a.meta.Volumes) == 1 || errors.Is(err, disk.ErrInUse) {
				return err
			}
			failures = append(failures, err)
			a.meta.Volumes[i].Flags |= volumePartial
		}
		missing, err := a.store.Missing(vm.Volume, vm.Size)
		if err != nil {
			return errors.Join(err, closeDisk(d))
		}
		whole := disk.NewPartial(d, vm.Size, missing)
		part := sized(whole, vm.Size)
		m := disk.Metered(part)
		a.disks, a.parts, a.missing = append(a.disks, m), append(a.parts, whole), append(a.missing, missing)
		a.sized = append(a.sized, part)
		a.meters = append(a.meters, m)
		if whole.Lacks(wholeVolume(vm.Size)) {
			continue
		}
		if err := m.Probe(probeDisk); err != nil {
			r.log.Warn("the disk's rate is not known", "volume", vm.Volume, "err", err)
		}
	}
	if len(failures) == len(a.meta.Volumes) {
		return errors.Join(failures...)
	}
	for _, err := range failures {
		r.log.Error("a volume has no disk here; the others go on", "err", err)
	}
	if len(failures) > 0 {
		return a.save()
	}
	return nil
}

// openDisk opens the disk of one volume.
func (r *Resource) openDisk(vc *config.Volume, vm journal.VolumeMeta) (disk.Disk, error) {
	d, err := r.node.env.OpenDisk(vc.Disk)
	if err != nil {
		return nil, fmt.Errorf("open disk of %s/%d: %w", r.name, vm.Volume, err)
	}
	if d.Size() < vm.Size {
		err := fmt.Errorf("disk %s of %s/%d has %d bytes, its metadata says %d: it has shrunk", vc.Disk, r.name, vm.Volume, d.Size(), vm.Size)
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func closeDisk(d disk.Disk) error {
	if d == nil {
		return nil
	}
	return d.Close()
}

func (r *Resource) volumeConfig(number uint16) *config.Volume {
	for _, v := range r.host.Volumes {
		if v.Number == number {
			return v
		}
	}
	return nil
}

func (r *Resource) senderConfig(a *attachment) sender.Config {
	c := sender.Config{Store: a.store, ALExtents: r.cfg.Disk.ALExtents, MaxJournal: r.cfg.Journal.MaxSize, Hooks: hooks{r}, Logger: r.log, Now: r.node.env.Now}
	c.Elsewhere = func(ctx context.Context, e sender.Elsewhere) error { return r.elsewhere(ctx, a, e) }
	c.NoData = r.noData
	switch r.cfg.Journal.OnFull {
	case "block":
		c.OnFull = sender.Block
	case "disconnect":
		c.OnFull = sender.Disconnect
	}
	for i, vm := range a.meta.Volumes {
		c.Disks = append(c.Disks, sender.VolumeDisk{Number: vm.Volume, Disk: a.disks[i], Partial: a.parts[i]})
	}
	for _, p := range r.peers {
		c.Peers = append(c.Peers, p.name)
	}
	return c
}

func (r *Resource) receiverConfig(a *attachment) receiver.Config {
	alg, _ := digest.Parse(r.digestName())
	h := hooks{r}
	c := receiver.Config{Store: a.store, Hooks: h, Logger: r.log, Digest: alg, StreamStarted: h.StreamStarted, Told: h.Told, Consistent: h.Consistent, Worthless: h.Worthless, Resynced: h.Resynced, StagedOnly: true, CacheBytes: cacheOffered(r.peers), Others: r.others(a)}
	c.Whole = func() bool { return !a.lacking() }
	for _, p := range r.peers {
		c.StagedOnly = c.StagedOnly && p.cfg.Net.Protocol != 'B'
	}
	for i, vm := range a.meta.Volumes {
		v := receiver.Volume{Number: vm.Volume, Disk: disk.Blind(a.disks[i])}
		if vc := r.volumeConfig(vm.Volume); vc != nil {
			v.Discard = vc.DiskOptions.RsDiscardGranularity
		}
		c.Volumes = append(c.Volumes, v)
	}
	return c
}

// digestName is the digest of what is shipped; checking cannot be switched off.
func (r *Resource) digestName() string {
	if name := r.cfg.Net.DataIntegrityAlg; name != "" {
		return name
	}
	return "crc32c"
}

// afterCrash does what a Primary's crash, or a lost store, asks for before anything is written.
func (r *Resource) afterCrash(a *attachment) error {
	a.crashed = a.meta.Primary
	if err := a.afterLoss(a.store.WasLost()); err != nil {
		return err
	}
	if a.store.WasLost() {
		r.log.Error("the store was lost while in use: everything has to be compared")
		for _, p := range r.peers {
			if err := a.group.Peer(p.name).SetAll(); err != nil {
				return err
			}
		}
		if err := a.store.ClearLost(); err != nil {
			return fmt.Errorf("forget that the store was lost: %w", err)
		}
	}
	if !a.crashed {
		return nil
	}
	r.log.Warn("was Primary when it went down; the activity log says what to compare")
	if err := a.group.HotToBitmaps(); err != nil {
		return fmt.Errorf("mark what was hot in the crash of %s: %w", r.name, err)
	}
	return nil
}

// detach closes disks and store. The resource must be Secondary and without sessions.
func (r *Resource) detach(ctx context.Context) error {
	r.mu.Lock()
	a := r.att
	r.att = nil
	r.mu.Unlock()
	if a == nil {
		return nil
	}
	err := a.close(ctx)
	r.node.changed()
	if err != nil {
		return fmt.Errorf("detach %s: %w", r.name, err)
	}
	return nil
}

func (a *attachment) close(ctx context.Context) error {
	var errs []error
	if a.group != nil {
		errs = append(errs, a.group.Close(ctx))
	}
	for _, d := range a.disks {
		errs = append(errs, d.Sync(), d.Close())
	}
	return errors.Join(append(errs, a.store.Close())...)
}
