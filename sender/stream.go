package sender

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/ship"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// Link is what a stream needs of a session. Send keeps the order of its calls on the data lane and does not keep m.
type Link interface {
	Send(ctx context.Context, m frame.Message) error
}

// StreamConfig says how one session is to be served.
type StreamConfig struct {
	Link     Link
	Protocol byte      // 'A', 'B' or 'C'
	Position block.Seq // where the peer says it stands
	Resync   bool      // the peer has to be told the end of a resync, even if no block differs any more
	Reduce   reduce.Options
	// Effort, where set, is what the stream may choose from at run time in place of the Codec and Level of Reduce.
	Effort *EffortRange
	// RTT, where set, is asked for the round trip of the line: the shortest seen, for how far the peer is, not how busy either side.
	RTT func() time.Duration
	// Window bounds the bytes of records sent and not yet staged: what the line holds (rate × round trip) and what
	// gathers at the peer while it syncs. 0 means DefaultWindow.
	Window int64
	// Csums is the digest by which blocks are compared before they are sent; digest.None sends them unseen.
	Csums digest.Alg
	// Pace is asked for the rate of the resync each time a chunk is due.
	Pace func() ship.Pace
	// ChasePace, where set, is asked instead while the peer is chased: see Stream.Chasing. nil is no limit.
	ChasePace func() ship.Pace
	// LineRate, where set, is asked for the ceiling of everything that the stream sends, in bytes a second; 0 is none.
	LineRate func() int64
	// Starting is called before each StreamStart is sent, off all locks: the owner makes its identifiers durable and
	// fills in what the peer needs to know. Where a resync can leave volumes alone Volume has an entry for each, in the order
	// of the group's, with the blocks that are marked as OOS; a volume without any is not part of the resync.
	Starting func(ctx context.Context, m *frame.StreamStart) error
	// Synced is called when the peer says that a resync is finished, durably.
	Synced func(ctx context.Context) error
	// Ending, where set, is called as the stream ends, before any write that waits for this peer is let go on: the place
	// to Freeze the group.
	Ending func()
	// AheadDwell is how long the peer is left Behind at least, once the journal was given up. 0 means DefaultDwell.
	AheadDwell time.Duration
}

// The defaults of StreamConfig.
const (
	DefaultWindow = 32 << 20
	DefaultDwell  = 60 * time.Second
)

// Stream brings one connected peer up to date and keeps it so.
type Stream struct {
	peer    *Peer
	cfg     StreamConfig
	encoder *reduce.Encoder
	batch   batchBuffers

	tuning tuning       // pump only
	effort atomic.Int32 // ship.Effort, for whoever looks
	offer  atomic.Int64 // bytes for recent blocks that the peer has offered to keep

	lineFree time.Time // pump only: when what was sent has passed the ceiling of the line

	news    atomic.Pointer[frame.Peers] // to be told before the next batch; nil: nothing
	mode    atomic.Uint32               // frame.Mode
	chasing atomic.Bool                 // the resync that runs is a chase
	behind  bool                        // pump only: the journal was given up, and the course after that taken
	exact   bool                        // pump only: no record is sent that the peer may have already
	noted   time.Time                   // pump only: when the congestion was told last
	walked  bool                        // a resync has come to the end of the marked blocks since then; only the pump looks

	askedAt    time.Time // pump only: when the pace was asked for last, and the answer
	askedPace  ship.Pace
	askedCrowd bool

	paused atomic.Bool // resync held
	held   atomic.Bool // replication held

	// Guarded by peer.mu.
	flight    inflight
	from      block.Seq // of the newest StreamStart
	resync    *resync
	repair    *repair // nil unless one runs; never beside a resync
	lastChunk uint64  // newest identity of a chunk or query; never used twice in a session
	failure   error   // set by Handle; ends the pump
	memory    memory  // what the encoder has to be told before the next batch

	stats StreamStats
}

