package receiver

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
)

// heldStaging lets Append wait for the test, or fail.
type heldStaging struct {
	stagingStore
	calls chan error // each Append takes one first; nil goes on
}

func (h *heldStaging) Append(entries []journal.Staged) error {
	if err := <-h.calls; err != nil {
		return err
	}
	return h.stagingStore.Append(entries)
}

func newHeldPair(t *testing.T) (*pair, *heldStaging) {
	h := &heldStaging{calls: make(chan error, 64)}
	p := newPair(t, journal.Options{}, func(s stagingStore) stagingStore { h.stagingStore = s; return h })
	return p, h
}

// TestReceivedBeforeStaged: protocol B is told before the sync, C only behind it.
func TestReceivedBeforeStaged(t *testing.T) {
	p, h := newHeldPair(t)
	p.start(frame.ModeJournal)
	p.handle(p.batch(0, fill(1, 1)))
	a := said(p, func(a *frame.Ack) bool { return a.Received == p.at })
	if !a.Staged.IsZero() {
		t.Fatalf("staged %v while the store waits", a.Staged)
	}
	p.holds(0, fill(0, 1))
	h.calls <- nil
	p.applied()
	p.holds(0, fill(1, 1))
}

// TestBackPressure: a sender that is too fast waits, and a stop lets it go.
func TestBackPressure(t *testing.T) {
	p, h := newHeldPair(t)
	p.target.queue = 10 * block.Size
	p.start(frame.ModeJournal)
	handled := make(chan error)
	count := 0
	go func() {
		defer close(handled)
		for i := range 100 {
			if err := p.run.Handle(context.Background(), p.batch(i%64, fill(1, 1))); err != nil {
				handled <- err
				return
			}
			count++
		}
	}()
	said(p, func(a *frame.Ack) bool { return a.Received.Num >= 5 })
	if q := p.target.Stats().QueueBytes; q > 10*block.Size {
		t.Errorf("%d bytes in memory", q)
	}
	stopped := make(chan error)
	go func() { stopped <- p.run.Stop() }()
	if err := <-handled; !errors.Is(err, ErrStopped) {
		t.Errorf("handle: %v", err)
	}
	close(h.calls) // the store goes on
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if count < 5 || count > 10 {
		t.Errorf("%d batches fitted", count)
	}
	if m := p.target.Marks(); m.Received != m.Staged {
		t.Errorf("after stop: %+v", m)
	}
}

// TestDiskFails: the owner is told, nothing is lost, and after the disk was healed the next run applies what is staged.
func TestDiskFails(t *testing.T) {
	for name, fault := range map[string]disk.Fault{
		"write": {Ops: disk.OpWrite, Err: syscall.EIO, Torn: true},
		"sync":  {Ops: disk.OpSync, Skip: 1, Err: syscall.EIO},
		"full":  {Ops: disk.OpWrite | disk.OpZero, Err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, journal.Options{}, nil)
			p.faults.Add(fault)
			p.start(frame.ModeJournal)
			p.handle(p.batch(3, fill(1, 1)))
			err := p.failed()
			var diskErr *DiskError
			if !errors.As(err, &diskErr) || diskErr.Volume != 0 || !errors.Is(err, fault.Err) {
				t.Fatalf("stop: %v", err)
			}
			if got := p.happened(); !slices.Equal(got, []string{"disk"}) {
				t.Errorf("told %v", got)
			}
			if m := p.target.Marks(); m.Staged != p.at || !m.Applied.IsZero() {
				t.Errorf("marks %+v", m)
			}
			if err := p.target.Recover(t.Context()); !errors.As(err, &diskErr) {
				t.Errorf("recover on a failed disk: %v", err)
			}
			p.faults.Clear()
			p.run = p.target.Start(t.Context(), p.link)
			p.applied()
			p.holds(3, fill(1, 1))
			if err := p.run.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDiskFailsInComparison: reading fails too.
func TestDiskFailsInComparison(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.faults.Add(disk.Fault{Ops: disk.OpRead, Err: syscall.EIO})
	p.start(frame.ModeJournal)
	p.handle(&frame.Query{ID: 1, Len: 4096, Digest: uint8(digest.CRC32C), Sums: []byte{1, 2, 3, 4}})
	if err := p.failed(); !errors.Is(err, syscall.EIO) || !slices.Equal(p.happened(), []string{"disk"}) {
		t.Errorf("%v, told %v", err, p.happened())
	}
}

func TestStoreFails(t *testing.T) {
	p, h := newHeldPair(t)
	p.start(frame.ModeJournal)
	p.handle(p.batch(0, fill(1, 1)))
	h.calls <- journal.ErrFailed
	if err := p.failed(); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("stop: %v", err)
	}
	if got := p.happened(); !slices.Equal(got, []string{"store"}) {
		t.Errorf("told %v", got)
	}
	p.holds(0, fill(0, 1))
}

// TestStagingFull: at its limit staging waits for the disk and goes on; a batch larger than all of it is an error.
func TestStagingFull(t *testing.T) {
	p := newPair(t, journal.Options{MaxStaged: 5 * block.Size}, nil)
	p.start(frame.ModeJournal)
	for i := range 200 {
		p.handle(p.batch(i%64, fill(byte(i), 1)))
	}
	p.applied()
	p.holds(7, fill(7+192, 1))
	p.handle(p.batch(0, incompressible(8)))
	if err := p.failed(); !errors.Is(err, journal.ErrFull) || !slices.Equal(p.happened(), []string{"store"}) {
		t.Errorf("stop: %v, told %v", err, p.happened())
	}
}

func incompressible(blocks int) []byte {
	p := fill(0, blocks)
	x := uint64(1)
	for i := range p {
		x = x*6364136223846793005 + 1442695040888963407
		p[i] = byte(x >> 56)
	}
	return p
}

func TestLinkFails(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.run = p.target.Start(t.Context(), brokenLink{})
	p.handle(&frame.StreamStart{Mode: frame.ModeJournal})
	if err := p.failed(); !errors.Is(err, errInjected) {
		t.Errorf("stop: %v", err)
	}
	if got := p.happened(); len(got) != 0 {
		t.Errorf("told %v", got)
	}
}

type brokenLink struct{}

func (brokenLink) Send(context.Context, frame.Message) error { return errInjected }

// TestOneUser: a target has one user at a time.
func TestOneUser(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	second := p.target.Start(t.Context(), p.link)
	_, rollback := p.target.Rollback(t.Context())
	for what, err := range map[string]error{
		"handle": second.Handle(t.Context(), &frame.ResyncEnd{}), "stop": second.Stop(), "rollback": rollback,
		"recover": p.target.Recover(t.Context()), "drain": p.target.Drain(t.Context()),
	} {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%s beside a run: %v", what, err)
		}
	}
	if err := errors.Join(p.run.Stop(), p.target.Drain(t.Context())); err != nil {
		t.Error(err)
	}
	if err := p.run.Handle(t.Context(), &frame.ResyncEnd{}); !errors.Is(err, ErrStopped) {
		t.Errorf("handle after stop: %v", err)
	}
}

