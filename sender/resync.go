package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/internal/ship"
	"drship/journal"
	"drship/wan/frame"
)

const (
	chunkBlocks  = 64                 // blocks in one chunk of data, at most: 256 KiB
	holeBlocks   = 16384              // blocks in one chunk of zeroes: 64 MiB
	queryBlocks  = 256                // blocks in one query, at most: 1 MiB read, 8 KiB sent with sha256
	resyncWindow = 16 << 20           // bytes of chunks and queries that the peer has not answered
	saveAfter    = 32 << 20           // bytes answered after which the bitmaps are made durable
	resyncBurst  = queryBlocks * 4096 // what a repair may send at once
)

// resync walks the bitmap of each volume and sends what is set. Its fields are guarded by Peer.mu, except those that
// only the pump touches.
type resync struct {
	out     map[uint64]run // sent, not answered
	bytes   int64          // of out
	again   []run          // to be sent as data: queries found them different, or they arrived damaged. Bounded by out
	total   uint64         // blocks at the start
	started time.Time
	speed   ship.Speed
	ended   bool // ResyncEnd is sent
	chase   bool // the peer is followed by bitmap meanwhile: there is no end but Stream.backToJournal

	leaves []bool // by volume: not part of this resync, for nothing was marked as it began; nil: all are

	volume int // where the walk stands
	block  uint64
	rounds int // over the map, but for the first
	survey survey
	buf    []byte // pump only

	pace     ship.Pace // as asked for last
	rate     int64     // what came of it, bytes a second; 0 is no limit
	yields   bool      // to applications
	control  ship.Controller
	answered int64 // bytes answered since the controller looked last
	unsaved  int64 // bytes answered since the bitmaps were durable last
	bucket   ship.Bucket
}

// run is a run of blocks of one volume.
type run struct {
	volume int
	first  uint64 // block
	n      int    // blocks
	query  bool   // digests only
	lacks  bool   // the disk here lacks it
	hole   bool   // not allocated here, as far as is known before the range is locked

	asked *question // of a chase: what was written since the read
}

// cost is what the run takes of the window, in bytes: a hole travels as its length.
func (r run) cost() int64 {
	if r.hole {
		return block.Size
	}
	return int64(r.n) * block.Size
}

func newResync(blocks uint64) *resync {
	return &resync{out: map[uint64]run{}, total: blocks, started: time.Now()}
}

// shipResync sends one piece of the resync, if there is one and window and pace allow it.
func (s *Stream) shipResync(ctx context.Context) (progress, error) {
	p := s.peer
	p.mu.Lock()
	idle := s.resync == nil
	p.mu.Unlock()
	if idle {
		return progress{}, nil
	}
	pace, crowded := s.asked()
	p.mu.Lock()
	rs := s.resync
	p.mu.Unlock()
	if rs != nil {
		s.surveyMore(rs)
		s.saveBits(rs)
	}
	p.mu.Lock()
	rs = s.resync
	if rs != nil {
		rs.noteLocked(s)
	}
	if rs == nil || rs.ended || s.paused.Load() || rs.bytes >= resyncWindow || !rs.chase && p.marks.Sent.Less(*p.group.found.Load()) {
		p.mu.Unlock()
		return progress{}, nil
	}
	if wait := rs.paceWait(time.Now(), pace, crowded); wait > 0 {
		p.mu.Unlock()
		return progress{wait: wait}, nil
	}
	r, ok := s.nextRun(rs)
	if !ok {
		s.walked = true
		answered := len(rs.out) == 0
		left := rs.marked(p)
		done := answered && left == 0 && !rs.chase
		rs.ended = done
		if answered && !done {
			rs.volume, rs.block = 0, 0 // bits were set behind the walk: go round again
			rs.rounds++
		}
		p.mu.Unlock()
		if done {
			return progress{any: true}, s.endResync(ctx)
		}
		return progress{any: answered && left > 0}, nil
	}
	if rs.chase {
		v := p.group.volumes[r.volume]
		r.asked = newQuestion(v, r.bytesOf(v))
	}
	s.lastChunk++
	id := s.lastChunk
	rs.out[id] = r
	rs.bytes += r.cost()
	if !r.hole {
		rs.bucket.Spend(r.cost())
	}
	p.mu.Unlock()
	return progress{any: true}, s.sendRun(ctx, rs, id, r)
}

