package sender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/ship"
	"drship/wan/frame"
)

// Online verify. Each run of blocks is read under the volume's range lock; its digests go to the peer with the position
// that the write order had then, and the peer compares once it has applied that position. By then it may have applied
// more: so every write that is submitted between the read and the answer marks its blocks in the question. A block that
// differs and was not written meanwhile differs for certain. One that was written is asked again.
//
// The messages need no place in the stream, so that a verify runs beside the pump, on goroutines of its own.

const (
	verifyBlocks  = 256                           // blocks of one question: 1 MiB read, 8 KiB sent with sha256
	verifyWindow  = 32                            // questions that the peer has not answered; it holds back those whose position is to come
	verifyReaders = 2                             // goroutines that read and hash: one reads while the other hashes
	verifyTries   = 40                            // how often a block that is being written is asked again
	verifyDelay   = 10 * time.Millisecond         // before it is asked again, doubled up to 32 times
	verifyAgain   = 1024                          // runs to be asked again, beyond which nothing new is begun
	verifyCheck   = time.Second                   // how often a verify looks whether the peer is still followed by journal
	verifyBurst   = verifyBlocks * block.Size * 2 // bytes
)

// ErrVerifyBehind ends a verify whose peer is no longer followed by the journal: it does not get what was compared.
var ErrVerifyBehind = errors.New("replication to the peer fell behind its journal")

// VolumeRange is a run of bytes of one volume.
type VolumeRange struct {
	Volume uint16
	block.Range
}

// VerifyConfig says what to compare with a peer, and how.
type VerifyConfig struct {
	Link   Link // its Send must not be cut off by the context of Run, else stopping a verify ends the session
	Alg    digest.Alg
	Ranges []VolumeRange // in this order; offsets are multiples of block.Size
	// Live says that a stream feeds the peer, so that it has to reach the position of each question first. Without
	// it nobody writes on either side.
	Live bool
	// Pace is asked for the rate each time a run is due.
	Pace func() ship.Pace
	// Differ is called for each run of blocks that differs, once it is marked out of sync. It must not wait.
	Differ func(VolumeRange)
}

// VerifyProgress is how far a verify is. Sizes are bytes, differences blocks.
type VerifyProgress struct {
	Total, Done int64
	Differ      uint64 // blocks found to differ
	Asked       uint64 // blocks asked again, because they were written while they were compared
	Unsettled   uint64 // blocks that were written so often that they could not be compared
	Index       int    // the range in which the first run lies that is not done, and its offset; len(Ranges) at the end
	Off         int64
	Pace        ship.Pace
	Started     time.Time
}

// Verify is one online verify with one peer.
type Verify struct {
	peer *Peer
	cfg  VerifyConfig
	kick chan struct{}

	mu       sync.Mutex // guards what follows; Group.order comes first
	lastID   uint64
	out      map[uint64]*question
	again    []*question
	index    int   // the walk: the range it is in
	off      int64 // and the next byte
	progress VerifyProgress
	limit    *rate.Limiter // dispatcher only
}

// question is a run of blocks whose digests are with the peer, or on their way.
type question struct {
	id     uint64
	index  int // of the range it belongs to
	volume *Volume
	block.Range
	tries   int
	due     time.Time
	written []byte // blocks written since the read: guarded by Group.order
}

func (q *question) blocks() int { return int((q.Len + block.Size - 1) / block.Size) }

// touch marks what a write changes. Called with Group.order held.
func (q *question) touch(v *Volume, r block.Range) {
	if q.volume != v || !q.Overlaps(r) {
		return
	}
	from := max(r.Off, q.Off) - q.Off
	to := min(r.End(), q.End()) - q.Off
	for b := from / block.Size; b*block.Size < to; b++ {
		q.written[b/8] |= 1 << (b % 8)
	}
}

// touchLocked tells every open question of a write. Called with order held, before the write can reach a peer.
func (g *Group) touchLocked(v *Volume, r block.Range) {
	for _, q := range g.questions {
		q.touch(v, r)
	}
	for _, p := range g.peers {
		if p.onWay != nil {
			p.onWay.touch(v, r)
		}
	}
}

// openQuestion is called with the question's range locked, so that no write to it is between the write order and the
// disk. It returns the end of the write order.
func (g *Group) openQuestion(q *question) block.Seq {
	g.order.Lock()
	defer g.order.Unlock()
	q.written = make([]byte, (q.blocks()+7)/8)
	g.questions = append(g.questions, q)
	return g.last
}

