package receiver

import (
	"errors"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
)

// maxStageBytes bounds what is put into one commit, and the buffer that is kept between commits, in bytes.
const maxStageBytes = 8 << 20

// stager is the third stage.
type stager struct {
	r       *Run
	buf     []byte // batches as they are stored, one behind the other
	entries []journal.Staged
}

func (s *stager) run() error {
	var items []*item
	var err error
	for {
		if items, err = s.r.stages.take(items); err != nil {
			return nil // stopped
		}
		for rest := items; len(rest) > 0; {
			n := groupLen(rest)
			if err := s.stage(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
}

// groupLen is how many items go into one commit, at least one.
func groupLen(items []*item) int {
	var bytes int
	for i, it := range items {
		if it.batch == nil {
			continue
		}
		if bytes += len(it.batch.Payload); bytes > maxStageBytes && i > 0 {
			return i
		}
	}
	return len(items)
}

// stage makes the batches among items durable with one sync, tells the peer, and hands everything on.
func (s *stager) stage(items []*item) error {
	last := s.encode(items)
	if len(s.entries) > 0 {
		before := s.r.t.Marks() // before, because the applier moves on meanwhile
		err := s.r.t.staging.Append(s.entries)
		if errors.Is(err, journal.ErrFull) {
			return s.atLimit(items, before.Applied == before.Staged, err)
		}
		if err != nil {
			return storeFailed("stage batches", err)
		}
		stats := &s.r.t.stats
		stats.stages.Add(1)
		stats.stagedBatches.Add(uint64(len(s.entries)))
		stats.stagedBytes.Add(uint64(len(s.buf)))
		s.r.t.moveMarks(func(m *Marks) { m.Staged = last })
		s.r.out.ack()
	}
	if cap(s.buf) > maxStageBytes {
		s.buf = nil
	}
	for _, it := range items {
		s.spill(it)
		if err := s.r.apply.put(s.r.ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// encode fills entries with the batches among items and returns the position behind them.
func (s *stager) encode(items []*item) block.Seq {
	s.buf, s.entries = s.buf[:0], s.entries[:0]
	var last block.Seq
	for _, it := range items {
		if b := it.batch; b != nil {
			at := len(s.buf)
			s.buf = frame.Append(s.buf, b)
			s.entries = append(s.entries, journal.Staged{Prev: b.Prev, Last: b.Last, Raw: s.buf[at:len(s.buf):len(s.buf)]})
			last = b.Last
		}
	}
	return last
}

// atLimit stages items that did not fit at once: in halves, and a single one when the disks have caught up enough;
// empty says that there was nothing left for them to do.
func (s *stager) atLimit(items []*item, empty bool, full error) error {
	if n := len(items); n > 1 {
		if err := s.stage(items[:n/2]); err != nil {
			return err
		}
		return s.stage(items[n/2:])
	}
	if empty {
		return storeFailed("stage a batch that is larger than the limit", full)
	}
	select {
	case <-s.r.forgotten:
		return s.stage(items)
	case <-s.r.ctx.Done():
		return ErrStopped
	}
}

// spill drops a staged batch from memory where those before it already fill half of the room: the disks are slower
// than the link, and staging must not wait for them.
func (s *stager) spill(it *item) {
	r := s.r
	if it.batch == nil || r.held.Load() == 0 || r.held.Load()+it.cost <= r.t.queue/2 {
		r.held.Add(it.cost)
		return
	}
	r.retire(it)
	r.t.stats.spilled.Add(1)
	it.msg, it.batch, it.spilled = nil, nil, true
}
