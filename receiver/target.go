package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
)

const (
	// defaultQueue bounds what is received and not yet staged or applied, in bytes.
	defaultQueue = 32 << 20
	// flushEvery bounds what is written to the disks between two syncs, in bytes.
	flushEvery = 16 << 20
	// flushDelay is how long what is written to the disks may wait for a sync that nobody waits for. A sync is the
	// dearest thing that a target does; what it is for, the applied mark, only lets go of what is staged.
	flushDelay = 50 * time.Millisecond
)

var (
	// ErrProtocol is returned, wrapped with what was wrong, when the peer sent what it must not send. Nothing of it
	// was applied; the session is of no further use.
	ErrProtocol = errors.New("protocol violated by the peer")
	// ErrBusy is returned when a Run, or another call that needs the target for itself, is active.
	ErrBusy = errors.New("target is busy")
	// ErrNoHistory is returned by Rollback when there is no earlier point to go back to.
	ErrNoHistory = errors.New("no pre-images to go back with")
	// ErrStopped is returned by Handle once the Run has been stopped.
	ErrStopped = errors.New("run is stopped")
)

// DiskError says which volume's disk failed.
type DiskError struct {
	Volume uint16
	Err    error
}

func (e *DiskError) Error() string { return fmt.Sprintf("disk of volume %d: %v", e.Volume, e.Err) }

// Unwrap returns what the disk said.
func (e *DiskError) Unwrap() error { return e.Err }

// Sender is a session: what the target says goes out on its control lane.
type Sender interface {
	Send(ctx context.Context, m frame.Message) error
}

// Volume is one volume of the resource. Its disk stays the caller's to close, after the target's last use.
type Volume struct {
	Number uint16
	Disk   disk.Disk
	// Discard is the granularity, in bytes, in which zeroes of a resync are trimmed; 0: they are not.
	Discard int64
}

// VolumeRange is a run of bytes of one volume.
type VolumeRange struct {
	Volume uint16
	Range  block.Range
}

// Hooks are what the target tells its owner. They are called with none of the target's locks held, from its
// goroutines: they must not call Stop, Recover, Drain or Rollback.
type Hooks interface {
	// ResyncFinished is called once everything up to at is on the disks, synced. The owner makes the identifiers and
	// UpToDate durable before it returns; then the target says ResyncDone. An error ends the Run.
	ResyncFinished(ctx context.Context, at block.Seq) error
	// DiskFailed is called when a disk failed under a Run, which ends. What is staged stays staged.
	DiskFailed(volume uint16, err error)
	// HistoryFull is called when pre-images can no longer be kept: the resync goes on without a way back.
	HistoryFull(err error)
	// StoreFailed is called when the store cannot take what it must: the Run ends.
	StoreFailed(err error)
}

// Config of a Target.
type Config struct {
	Store   *journal.Store
	Volumes []Volume
	Hooks   Hooks
	Logger  *slog.Logger

	// MaxQueueBytes bounds the memory for what is received and not yet staged or applied; 0 means 32 MiB. A single
	// message larger than that still passes, alone.
	MaxQueueBytes int64

	// Digest is the algorithm that the configuration asks for; batches and chunks without any digest are refused
	// unless it is digest.None.
	Digest digest.Alg

	// CacheBytes is the memory for recent blocks that the source may build on: 0 takes batches only that stand alone.
	CacheBytes int64

	// Whole, where set, is asked as a stream starts whether every disk has all of its blocks: only then may the source build on what is
	// on them.
	Whole func() bool

	// StagedOnly says that no write of a peer waits for what is received and not staged yet (protocol B): the peer then
	// hears of both together, which spares it a message and a turn.
	StagedOnly bool

	// StreamStarted, where set, is called at the place of a StreamStart in the stream: everything before it is applied
	// and synced, and a history is begun where one is wanted, but the marks do not stand at From yet. The owner makes
	// durable what the mode means (Inconsistent, or the source's identifiers). Nothing behind it is staged or applied
	// until it returns; an error ends the Run. The rules for hooks hold.
	StreamStarted func(ctx context.Context, m *frame.StreamStart) error

	// Told, where set, is called for each Peers message, at its place among the batches: what comes behind it is not staged before
	// it returns, and the StreamStart before it has taken effect. An error ends the Run. The rules for hooks hold.
	Told func(ctx context.Context, m *frame.Peers) error

	// Others are the bitmaps that this side keeps against its peers, where there is more than one: what comes from a source is
	// marked in those of all others. See SetSource.
	Others []Other

	// Resynced, where set, is told which blocks of a resync are as the source has them: written and synced, or found equal. It must
	// not keep the slice. The rules for hooks hold.
	Resynced func([]VolumeRange)

	// Consistent, where set, is asked when a resync that keeps pre-images starts and no history is open: a history is
	// begun only where the data is consistent now, for it would lead back to nothing useful otherwise. Without it only
	// what this target has seen itself counts.
	Consistent func() bool

	// Worthless, where set, says of which volumes no pre-images are kept, because they never had any data: asked as a history
	// begins, and as a Run does.
	Worthless func(volume uint16) bool
}

// Marks are the target's positions: Applied ≤ Staged ≤ Received.
type Marks struct {
	Received block.Seq // checked, in memory
	Staged   block.Seq // durable in the store
	Applied  block.Seq // on the disks, synced
}

// stagingStore and historyStore are what the target needs of the store; tests put faults between.
type stagingStore interface {
	Append(entries []journal.Staged) error
	Replay(fn func(journal.Staged) error) error
	Applied(upTo block.Seq) error
	Marks() (applied, staged block.Seq)
	Reset(pos block.Seq) error
	Bytes() int64
}