// saveBits makes the bitmaps durable now and then: after a crash no more than saveAfter, and what was under way, comes over again.
func (s *Stream) saveBits(rs *resync) {
	s.peer.mu.Lock()
	due := rs.unsaved >= saveAfter
	if due {
		rs.unsaved = 0
	}
	s.peer.mu.Unlock()
	if !due {
		return
	}
	if err := s.peer.FlushBitmaps(); err != nil && !errors.Is(err, journal.ErrFailed) {
		s.peer.group.logger.Error("bitmap is not durable", "peer", s.peer.name, "err", err)
	}
}

// noteLocked keeps the resync's speed; a pause does not count. Called with Peer.mu held.
func (rs *resync) noteLocked(s *Stream) {
	if s.paused.Load() {
		rs.speed = ship.Speed{}
		return
	}
	if now := time.Now(); rs.speed.Due(now) {
		rs.speed.Note(now, rs.left(s.peer))
	}
}

// nextRun takes what has to be sent again, else the next set bits behind the walk.
func (s *Stream) nextRun(rs *resync) (run, bool) {
	if n := len(rs.again); n > 0 {
		r := rs.again[n-1]
		rs.again = rs.again[:n-1]
		return r, true
	}
	for rs.volume < len(s.peer.bitmaps) {
		if rs.leavesOut(rs.volume) {
			rs.volume, rs.block = rs.volume+1, 0
			continue
		}
		first, n, ok := s.peer.bitmaps[rs.volume].Next(rs.block, holeBlocks)
		if ok {
			r := s.cut(rs, run{volume: rs.volume, first: first, n: int(n)})
			rs.block = first + uint64(r.n)
			return r, true
		}
		rs.volume, rs.block = rs.volume+1, 0
	}
	return run{}, false
}

// cut shortens a run to one piece: a hole as long as it is, else as much data as goes into a chunk or a query.
func (s *Stream) cut(rs *resync, r run) run {
	limit := s.pieceBlocks(rs)
	r.query = s.cfg.Csums != digest.None
	if r = s.peer.group.volumes[r.volume].whole(r); r.lacks {
		r.query = false
		return r
	}
	if r.n <= limit {
		return r
	}
	v := s.peer.group.volumes[r.volume]
	rng := r.bytesOf(v)
	if hole := holeAt(v.disk, rng); hole > int64(limit)*block.Size || hole == rng.Len {
		r.n, r.query, r.hole = int((hole+block.Size-1)/block.Size), false, true
		if hole < rng.Len {
			r.n = int(hole / block.Size)
		}
		return r
	}
	r.n = limit
	return r
}

// holeAt returns how many bytes from the start of rng are not allocated; 0 where the disk cannot tell.
func holeAt(d disk.Disk, rng block.Range) int64 {
	segments, err := d.Segments(rng.Off, rng.Len)
	if err != nil || len(segments) == 0 || !segments[0].Hole {
		return 0
	}
	return min(segments[0].Len, rng.Len)
}

// sendRun reads a run under the range lock and sends it. The pump is the only one that sends on the data lane, so
// nothing newer than the read can go before it, and the lock need not be held while sending.
func (s *Stream) sendRun(ctx context.Context, rs *resync, id uint64, r run) error {
	v := s.peer.group.volumes[r.volume]
	rng := r.bytesOf(v)
	if r.hole {
		return s.sendHole(ctx, id, v, r, rng)
	}
	if r.lacks && !v.elsewhereThan(s.peer, rng) {
		s.keepTheirs(id)
		return nil
	}
	if cap(rs.buf) < int(rng.Len) {
		rs.buf = make([]byte, rng.Len)
	}
	buf := rs.buf[:rng.Len]
	lock := v.locks.lock(rng)
	s.peer.open(r.asked)
	err := v.readFor(ctx, s.peer, buf, rng.Off)
	v.locks.unlock(lock)
	if err != nil && r.lacks {
		return fmt.Errorf("resync volume %d at %d, %d bytes: %w", v.number, rng.Off, rng.Len, err)
	}
	if err != nil {
		return v.diskFailed("resync read", rng.Off, rng.Len, err)
	}
	s.peer.group.counters.DiskRead.Add(uint64(rng.Len))
	if r.query {
		return s.sendQuery(ctx, id, v, rng, buf)
	}
	c, err := s.encoder.Chunk(id, v.number, rng.Off, buf, nil)
	if err != nil {
		return fmt.Errorf("encode resync of volume %d at %d: %w", v.number, rng.Off, err)
	}
	s.stats.ResyncBytes.Add(uint64(rng.Len))
	s.stats.Carried.Add(uint64(rng.Len))
	s.stats.ResyncPacked.Add(uint64(len(c.Data)))
	if err := s.sendData(ctx, c, len(c.Data)); err != nil {
		return fmt.Errorf("send resync to %s: %w", s.peer.name, err)
	}
	return nil
}

