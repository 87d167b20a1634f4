package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"drship/internal/block"
	"drship/internal/disk"
	"drship/journal"
)

var (
	// ErrNotPrimary is returned by a volume whose resource may not be written or read here.
	ErrNotPrimary = errors.New("resource is not Primary here")
	// ErrStopped is returned after Close.
	ErrStopped = errors.New("resource is stopped")
)

// FullPolicy says what happens to writes when the journal has reached its limit.
type FullPolicy int

// The policies of journal { on-full …; }.
const (
	PullAhead  FullPolicy = iota // stop journaling for the peers that lag, count their blocks as out of sync
	Block                        // hold writes until there is room
	Disconnect                   // as PullAhead, and drop the connection
)

// Hooks are how the sender tells its owner what happened. They are called without any lock of the sender held, from
// goroutines of the sender, and must not wait for the sender.
type Hooks interface {
	// JournalFull is called once each time a peer stops being tracked by the journal.
	JournalFull(peer string)
	// DiskFailed is called for each failed request to a backing disk.
	DiskFailed(volume uint16, err error)
}

// Config of a Group. Disks and Peers do not change during its life.
type Config struct {
	Store     *journal.Store
	Disks     []VolumeDisk
	Peers     []string
	ALExtents int
	// MaxJournal is the limit of the store's journal, bytes.
	MaxJournal int64
	OnFull     FullPolicy
	Hooks      Hooks
	Now        func() time.Time // the clock on the wall; nil: time.Now
	Logger     *slog.Logger

	// Elsewhere, where set, reads what the disk here does not give from a peer that has everything up to at; never from the one that is
	// named. With wait it goes on until there is such a peer, or until the owner does not want requests to wait.
	Elsewhere func(ctx context.Context, read Elsewhere) error
	// NoData, where set, is asked when no peer has what the disk here does not take: it returns nil when it is worth another try.
	NoData func(ctx context.Context) error
}

// VolumeDisk is one volume and its backing disk.
type VolumeDisk struct {
	Number  uint16
	Disk    disk.Disk
	Partial *disk.Partial // below Disk, where the volume can go on without it
}

// Group is the write order of a resource, over all its volumes.
type Group struct {
	log      *journal.Log
	store    *journal.Store
	al       *journal.ActivityLog
	onFull   FullPolicy
	limit    int64
	hooks    Hooks
	logger   *slog.Logger
	other    func(ctx context.Context, read Elsewhere) error
	noData   func(ctx context.Context) error
	volumes  []*Volume
	peers    []*Peer
	gate     gate
	counters Counters
	ackChans sync.Pool // of chan struct{}

	// order guards the write order: which record comes next, and for each peer whether the journal or the bitmap
	// takes it. Nothing that can block is done under it.
	order      sync.Mutex
	last       block.Seq   // end of the write order: the newest record submitted, or start
	start      block.Seq   // where the epoch began; equal to last as long as it has no record
	journaling int         // peers with tracking == byJournal
	questions  []*question // of verifies and repairs: blocks read and not answered, which are told of writes. Few

	// found is the end of the journal as it was found when the store was opened. A crash may have come between a
	// record and the write to the disk: up to here the disk may lack what the journal has, so a resync, which takes
	// the disk's word for it, goes behind these records in every stream. So it does behind one whose write the disk refused.
	found atomic.Pointer[block.Seq]

	clock clock // of records; guarded by order

	trimming sync.Mutex // one trim at a time

	converters sync.WaitGroup
	ctx        context.Context
	stop       context.CancelFunc
}

