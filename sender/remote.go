package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/wan/frame"
)

const (
	// maxRemote bounds the requests that a peer has in work for a Primary without a disk: as many messages of at most frame.MaxIO.
	maxRemote = 32
	// remotePieces bounds the pieces of one long request that are under way together.
	remotePieces = 8
	// remoteTries bounds how often a request is sent again because its data arrived damaged.
	remoteTries = 5
)

// ErrNoData is returned where there is no disk here and no peer that serves one.
var ErrNoData = fmt.Errorf("no data accessible: no disk here, and no peer that serves: %w", syscall.EIO)

// Remote serves the clients of a Primary that has no good disk: a peer carries out each request. A request is answered once the
// peer has it on stable storage, so that neither a crash of the peer nor a link that breaks takes back what a client was told.
// While no peer serves, requests wait; what was not answered is sent again to the next one that does. Its methods may be called
// concurrently.
type Remote struct {
	gate    gate
	digest  digest.Alg
	logger  *slog.Logger
	volumes []*RemoteVolume
	slots   chan struct{} // one token for each request in work

	mu      sync.Mutex // guards what follows
	link    Link       // nil while no peer serves
	ctx     context.Context
	waiting map[uint64]*remoteCall // not answered
	next    uint64
	failing bool // no peer serves, and requests do not wait for one
}

// RemoteConfig of a Remote.
type RemoteConfig struct {
	Sizes  map[uint16]int64 // of the volumes by number, in bytes
	Digest digest.Alg       // over the data of requests
	Logger *slog.Logger
}

// RemoteVolume is one volume, as Volume is where the disk is here.
type RemoteVolume struct {
	remote *Remote
	number uint16
	size   int64
	locks  rangeLock
}

// remoteCall is a request that was not answered yet.
type remoteCall struct {
	msg   frame.IO
	tries int
	done  chan remoteAnswer // one

	sending sync.Mutex // held while the message, and with it the caller's data, is being sent
	left    bool       // guarded by sending: the caller waits no more
}

type remoteAnswer struct {
	data []byte
	err  error
}

// NewRemote returns a Remote that no peer serves yet: requests wait.
func NewRemote(c RemoteConfig) *Remote {
	r := &Remote{digest: c.Digest, logger: c.Logger, slots: make(chan struct{}, maxRemote), waiting: map[uint64]*remoteCall{}}
	for number, size := range c.Sizes {
		r.volumes = append(r.volumes, &RemoteVolume{remote: r, number: number, size: size})
	}
	r.gate.setOpen(true)
	return r
}

// Volume returns a volume by its number, nil if there is none.
func (r *Remote) Volume(number uint16) *RemoteVolume {
	for _, v := range r.volumes {
		if v.number == number {
			return v
		}
	}
	return nil
}

// Pending returns the number of requests inside.
func (r *Remote) Pending() int { return r.gate.count() }

// Serve has a peer carry out the requests from now on, those first that were not answered, in the order in which they came. It returns when those are
// sent, or ctx, the session's, ends.
func (r *Remote) Serve(ctx context.Context, link Link) error {
	r.mu.Lock()
	r.link, r.ctx, r.failing = link, ctx, false
	var again []*remoteCall
	for _, c := range r.waiting {
		again = append(again, c)
	}
	r.mu.Unlock()
	slices.SortFunc(again, func(a, b *remoteCall) int { return cmp.Compare(a.msg.ID, b.msg.ID) })
	for _, c := range again {
		if err := c.send(ctx, link); err != nil {
			return err
		}
	}
	return nil
}

// Lost says that the peer serves no more. Requests wait for the next.
func (r *Remote) Lost() {
	r.mu.Lock()
	r.link = nil
	r.mu.Unlock()
}

// Fail ends the requests that wait for a peer, and those to come, with ErrNoData, until a peer serves again. While one serves it does nothing.
func (r *Remote) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link != nil {
		return
	}
	r.failing = true
	for id, c := range r.waiting {
		delete(r.waiting, id)
		c.done <- remoteAnswer{err: ErrNoData}
	}
}