// StreamStats count what one stream did; all are monotonic.
type StreamStats struct {
	Batches, Records, Folded   atomic.Uint64
	BytesRaw, BytesPacked      atomic.Uint64 // of records shipped: as written, as sent
	BytesFolded, BytesReduced  atomic.Uint64 // in between: what folding left; what differences and references left, with what says where it goes
	BytesDelta, BytesReferred  atomic.Uint64 // of these, taken from recent blocks and from the peer's disks
	Resends                    atomic.Uint64
	ResyncBytes, ResyncPacked  atomic.Uint64 // of chunks: as read, as sent
	Queries, QueryBytes, Equal atomic.Uint64 // digests sent; bytes compared; blocks found equal
	Carried                    atomic.Uint64 // bytes of blocks that went out as data, of records and of a resync
	Waited                     atomic.Int64  // nanoseconds in which the line did not take what was to be sent
}

// Open makes a stream for a peer that has just connected. Run starts it.
func (p *Peer) Open(cfg StreamConfig) (*Stream, error) {
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.AheadDwell <= 0 {
		cfg.AheadDwell = DefaultDwell
	}
	s := &Stream{peer: p, cfg: cfg}
	if err := s.newEncoder(); err != nil {
		return nil, fmt.Errorf("open stream to %s: %w", p.name, err)
	}
	return s, nil
}

// Run ships until ctx ends, the link fails or the peer breaks the protocol. It returns why. While it runs, writes
// wait for this peer as the protocol asks; when it returns, none does.
func (s *Stream) Run(ctx context.Context) error {
	defer s.detach()
	defer func() { s.endRepair(errors.New("the stream to the peer ended")) }()
	if err := s.begin(ctx); err != nil {
		return err
	}
	for {
		if err := s.failed(ctx); err != nil {
			return err
		}
		shipped, err := s.step(ctx)
		if err != nil {
			return err
		}
		if shipped.any {
			continue
		}
		if err := s.idle(ctx, shipped); err != nil {
			return err
		}
	}
}

// progress is what one turn of the pump did, and how long it may sleep if it did nothing (0: until woken).
type progress struct {
	any    bool
	wait   time.Duration
	gather bool // it lets a batch grow for wait: more writes need not wake it
}

// and is what two parts of a turn did together.
func (p progress) and(q progress) progress {
	wait := p.wait
	if wait == 0 || q.wait > 0 && q.wait < wait {
		wait = q.wait
	}
	return progress{any: p.any || q.any, wait: wait, gather: p.gather || q.gather}
}

// step is one turn of the pump. One batch, then at most one piece of the resync: replication goes first, and neither
// starves.
func (s *Stream) step(ctx context.Context) (progress, error) {
	if err := s.tell(ctx); err != nil {
		return progress{}, err
	}
	s.noteFlow(time.Now())
	if !s.peer.ByJournal() {
		s.endRepair(ErrVerifyBehind)
		if wait := s.lineWait(); wait > 0 {
			return progress{wait: wait}, nil
		}
		return s.stepBehind(ctx)
	}
	if wait := s.lineWait(); wait > 0 {
		return progress{wait: wait}, nil
	}
	batch, err := s.shipBatch(ctx)
	if err != nil {
		return progress{}, err
	}
	piece, err := s.shipResync(ctx)
	if err != nil {
		return progress{}, err
	}
	mended, err := s.shipRepair(ctx)
	if err != nil {
		return progress{}, err
	}
	return batch.and(piece).and(mended), nil
}

// begin decides where the stream starts and tells the peer.
func (s *Stream) begin(ctx context.Context) error {
	p := s.peer
	if err := p.awaitConversion(ctx); err != nil {
		return err
	}
	end := p.group.End()
	from, covered := p.track(s.cfg.Position)
	s.exact = covered || !from.Less(end)
	p.mu.Lock()
	p.congestion.Dwell = s.cfg.AheadDwell
	p.mu.Unlock()
	mode := frame.ModeJournal
	blocks := p.OutOfSync()
	if !covered || blocks > 0 || s.cfg.Resync {
		mode = frame.ModeResync
	}
	return s.announce(ctx, mode, from, blocks)
}

