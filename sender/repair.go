package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"drship/internal/block"
	"drship/internal/ship"
)

// A repair sends the blocks that the bitmap holds to a peer that is followed by journal, without a resync: the peer
// stays UpToDate and consistent. Each run of blocks is read under its range lock, and sent once everything that the
// write order had then was sent. If a write to it was submitted meanwhile, it is read again. So the chunk stands in the
// stream exactly where its content is true.

const repairRounds = 8 // over the bitmap, before what is still set is left as it is

// ErrRepairing is returned where a repair runs already, or cannot: the peer is not followed by journal.
var ErrRepairing = errors.New("repair is not possible now")

// RepairConfig says how to repair.
type RepairConfig struct {
	Pace func() ship.Pace
	// Done is called when the repair has ended, with the blocks repaired; err says why it ended before all were. It
	// must not wait.
	Done func(blocks uint64, err error)
}

// repair is guarded by Peer.mu, but for what only the pump touches.
type repair struct {
	cfg      RepairConfig
	out      map[uint64]run
	bytes    int64
	repaired uint64 // blocks

	volume int // pump only, down to the end
	block  uint64
	rounds int
	ready  *question // read, waits for its place in the stream
	at     block.Seq // that place
	run    run       // what ready is
	buf    []byte
	limit  *rate.Limiter
}

// Repair starts to repair what the bitmap holds.
func (s *Stream) Repair(cfg RepairConfig) error {
	p := s.peer
	if !p.ByJournal() {
		return ErrRepairing
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream != s || s.resync != nil || s.repair != nil {
		return ErrRepairing
	}
	s.repair = &repair{cfg: cfg, out: map[uint64]run{}, limit: rate.NewLimiter(rate.Inf, resyncBurst)}
	p.wake()
	return nil
}

// Repairing reports whether a repair runs.
func (s *Stream) Repairing() bool {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	return s.repair != nil
}

// endRepair ends a repair, if there is one. Only the pump calls it.
func (s *Stream) endRepair(err error) {
	p := s.peer
	p.mu.Lock()
	rp := s.repair
	s.repair = nil
	p.mu.Unlock()
	if rp == nil {
		return
	}
	if rp.ready != nil {
		p.group.closeQuestion(rp.ready)
	}
	rp.cfg.Done(rp.repaired, errors.Join(err, p.FlushBitmaps()))
}

// shipRepair is the pump's turn for a repair.
func (s *Stream) shipRepair(ctx context.Context) (progress, error) {
	p := s.peer
	p.mu.Lock()
	rp := s.repair
	if rp == nil {
		p.mu.Unlock()
		return progress{}, nil
	}
	out, bytes, sent := len(rp.out), rp.bytes, p.marks.Sent
	p.mu.Unlock()
	if rp.ready != nil {
		if sent.Less(rp.at) {
			return progress{wait: 10 * time.Millisecond}, nil
		}
		return progress{any: true}, s.sendRepair(ctx, rp)
	}
	if bytes >= resyncWindow {
		return progress{}, nil
	}
	if wait := rp.paced(); wait > 0 {
		return progress{wait: wait}, nil
	}
	r, ok := s.nextRepair(rp)
	switch {
	case ok:
		return progress{any: true}, s.readRepair(rp, r)
	case out > 0:
		return progress{}, nil
	case p.OutOfSync() == 0:
		s.endRepair(nil)
	case rp.rounds >= repairRounds:
		s.endRepair(fmt.Errorf("%d blocks are written too often to be repaired one by one", p.OutOfSync()))
	default:
		rp.rounds++
		rp.volume, rp.block = 0, 0
	}
	return progress{any: true}, nil
}

func (rp *repair) paced() time.Duration {
	limit := rate.Inf
	if pace := rp.cfg.Pace(); pace.Rate > 0 {
		limit = rate.Limit(pace.Rate)
	}
	if rp.limit.Limit() != limit {
		rp.limit.SetLimit(limit)
	}
	if tokens := rp.limit.TokensAt(time.Now()); tokens < 1 {
		return time.Duration((1-tokens)/float64(limit)*float64(time.Second)) + time.Millisecond
	}
	return 0
}

func (s *Stream) nextRepair(rp *repair) (run, bool) {
	for rp.volume < len(s.peer.bitmaps) {
		if first, n, ok := s.peer.bitmaps[rp.volume].Next(rp.block, chunkBlocks); ok {
			rp.block = first + n
			return run{volume: rp.volume, first: first, n: int(n)}, true
		}
		rp.volume, rp.block = rp.volume+1, 0
	}
	return run{}, false
}

// readRepair reads a run and notes from where on in the stream it is true.
func (s *Stream) readRepair(rp *repair, r run) error {
	v := s.peer.group.volumes[r.volume]
	q := &question{volume: v, Range: r.bytesOf(v)}
	if cap(rp.buf) < int(q.Len) {
		rp.buf = make([]byte, chunkBlocks*block.Size)
	}
	lock := v.locks.lock(q.Range)
	at := s.peer.group.openQuestion(q)
	err := v.disk.ReadAt(rp.buf[:q.Len], q.Off)
	v.locks.unlock(lock)
	if err != nil {
		s.peer.group.closeQuestion(q)
		return v.diskFailed("repair read", q.Off, q.Len, err)
	}
	s.peer.group.counters.DiskRead.Add(uint64(q.Len))
	rp.limit.ReserveN(time.Now(), int(q.Len))
	rp.ready, rp.at, rp.run = q, at, r
	return nil
}

// sendRepair sends what was read, unless it was written meanwhile: then the bits stay for the next round. What is
// submitted from now on comes behind it: this goroutine is the one that sends batches.
func (s *Stream) sendRepair(ctx context.Context, rp *repair) error {
	p, q, r := s.peer, rp.ready, rp.run
	rp.ready = nil
	p.group.closeQuestion(q)
	for _, b := range q.written {
		if b != 0 {
			return nil
		}
	}
	p.mu.Lock()
	if s.repair != rp {
		p.mu.Unlock()
		return nil
	}
	s.lastChunk++
	id := s.lastChunk
	rp.out[id] = r
	rp.bytes += r.cost()
	p.mu.Unlock()
	c, err := s.encoder.Chunk(id, q.volume.number, q.Off, rp.buf[:q.Len], nil)
	if err != nil {
		return fmt.Errorf("encode repair of volume %d at %d: %w", q.volume.number, q.Off, err)
	}
	if err := s.sendData(ctx, c, len(c.Data)); err != nil {
		return fmt.Errorf("send repair to %s: %w", p.name, err)
	}
	return nil
}

// repairsDone clears the bits of what the peer has on its disk. What arrived damaged keeps its bits for the next round.
// Called with Group.order and Peer.mu held.
func (s *Stream) repairsDone(done, bad []uint64) {
	rp := s.repair
	if rp == nil || s.peer.tracking != byJournal {
		return
	}
	for i, ids := range [][]uint64{done, bad} {
		for _, id := range ids {
			r, ok := rp.out[id]
			if !ok {
				continue
			}
			delete(rp.out, id)
			rp.bytes -= r.cost()
			if i == 0 {
				s.peer.bitmaps[r.volume].Clear(r.bytesOf(s.peer.group.volumes[r.volume]))
				rp.repaired += uint64(r.n)
			}
		}
	}
}