// sendHole sends a run of zeroes, if nobody has written to it since it was found to be a hole. Else the bits stay set, and the
// walk comes round again.
func (s *Stream) sendHole(ctx context.Context, id uint64, v *Volume, r run, rng block.Range) error {
	lock := v.locks.lock(rng)
	still := holeAt(v.disk, rng) == rng.Len
	if still {
		s.peer.open(r.asked)
	}
	v.locks.unlock(lock)
	if !still {
		s.peer.mu.Lock()
		if s.resync != nil {
			s.resync.take(id)
		}
		s.peer.mu.Unlock()
		return nil
	}
	c, err := s.encoder.ZeroChunk(id, v.number, rng.Off, rng.Len)
	if err != nil {
		return fmt.Errorf("encode resync of volume %d at %d: %w", v.number, rng.Off, err)
	}
	s.stats.ResyncBytes.Add(uint64(rng.Len))
	if err := s.sendData(ctx, c, len(c.Data)); err != nil {
		return fmt.Errorf("send resync to %s: %w", s.peer.name, err)
	}
	return nil
}

func (s *Stream) sendQuery(ctx context.Context, id uint64, v *Volume, rng block.Range, buf []byte) error {
	q := &frame.Query{ID: id, Volume: v.number, Off: rng.Off, Len: uint32(rng.Len), Digest: uint8(s.cfg.Csums)}
	for b := range chunksOf(buf) {
		q.Sums = s.cfg.Csums.Sum(q.Sums, b)
	}
	s.stats.Queries.Add(1)
	s.stats.QueryBytes.Add(uint64(rng.Len))
	if err := s.sendData(ctx, q, len(q.Sums)); err != nil {
		return fmt.Errorf("send digests to %s: %w", s.peer.name, err)
	}
	return nil
}

// chunksOf yields buf block by block; the last may be shorter.
func chunksOf(buf []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(buf) > 0 {
			n := min(len(buf), block.Size)
			if !yield(buf[:n]) {
				return
			}
			buf = buf[n:]
		}
	}
}

func (r run) bytesOf(v *Volume) block.Range {
	off := int64(r.first) * block.Size
	return block.Range{Off: off, Len: min(int64(r.n)*block.Size, v.disk.Size()-off)}
}

// take removes an answered run, or tells that it is not known: it was sent before the journal was given up.
func (rs *resync) take(id uint64) (run, bool) {
	r, ok := rs.out[id]
	if ok {
		delete(rs.out, id)
		rs.bytes -= r.cost()
		rs.answered += r.cost()
		rs.unsaved += r.cost()
	}
	return r, ok
}

// answering locks what an answer of the peer may change. It returns nil, with nothing locked, where the answer comes
// too late: once the journal is given up for the peer, new writes set bits again that an old answer must not clear.
func (s *Stream) answering() (rs *resync, unlock func()) {
	g := s.peer.group
	g.order.Lock()
	s.peer.mu.Lock()
	unlock = func() {
		s.peer.mu.Unlock()
		g.order.Unlock()
	}
	if s.resync == nil || !s.resync.chase && s.peer.tracking != byJournal {
		unlock()
		return nil, nil
	}
	return s.resync, unlock
}