// TestStopKeepsWhatIsStaged: with the disk stuck, what is staged survives a stop, and Drain applies the rest.
func TestStopKeepsWhatIsStaged(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	release := make(chan struct{})
	p.target.volumes[0].disk = &stuckDisk{Disk: p.disk, release: release}
	p.start(frame.ModeJournal)
	for i := range 20 {
		p.handle(p.batch(i, fill(byte(i+1), 1)))
	}
	said(p, func(a *frame.Ack) bool { return a.Staged == p.at })
	stopped := make(chan error)
	go func() { stopped <- p.run.Stop() }()
	<-p.run.Done()
	close(release)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if m := p.target.Marks(); m.Staged != p.at || m.Received != p.at {
		t.Fatalf("marks %+v", m)
	}
	if err := p.target.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := p.target.Marks(); m.Applied != p.at {
		t.Errorf("drained to %+v", m)
	}
	for i := range 20 {
		p.holds(i, fill(byte(i+1), 1))
	}
}

// stuckDisk does not write before it is released.
type stuckDisk struct {
	disk.Disk
	release <-chan struct{}
}

func (d *stuckDisk) WriteAt(p []byte, off int64) error {
	<-d.release
	return d.Disk.WriteAt(p, off)
}

// TestVerifyWaits: a run is compared only once its position is applied.
func TestVerifyWaits(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	b := p.batch(2, fill(5, 1))
	p.handle(&frame.Verify{ID: 4, Off: 2 * block.Size, Len: 2 * block.Size, At: p.at, Digest: uint8(digest.SHA256),
		Sums: sumsOf(digest.SHA256, append(fill(5, 1), fill(6, 1)...))})
	p.handle(&frame.Query{ID: 5, Off: 2 * block.Size, Len: block.Size, Digest: uint8(digest.SHA256), Sums: sumsOf(digest.SHA256, fill(0, 1))})
	if q := said[*frame.QueryReply](p, nil); q.ID != 5 || q.Differ[0] != 0 {
		t.Errorf("query: %+v", q)
	}
	p.handle(b)
	if v := said[*frame.VerifyReply](p, nil); v.ID != 4 || v.Differ[0] != 0b10 {
		t.Errorf("verify: %+v", v)
	}
}

// TestQueryAtItsPlace: a write behind a query does not change what the query sees, although it is compared beside.
func TestQueryAtItsPlace(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	reading, release := make(chan struct{}), make(chan struct{})
	p.target.volumes[0].disk = &slowReads{Disk: p.disk, reading: reading, release: release}
	p.start(frame.ModeJournal)
	p.handle(&frame.Query{ID: 1, Len: 4 * block.Size, Digest: uint8(digest.CRC32C), Sums: sumsOf(digest.CRC32C, fill(0, 4))})
	<-reading
	p.handle(p.batch(9, fill(8, 1))) // elsewhere: need not wait
	elsewhere := p.at
	p.handle(p.batch(3, fill(7, 1)))
	said(p, func(a *frame.Ack) bool { return a.Staged == p.at })
	p.holds(3, fill(0, 1))
	release <- struct{}{}
	if q := said[*frame.QueryReply](p, nil); q.Differ[0] != 0 {
		t.Errorf("the query has seen a later write: %b", q.Differ)
	}
	if m := p.target.Marks(); m.Applied.Less(elsewhere) {
		said(p, func(a *frame.Ack) bool { return a.Applied == p.at })
	}
}

type slowReads struct {
	disk.Disk
	reading chan<- struct{}
	release <-chan struct{}
}

func (d *slowReads) ReadAt(p []byte, off int64) error {
	d.reading <- struct{}{}
	<-d.release
	return d.Disk.ReadAt(p, off)
}