// New opens the sender's half over a store. It takes no write before Open is called.
func New(c Config) (*Group, error) {
	ctx, stop := context.WithCancel(context.Background())
	g := &Group{log: c.Store.Log(), store: c.Store, onFull: c.OnFull, limit: c.MaxJournal, hooks: c.Hooks, logger: c.Logger, other: c.Elsewhere, noData: c.NoData, ctx: ctx, stop: stop}
	g.clock = newClock(c.Now)
	g.last = g.log.End()
	g.start = g.last
	found := g.last
	g.found.Store(&found)
	for i, d := range c.Disks {
		g.volumes = append(g.volumes, &Volume{group: g, index: i, number: d.Number, disk: d.Disk, partial: d.Partial, bad: journal.NewScratch()})
	}
	for _, name := range c.Peers {
		p, err := newPeer(g, name)
		if err != nil {
			stop()
			return nil, err
		}
		g.peers = append(g.peers, p)
	}
	g.journaling = len(g.peers)
	if len(g.peers) > 0 {
		al, err := c.Store.ActivityLog(c.ALExtents, g.beforeCold)
		if err != nil {
			stop()
			return nil, fmt.Errorf("open activity log: %w", err)
		}
		g.al = al
	}
	return g, nil
}

// Close waits for the requests inside and for work in the background. Streams must have ended before.
func (g *Group) Close(ctx context.Context) error {
	g.gate.setOpen(false)
	err := g.gate.drained(ctx)
	g.stop()
	g.converters.Wait()
	return err
}

// Begin starts a new epoch of the write order, above any that this or the peer's side has seen.
func (g *Group) Begin(atLeast uint64) (block.Seq, error) {
	defer func() {
		for _, p := range g.peers {
			p.wake() // a stream that runs tells its peer where the epoch begins: until it is there, the peer lacks something
		}
	}()
	g.order.Lock()
	defer g.order.Unlock()
	start, err := g.log.Begin(atLeast)
	if err != nil {
		return block.Seq{}, fmt.Errorf("begin journal epoch: %w", err)
	}
	g.last, g.start = start, start
	g.clock.set()
	return start, nil
}

// emptyEpoch is the start of an epoch in which nothing was written yet; zero if something was.
func (g *Group) emptyEpoch() block.Seq {
	g.order.Lock()
	defer g.order.Unlock()
	if g.last != g.start {
		return block.Seq{}
	}
	return g.start
}

// Open lets requests in.
func (g *Group) Open() { g.gate.setOpen(true) }

// Shut keeps requests out and waits for those inside.
func (g *Group) Shut(ctx context.Context) error {
	g.gate.setOpen(false)
	return g.gate.drained(ctx)
}

// Suspend holds back new requests and waits for those inside; Resume lets them go on.
func (g *Group) Suspend(ctx context.Context) error {
	g.gate.suspend()
	return g.gate.drained(ctx)
}

// Freeze holds back new requests, and the answers of those inside, until Resume: a peer that they wait for went out of sight, and may
// be taking over. It does not wait.
func (g *Group) Freeze() { g.gate.freeze() }

// Resume ends Suspend and Freeze.
func (g *Group) Resume() { g.gate.resume() }

// Suspended reports whether requests are held back.
func (g *Group) Suspended() bool { return g.gate.suspended() }

// End returns the newest position of the write order.
func (g *Group) End() block.Seq {
	g.order.Lock()
	defer g.order.Unlock()
	return g.last
}

// ALUpdates counts the activity log's writes.
func (g *Group) ALUpdates() uint64 {
	if g.al == nil {
		return 0
	}
	return g.al.Updates()
}

// Peers returns all peers, in the order of the configuration.
func (g *Group) Peers() []*Peer { return g.peers }

// DropJournal forgets what this side wrote, because it takes the data of source from now on. For every other peer it goes
// to the bitmap first. No request may be inside.
func (g *Group) DropJournal(source string) error {
	if g.log.Start() == g.log.End() {
		return nil
	}
	for _, p := range g.peers {
		if p.name == source {
			continue
		}
		if err := p.JournalToBitmap(); err != nil {
			return err
		}
	}
	g.order.Lock()
	defer g.order.Unlock()
	end, err := g.log.Drop()
	if err != nil {
		return fmt.Errorf("drop journal: %w", err)
	}
	g.last, g.start = end, end
	return nil
}

// Volume returns a volume by its number, nil if there is none.
func (g *Group) Volume(number uint16) *Volume {
	for _, v := range g.volumes {
		if v.number == number {
			return v
		}
	}
	return nil
}

// Volumes returns all volumes, in the order of the configuration.
func (g *Group) Volumes() []*Volume { return g.volumes }