// Served reports whether a peer serves.
func (r *Remote) Served() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link != nil
}

// Failing reports whether requests are refused for want of a peer.
func (r *Remote) Failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing
}

// Suspend holds back new requests and waits for those inside; Resume lets them go on.
func (r *Remote) Suspend(ctx context.Context) error {
	r.gate.suspend()
	return r.gate.drained(ctx)
}

// Resume ends Suspend.
func (r *Remote) Resume() { r.gate.resume() }

// Suspended reports whether requests are held back.
func (r *Remote) Suspended() bool { return r.gate.suspended() }

// Close ends it: requests held back and requests to come get ErrNotPrimary; those that wait for a peer get ErrNoData.
func (r *Remote) Close() {
	r.gate.setOpen(false)
	r.Lost()
	r.Fail()
}

// Handle takes an answer of the peer that serves.
func (r *Remote) Handle(m *frame.IOReply) {
	r.mu.Lock()
	c := r.waiting[m.ID]
	if c == nil || m.Code == frame.IOGone { // the caller left; or the peer stopped, and the next one is asked
		r.mu.Unlock()
		return
	}
	answer := remoteAnswer{data: m.Data, err: c.failure(m)}
	if errors.Is(answer.err, errDamaged) && c.tries < remoteTries && r.link != nil {
		c.tries++
		ctx, link := r.ctx, r.link
		r.mu.Unlock()
		r.logger.Warn("a request of a client arrived damaged; sent again", "volume", c.msg.Volume, "offset", c.msg.Off, "err", answer.err)
		_ = c.send(ctx, link) // a link that fails ends the session, which says so to Lost
		return
	}
	delete(r.waiting, m.ID)
	r.mu.Unlock()
	c.done <- answer
}

var errDamaged = errors.New("data does not match its digest")

// failure is what an answer means to the client.
func (c *remoteCall) failure(m *frame.IOReply) error {
	switch m.Code {
	case frame.IODone:
	case frame.IODamaged:
		return fmt.Errorf("%w at the peer: %w", errDamaged, syscall.EIO)
	case frame.IONoSpace:
		return fmt.Errorf("the peer's disk is full: %w", syscall.ENOSPC)
	default:
		return fmt.Errorf("the peer's disk failed: %w", syscall.EIO)
	}
	if c.msg.Op != frame.OpRead {
		return nil
	}
	if len(m.Data) != int(c.msg.Len) || !slices.Equal(digest.Alg(m.Digest).Sum(nil, m.Data), m.Sum) {
		return fmt.Errorf("%w: %d bytes for %d: %w", errDamaged, len(m.Data), c.msg.Len, syscall.EIO)
	}
	return nil
}

// send sends the request, unless its caller has left. The data is the caller's until then.
func (c *remoteCall) send(ctx context.Context, link Link) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.left {
		return nil
	}
	return link.Send(ctx, &c.msg)
}

// do has a peer carry out one message.
func (r *Remote) do(ctx context.Context, m frame.IO) ([]byte, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &remoteCall{msg: m, done: make(chan remoteAnswer, 1)}
	r.mu.Lock()
	if r.failing {
		r.mu.Unlock()
		return nil, ErrNoData
	}
	r.next++
	c.msg.ID = r.next
	r.waiting[c.msg.ID] = c
	link, sctx := r.link, r.ctx
	r.mu.Unlock()
	if link != nil {
		_ = c.send(sctx, link) // a link that fails ends the session, which says so to Lost
	}
	select {
	case a := <-c.done:
		return a.data, a.err
	case <-ctx.Done():
		r.mu.Lock()
		delete(r.waiting, c.msg.ID)
		r.mu.Unlock()
		c.sending.Lock()
		c.left = true
		c.sending.Unlock()
		return nil, ctx.Err()
	}
}