type historyStore interface {
	Begin(at block.Seq) error
	Open() (block.Seq, bool)
	Save(images []journal.Image) error
	Saved(volume uint16, blk uint64) bool
	Restore(fn func(journal.Image) error) error
	End() error
	Bytes() int64
}

// volume is a Volume with what the data path asks often.
type volume struct {
	number  uint16
	disk    disk.Disk
	discard int64
}

// size is that of the disk, which may grow.
func (v *volume) size() int64 { return v.disk.Size() }

// Target is the receiving half of a resource. It outlives sessions; each of them is a Run.
type Target struct {
	staging  stagingStore
	history  historyStore
	hooks    Hooks
	log      *slog.Logger
	queue    int64
	digest   digest.Alg
	started  func(context.Context, *frame.StreamStart) error
	sound    func() bool
	empty    func(uint16) bool
	whole    func() bool
	later    bool // what is received is acknowledged with what is staged
	resynced func([]VolumeRange)
	told     func(context.Context, *frame.Peers) error
	others   *others // nil where there is one peer
	cache    int64   // bytes, offered to the source

	volumes [block.MaxVolumes]*volume
	stats   counters

	mu     sync.Mutex // guards what follows; never held over I/O or a hook
	marks  Marks
	busy   bool // a Run, or a call that needs the target for itself, is active
	adrift bool // blocks were overwritten without pre-images: the data is inconsistent and has no way back
}

// New returns the target of a resource. Call Recover before the disks are used.
func New(c Config) (*Target, error) {
	if c.Store == nil || c.Hooks == nil || c.Logger == nil {
		return nil, errors.New("receiver: store, hooks and logger are required")
	}
	return newTarget(c, c.Store.Staging(), c.Store.History())
}

func newTarget(c Config, staging stagingStore, history historyStore) (*Target, error) {
	t := &Target{
		staging: staging, history: history, hooks: c.Hooks, log: c.Logger,
		queue: c.MaxQueueBytes, digest: c.Digest, started: c.StreamStarted, sound: c.Consistent, empty: c.Worthless, whole: c.Whole, later: c.StagedOnly, resynced: c.Resynced,
		told: c.Told, cache: c.CacheBytes, others: newOthers(c.Store, c.Others),
	}
	if t.queue <= 0 {
		t.queue = defaultQueue
	}
	if len(c.Volumes) == 0 {
		return nil, errors.New("receiver: no volumes")
	}
	for _, v := range c.Volumes {
		switch {
		case int(v.Number) >= block.MaxVolumes:
			return nil, fmt.Errorf("receiver: volume number %d, the highest is %d", v.Number, block.MaxVolumes-1)
		case v.Disk == nil:
			return nil, fmt.Errorf("receiver: volume %d has no disk", v.Number)
		case t.volumes[v.Number] != nil:
			return nil, fmt.Errorf("receiver: volume %d given twice", v.Number)
		}
		t.volumes[v.Number] = &volume{number: v.Number, disk: v.Disk, discard: v.Discard}
	}
	applied, staged := staging.Marks()
	t.setMarks(Marks{Received: staged, Staged: staged, Applied: applied})
	return t, nil
}

// Marks returns the positions as they stand now.
func (t *Target) Marks() Marks {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.marks
}

// setMarks replaces all marks.
func (t *Target) setMarks(m Marks) { t.moveMarks(func(old *Marks) { *old = m }) }

// moveMarks changes marks and asserts their order: a peer trims and promotes by them, so that a wrong one loses data.
func (t *Target) moveMarks(change func(*Marks)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.marks)
	if m := t.marks; m.Staged.Less(m.Applied) || m.Received.Less(m.Staged) {
		panic(fmt.Sprintf("receiver: marks out of order: applied %v, staged %v, received %v", m.Applied, m.Staged, m.Received))
	}
}

// claim takes the target for one user; release gives it back. What only was in memory is gone with a Run.
func (t *Target) claim() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		return ErrBusy
	}
	t.busy = true
	return nil
}

func (t *Target) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = false
	t.marks.Received = t.marks.Staged
}

// Recover applies again what is staged behind the applied mark, syncs the disks and moves the mark: the first thing
// after attach. Running it twice is harmless. A *DiskError says that a disk failed, journal.ErrCorrupt or a digest that
// what was staged cannot be read.
func (t *Target) Recover(ctx context.Context) error {
	if err := t.claim(); err != nil {
		return err
	}
	defer t.release()
	a, err := newApplier(t, nil)
	if err != nil {
		return err
	}
	defer a.dec.Close()
	before := t.Marks()
	if err := a.replay(ctx, before.Staged); err != nil {
		return fmt.Errorf("recover staged batches: %w", err)
	}
	if err := a.flush(); err != nil {
		return fmt.Errorf("recover staged batches: %w", err)
	}
	if before.Applied != before.Staged {
		t.log.Info("applied what was staged", "from", before.Applied, "to", before.Staged)
	}
	return nil
}

// Drain applies everything staged and syncs: before a promotion. No Run may be active.
func (t *Target) Drain(ctx context.Context) error { return t.Recover(ctx) }

// checkRange refuses what a peer says about a volume that is not here, or beyond its size.
func (t *Target) checkRange(number uint16, off, n int64) (*volume, error) {
	if int(number) >= len(t.volumes) || t.volumes[number] == nil {
		return nil, fmt.Errorf("%w: volume %d is not part of this resource", ErrProtocol, number)
	}
	v := t.volumes[number]
	size := v.size()
	if off < 0 || n <= 0 || off > size || n > size-off {
		return nil, fmt.Errorf("%w: range [%d,+%d) of volume %d is outside its %d bytes", ErrProtocol, off, n, number, size)
	}
	return v, nil
}