// Peer returns a peer by name, nil if there is none.
func (g *Group) Peer(name string) *Peer {
	for _, p := range g.peers {
		if p.name == name && !p.forgotten.Load() {
			return p
		}
	}
	return nil
}

// HotToBitmaps marks every extent that was hot when the store was opened as out of sync for every peer, durably, and
// then makes them cold. It is called once after a crash of a primary, before anything is written.
func (g *Group) HotToBitmaps() error {
	if g.al == nil {
		return nil
	}
	err := g.al.Hot(func(vol uint16, r block.Range) error {
		v := g.Volume(vol)
		if v == nil || r.Off >= v.disk.Size() {
			return nil
		}
		r.Len = min(r.Len, v.disk.Size()-r.Off)
		for _, p := range g.peers {
			p.bitmaps[v.index].Set(r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read activity log: %w", err)
	}
	if err := g.flushBitmaps(); err != nil {
		return err
	}
	return g.al.Clear()
}

// Settle makes the activity log cold: everything is on the disk and in the journal. For an orderly demotion.
func (g *Group) Settle() error {
	if g.al == nil {
		return nil
	}
	if err := g.beforeCold(); err != nil {
		return err
	}
	return g.al.Clear()
}

// beforeCold makes durable what a cold extent promises: nothing in it is only in memory.
func (g *Group) beforeCold() error {
	for _, v := range g.volumes {
		if err := v.sync(); err != nil {
			return fmt.Errorf("sync volume %d: %w", v.number, err)
		}
	}
	return g.flushBitmaps()
}

// flushBitmaps makes the bitmaps durable, and with them all of the journal committed before: they share one log.
func (g *Group) flushBitmaps() error {
	for _, p := range g.peers {
		for _, b := range p.bitmaps {
			if err := b.Flush(); err != nil {
				return fmt.Errorf("flush bitmap for %s: %w", p.name, err)
			}
		}
	}
	if err := g.store.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return nil
}

// submit gives o its place in the write order. It returns the position of its last record, which is zero when no peer
// is tracked by journal; errRoom when the journal is full and the policy is to wait.
func (g *Group) submit(v *Volume, o *op) (block.Seq, error) {
	g.order.Lock()
	defer g.order.Unlock()
	if g.journaling > 0 && g.log.Room() < o.journalBytes() {
		if g.onFull == Block || g.partial() { // a record may be all that there is of what a disk did not take
			return block.Seq{}, errRoom
		}
		g.fallBehindLocked()
	}
	g.touchLocked(v, o.Range)
	var last block.Seq
	if g.journaling > 0 {
		var err error
		if last, err = g.appendLocked(v, o); err != nil {
			g.logger.Error("journal refused a write; tracking all peers by bitmap", "err", err)
			g.untrackLocked(func(*Peer) bool { return true })
			last = block.Seq{}
		}
	}
	for _, p := range g.peers {
		if p.tracking == byBitmap {
			p.bitmaps[v.index].Set(o.Range)
		}
	}
	return last, nil
}

// appendLocked submits o as one record, or as several of at most block.MaxRecord where it carries data.
func (g *Group) appendLocked(v *Volume, o *op) (block.Seq, error) {
	rec := &o.record
	*rec = block.Record{Time: g.clock.now().UnixNano(), Volume: v.number, Kind: o.kind}
	step := o.Len
	if o.kind == block.Write {
		step = block.MaxRecord
	}
	for done := int64(0); done < o.Len; done += step {
		n := min(step, o.Len-done)
		rec.Off, rec.Len = o.Off+done, uint32(n)
		if o.kind == block.Write {
			rec.Data = o.data[done : done+n]
		}
		if err := g.log.Submit(rec); err != nil {
			return block.Seq{}, fmt.Errorf("append to journal: %w", err)
		}
		g.last = rec.Seq
	}
	return rec.Seq, nil
}

// wake tells every stream that there is something to ship, unless it looks by itself soon.
func (g *Group) wake() {
	for _, p := range g.peers {
		if !p.gathering.Load() {
			p.wake()
		}
	}
}