// each carries out a range in pieces of at most step bytes.
func each(ctx context.Context, off, n, step int64, fn func(ctx context.Context, off, n int64) error) error {
	if n <= step {
		return fn(ctx, off, n)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(remotePieces)
	for end := off + n; off < end; off += step {
		at, length := off, min(step, end-off)
		g.Go(func() error { return fn(ctx, at, length) })
	}
	return g.Wait()
}

// Size is the volume's size in bytes.
func (v *RemoteVolume) Size() int64 { return v.size }

// ReadAt fills p from off.
func (v *RemoteVolume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.remote.gate.enter(ctx); err != nil {
		return err
	}
	defer v.remote.gate.leave()
	return each(ctx, off, int64(len(p)), frame.MaxIO, func(ctx context.Context, at, n int64) error {
		data, err := v.remote.do(ctx, frame.IO{Op: frame.OpRead, Volume: v.number, Off: at, Len: uint32(n)})
		if err == nil {
			copy(p[at-off:], data)
		}
		return v.failed("read", at, n, err)
	})
}

// WriteAt writes p at off, durably whatever fua says.
func (v *RemoteVolume) WriteAt(ctx context.Context, p []byte, off int64, _ bool) error {
	if len(p) == 0 {
		return nil
	}
	if err := v.remote.gate.enter(ctx); err != nil {
		return err
	}
	defer v.remote.gate.leave()
	defer v.locks.unlock(v.locks.lock(block.Range{Off: off, Len: int64(len(p))}))
	return each(ctx, off, int64(len(p)), frame.MaxIO, func(ctx context.Context, at, n int64) error {
		alg, data := v.remote.digest, p[at-off:at-off+n]
		_, err := v.remote.do(ctx, frame.IO{Op: frame.OpWrite, Volume: v.number, Off: at, Len: uint32(n), Digest: uint8(alg), Sum: alg.Sum(nil, data), Data: data})
		return v.failed("write", at, n, err)
	})
}

// Zero makes a range read as zeroes; unless noHole its space may be given back.
func (v *RemoteVolume) Zero(ctx context.Context, off, n int64, noHole, _ bool) error {
	if noHole {
		return v.span(ctx, frame.OpZeroKept, off, n)
	}
	return v.span(ctx, frame.OpZero, off, n)
}

// Trim gives a range back. It reads as zeroes afterwards.
func (v *RemoteVolume) Trim(ctx context.Context, off, n int64, _ bool) error {
	return v.span(ctx, frame.OpTrim, off, n)
}

func (v *RemoteVolume) span(ctx context.Context, op frame.Op, off, n int64) error {
	if n == 0 {
		return nil
	}
	if err := v.remote.gate.enter(ctx); err != nil {
		return err
	}
	defer v.remote.gate.leave()
	defer v.locks.unlock(v.locks.lock(block.Range{Off: off, Len: n}))
	return each(ctx, off, n, frame.MaxZeroIO, func(ctx context.Context, at, n int64) error {
		_, err := v.remote.do(ctx, frame.IO{Op: op, Volume: v.number, Off: at, Len: uint32(n)})
		return v.failed("zero", at, n, err)
	})
}

// Flush returns when every write completed before it began is on stable storage: each was when it completed, so that the peer only
// has to be there.
func (v *RemoteVolume) Flush(ctx context.Context) error {
	if err := v.remote.gate.enter(ctx); err != nil {
		return err
	}
	defer v.remote.gate.leave()
	_, err := v.remote.do(ctx, frame.IO{Op: frame.OpFlush, Volume: v.number})
	return v.failed("flush", 0, 0, err)
}

// Segments describes allocation: nothing is known here of holes there.
func (v *RemoteVolume) Segments(_ context.Context, off, n int64) ([]disk.Segment, error) {
	return []disk.Segment{{Off: off, Len: n}}, nil
}

func (v *RemoteVolume) failed(what string, off, n int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s volume %d at %d, %d bytes, through the peer: %w", what, v.number, off, n, err)
}