func (g *Group) closeQuestion(q *question) {
	g.order.Lock()
	defer g.order.Unlock()
	if i := slices.Index(g.questions, q); i >= 0 {
		g.questions = slices.Delete(g.questions, i, i+1)
	}
}

// Verify prepares a verify with the peer; Run carries it out.
func (p *Peer) Verify(cfg VerifyConfig) (*Verify, error) {
	v := &Verify{peer: p, cfg: cfg, kick: make(chan struct{}, 1), out: map[uint64]*question{}, limit: rate.NewLimiter(rate.Inf, verifyBurst)}
	if cfg.Alg == digest.None || !cfg.Alg.Valid() {
		return nil, errors.New("verify without a digest")
	}
	for _, r := range cfg.Ranges {
		vol := p.group.Volume(r.Volume)
		if vol == nil || r.Off < 0 || r.Off%block.Size != 0 || r.Len <= 0 || r.End() > vol.Size() {
			return nil, fmt.Errorf("verify volume %d from %d, %d bytes: outside the volume", r.Volume, r.Off, r.Len)
		}
		v.progress.Total += r.Len
	}
	if len(cfg.Ranges) > 0 {
		v.off = cfg.Ranges[0].Off
	}
	v.progress.Started = time.Now()
	return v, nil
}

// Run compares everything. It returns nil once every block is compared, or was written too often to be; else why it
// ended before.
func (v *Verify) Run(ctx context.Context) error {
	defer v.closeAll()
	group, ctx := errgroup.WithContext(ctx)
	todo := make(chan *question)
	group.Go(func() error {
		defer close(todo)
		return v.dispatch(ctx, todo)
	})
	for range verifyReaders {
		group.Go(func() error {
			var buf []byte
			for q := range todo {
				if cap(buf) < int(q.Len) {
					buf = make([]byte, verifyBlocks*block.Size)
				}
				if err := v.ask(ctx, q, buf[:q.Len]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return errors.Join(err, v.peer.FlushBitmaps())
}

// closeAll takes back what is not answered.
func (v *Verify) closeAll() {
	v.mu.Lock()
	var open []*question
	for _, q := range v.out {
		open = append(open, q)
	}
	clear(v.out)
	v.mu.Unlock()
	for _, q := range open {
		v.peer.group.closeQuestion(q)
	}
}

// dispatch hands runs out until all are answered.
func (v *Verify) dispatch(ctx context.Context, todo chan<- *question) error {
	for {
		if v.cfg.Live && !v.peer.ByJournal() {
			return ErrVerifyBehind
		}
		q, wait, done := v.next(time.Now())
		if done {
			return nil
		}
		if q == nil {
			if err := v.sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		select {
		case todo <- q:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *Verify) sleep(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-v.kick:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// next takes the next run: what has to be asked again and is due, else where the walk stands.
func (v *Verify) next(now time.Time) (q *question, wait time.Duration, done bool) {
	pace := v.cfg.Pace()
	v.mu.Lock()
	defer v.mu.Unlock()
	finished := v.index == len(v.cfg.Ranges)
	switch {
	case finished && len(v.out) == 0 && len(v.again) == 0:
		v.progress.Index, v.progress.Off = v.index, 0
		return nil, 0, true
	case len(v.out) >= verifyWindow:
		return nil, verifyCheck, false
	}
	if wait := v.paced(now, pace); wait > 0 {
		return nil, min(wait, verifyCheck), false
	}
	if q, wait = v.dueLocked(now); q == nil {
		if finished || len(v.again) >= verifyAgain {
			return nil, wait, false
		}
		q = v.walkLocked()
	}
	v.lastID++
	q.id = v.lastID
	v.out[q.id] = q
	v.limit.ReserveN(now, int(q.Len))
	return q, 0, false
}

// paced says how long the next run has to wait. The limiter is the dispatcher's alone.
func (v *Verify) paced(now time.Time, pace ship.Pace) time.Duration {
	if pace != v.progress.Pace {
		v.progress.Pace = pace
		limit := rate.Inf
		if pace.Rate > 0 {
			limit = rate.Limit(pace.Rate)
		}
		v.limit.SetLimit(limit)
	}
	if tokens := v.limit.TokensAt(now); tokens < 1 {
		return time.Duration((1-tokens)/float64(v.limit.Limit())*float64(time.Second)) + time.Millisecond
	}
	return 0
}

// dueLocked takes a run that has to be asked again now; else it says how long to wait for one.
func (v *Verify) dueLocked(now time.Time) (*question, time.Duration) {
	wait := verifyCheck
	for i, q := range v.again {
		if left := q.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		v.again = slices.Delete(v.again, i, i+1)
		return q, 0
	}
	return nil, wait
}

func (v *Verify) walkLocked() *question {
	r := v.cfg.Ranges[v.index]
	q := &question{index: v.index, volume: v.peer.group.Volume(r.Volume), Range: block.Range{Off: v.off, Len: min(verifyBlocks*block.Size, r.End()-v.off)}}
	if v.off = q.End(); v.off >= r.End() {
		if v.index++; v.index < len(v.cfg.Ranges) {
			v.off = v.cfg.Ranges[v.index].Off
		}
	}
	return q
}

// ask reads a run and sends its digests.
func (v *Verify) ask(ctx context.Context, q *question, buf []byte) error {
	vol := q.volume
	lock := vol.locks.lock(q.Range)
	at := v.peer.group.openQuestion(q)
	err := vol.disk.ReadAt(buf, q.Off)
	vol.locks.unlock(lock)
	if err != nil {
		return vol.diskFailed("verify read", q.Off, q.Len, err)
	}
	v.peer.group.counters.DiskRead.Add(uint64(q.Len))
	m := &frame.Verify{ID: q.id, Volume: vol.number, Off: q.Off, Len: uint32(q.Len), Digest: uint8(v.cfg.Alg)}
	if v.cfg.Live {
		m.At = at
	}
	m.Sums = make([]byte, 0, q.blocks()*v.cfg.Alg.Size())
	for b := range chunksOf(buf) {
		m.Sums = v.cfg.Alg.Sum(m.Sums, b)
	}
	if err := v.cfg.Link.Send(ctx, m); err != nil {
		return fmt.Errorf("send digests to %s: %w", v.peer.name, err)
	}
	return nil
}

// Handle takes an answer of the peer. An error means that the peer broke the protocol.
func (v *Verify) Handle(m *frame.VerifyReply) error {
	v.mu.Lock()
	q, ok := v.out[m.ID]
	v.mu.Unlock()
	if !ok {
		return nil // of a verify that was stopped
	}
	v.peer.group.closeQuestion(q) // nobody marks it any more
	defer v.answered(q)
	if len(m.Differ) < (q.blocks()+7)/8 {
		return fmt.Errorf("%w: answer to verify %d does not fit", errProtocol, m.ID)
	}
	for i := 0; i < q.blocks(); {
		verdict := q.verdict(m.Differ, i)
		j := i + 1
		for j < q.blocks() && q.verdict(m.Differ, j) == verdict {
			j++
		}
		part := block.Range{Off: q.Off + int64(i)*block.Size, Len: min(int64(j)*block.Size, q.Len) - int64(i)*block.Size}
		v.settle(q, part, verdict, uint64(j-i))
		i = j
	}
	return nil
}

// verdict of a question's block.
type verdict int

const (
	equal verdict = iota
	differs
	unsure // it differs, and was written meanwhile
)

func (q *question) verdict(differ []byte, i int) verdict {
	switch {
	case !bit(differ, i):
		return equal
	case bit(q.written, i):
		return unsure
	}
	return differs
}

// settle takes note of what became of a run of n blocks.
func (v *Verify) settle(q *question, r block.Range, is verdict, n uint64) {
	if is == differs {
		v.peer.bitmaps[q.volume.index].Set(r)
		v.cfg.Differ(VolumeRange{Volume: q.volume.number, Range: r})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if is == unsure && q.tries < verifyTries {
		v.progress.Asked += n
		delay := verifyDelay << min(q.tries, 5)
		v.again = append(v.again, &question{index: q.index, volume: q.volume, Range: r, tries: q.tries + 1, due: time.Now().Add(delay)})
		return
	}
	v.progress.Done += r.Len
	switch is {
	case differs:
		v.progress.Differ += n
	case unsure:
		v.progress.Unsettled += n
	}
}

// answered takes a question off, once everything in it is settled or stands to be asked again.
func (v *Verify) answered(q *question) {
	v.mu.Lock()
	delete(v.out, q.id)
	v.mu.Unlock()
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// Progress returns how far the verify is.
func (v *Verify) Progress() VerifyProgress {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.progress
	p.Index, p.Off = v.index, v.off
	lower := func(q *question) {
		if q.index < p.Index || q.index == p.Index && q.Off < p.Off {
			p.Index, p.Off = q.index, q.Off
		}
	}
	for _, q := range v.out {
		lower(q)
	}
	for _, q := range v.again {
		lower(q)
	}
	return p
}