// announce sends StreamStart and takes up the mode.
func (s *Stream) announce(ctx context.Context, mode frame.Mode, from block.Seq, blocks uint64) error {
	p := s.peer
	m := &frame.StreamStart{Mode: mode, From: from, Blocks: blocks}
	var out []bool
	if mode == frame.ModeResync && s.exact && !s.chasing.Load() {
		out = s.divide(m)
	}
	if err := s.cfg.Starting(ctx, m); err != nil {
		return fmt.Errorf("start stream to %s: %w", p.name, err)
	}
	if mode != frame.ModeAhead {
		trimmed, end := p.group.log.Start(), p.group.End()
		if from.Less(trimmed) {
			trimmed = from
		}
		p.group.order.Lock()
		p.mu.Lock()
		p.marks = ship.Start(trimmed, from, end)
		s.flight.reset()
		s.memory = max(s.memory, memoryLost)
		s.from, s.resync = from, nil
		if mode == frame.ModeResync {
			s.resync = newResync(m.Blocks)
			s.resync.chase, s.resync.leaves = s.chasing.Load(), out
		}
		p.stream = s
		if p.tracking == byJournal { // else nobody waits for the peer
			p.protocol.Store(uint32(s.cfg.Protocol))
		}
		p.mu.Unlock()
		p.group.order.Unlock()
	}
	s.mode.Store(uint32(mode))
	p.group.logger.Info("stream starts", "peer", p.name, "mode", mode, "from", from, "blocks", blocks)
	if err := s.cfg.Link.Send(ctx, m); err != nil {
		return fmt.Errorf("send stream start to %s: %w", p.name, err)
	}
	return nil
}

// detach lets all waiting writes go: the peer is gone.
func (s *Stream) detach() {
	p := s.peer
	if s.cfg.Ending != nil {
		s.cfg.Ending()
	}
	p.mu.Lock()
	if p.stream == s {
		p.stream = nil
		p.protocol.Store(0)
	}
	p.releaseLocked()
	p.mu.Unlock()
}

func (s *Stream) failed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	return s.failure
}

func (s *Stream) fail(err error) {
	s.peer.mu.Lock()
	if s.failure == nil {
		s.failure = err
	}
	s.peer.mu.Unlock()
	s.peer.wake()
}

// idle sleeps until something happened or the wait is over.
func (s *Stream) idle(ctx context.Context, turn progress) error {
	var timer <-chan time.Time
	if turn.wait > 0 {
		t := time.NewTimer(turn.wait)
		defer t.Stop()
		timer = t.C
	}
	if turn.gather {
		s.peer.gathering.Store(true)
		defer s.peer.gathering.Store(false)
	}
	select {
	case <-s.peer.kick:
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Handle takes a message of the control lane that is meant for the source. An error means that the peer broke the
// protocol; the stream ends with it.
func (s *Stream) Handle(ctx context.Context, m frame.Message) error {
	var err error
	switch m := m.(type) {
	case *frame.Ack:
		err = s.acked(m)
	case *frame.Resend:
		err = s.resend(m)
	case *frame.ChunkAck:
		err = s.chunksDone(m)
	case *frame.QueryReply:
		err = s.queryAnswered(m)
	case *frame.ResyncDone:
		err = s.resyncDone(ctx, m)
	case *frame.Offer:
		s.offered(m)
	default:
		return fmt.Errorf("message %T is not for a source", m)
	}
	if err != nil {
		s.fail(err)
	}
	s.peer.wake()
	return err
}

// Mode returns how the peer is brought up to date at the moment.
func (s *Stream) Mode() frame.Mode { return frame.Mode(s.mode.Load()) }

// PauseResync holds the resync, or lets it go on; replication is not touched.
func (s *Stream) PauseResync(on bool) {
	s.paused.Store(on)
	s.peer.wake()
}

// Hold holds replication, or lets it go on: the journal goes on growing.
func (s *Stream) Hold(on bool) {
	s.held.Store(on)
	s.peer.wake()
}

// Wake makes the stream look anew at what it waits for: its pace has changed.
func (s *Stream) Wake() { s.peer.wake() }

// Stats returns the stream's counters.
func (s *Stream) Stats() *StreamStats { return &s.stats }

// errProtocol marks what only a broken or hostile peer does.
var errProtocol = errors.New("peer broke the protocol")