// chunksDone clears the bits of what is on the peer's disk.
func (s *Stream) chunksDone(m *frame.ChunkAck) error {
	s.peer.group.order.Lock()
	s.peer.mu.Lock()
	s.repairsDone(m.IDs, m.Bad)
	s.peer.mu.Unlock()
	s.peer.group.order.Unlock()
	rs, unlock := s.answering()
	if rs == nil {
		return nil
	}
	defer unlock()
	for _, id := range m.IDs {
		if r, ok := rs.take(id); ok {
			s.peer.settleLocked(r)
		}
	}
	for _, id := range m.Bad {
		if r, ok := rs.take(id); ok {
			s.peer.closeLocked(r.asked)
			r.query, r.asked = false, nil
			rs.again = append(rs.again, r)
		}
	}
	return nil
}

// queryAnswered clears the bits of blocks that are equal and sends the others as data.
func (s *Stream) queryAnswered(m *frame.QueryReply) error {
	rs, unlock := s.answering()
	if rs == nil {
		return nil
	}
	defer unlock()
	r, ok := rs.take(m.ID)
	if !ok {
		return nil
	}
	if !r.query || len(m.Differ) < (r.n+7)/8 {
		return fmt.Errorf("%w: answer to query %d does not fit", errProtocol, m.ID)
	}
	s.peer.closeLocked(r.asked)
	for i := 0; i < r.n; {
		differ := bit(m.Differ, i)
		j := i + 1
		for j < r.n && bit(m.Differ, j) == differ && (!differ || j-i < chunkBlocks) {
			j++
		}
		part := run{volume: r.volume, first: r.first + uint64(i), n: j - i}
		if differ {
			rs.again = append(rs.again, part)
		} else {
			part.asked = r.asked.part(i, j)
			s.peer.settleLocked(part)
			s.stats.Equal.Add(uint64(part.n))
		}
		i = j
	}
	return nil
}

func bit(bits []byte, i int) bool { return bits[i/8]&(1<<(i%8)) != 0 }

// endResync tells the peer at which position it is equal.
func (s *Stream) endResync(ctx context.Context) error {
	at := s.peer.group.End()
	if err := s.cfg.Link.Send(ctx, &frame.ResyncEnd{At: at}); err != nil {
		return fmt.Errorf("send end of resync to %s: %w", s.peer.name, err)
	}
	return nil
}

// resyncDone is the peer's word that it is up to date.
func (s *Stream) resyncDone(ctx context.Context, m *frame.ResyncDone) error {
	s.peer.mu.Lock()
	rs := s.resync
	ours := rs != nil && rs.ended
	if ours {
		s.resync = nil
	}
	s.peer.mu.Unlock()
	if !ours {
		return nil // overtaken: the journal was given up meanwhile
	}
	if err := s.peer.FlushBitmaps(); err != nil {
		return err
	}
	s.mode.Store(uint32(frame.ModeJournal))
	s.peer.group.logger.Info("resync done", "peer", s.peer.name, "at", m.At)
	return s.cfg.Synced(ctx)
}

// ResyncProgress describes a resync that runs. Counts are blocks.
type ResyncProgress struct {
	Total, Left uint64
	Started     time.Time
	Pace        ship.Pace
	Paused      bool
	Rate        float64       // blocks a second, lately
	ETA         time.Duration // at that rate, or at the pace where that is lower; negative: never
}

// Resync returns how far the resync is, and whether one runs.
func (s *Stream) Resync() (ResyncProgress, bool) {
	left := s.peer.OutOfSync()
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	if s.resync == nil {
		return ResyncProgress{}, false
	}
	rs := s.resync
	p := ResyncProgress{Total: max(rs.total, left), Left: left, Started: rs.started, Pace: rs.described(), Paused: s.paused.Load()}
	now, paced := time.Now(), float64(p.Pace.Rate)
	data := rs.left(s.peer)
	rate, eta := rs.speed.Rate(now, data)
	switch {
	case p.Paused:
		rate, eta = 0, -1
	case paced > 0 && (rate > paced || rs.speed.Fresh(now)): // what a moment without limit has moved says nothing of the rest
		rate, eta = paced, time.Duration(float64(data)/paced*float64(time.Second))
	}
	p.Rate, p.ETA = rate/block.Size, eta
	return p, true
}
