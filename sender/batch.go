package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/journal"
	"drship/wan/frame"
)

// batchBuffers are reused from batch to batch; only the pump touches them.
type batchBuffers struct {
	records []block.Record
	arena   []byte // what the records' data lies in
	out     []byte
	last    time.Time // when the last batch was cut
}

// inflight remembers how many bytes of records were sent up to which position and not yet staged. It is bounded by
// count as well: a batch of nothing but trims has no bytes.
type inflight struct {
	sent  []sentBatch
	bytes int64
}

type sentBatch struct {
	last  block.Seq
	bytes int64
}

const maxBatchesInFlight = 1024

func (f *inflight) full(window int64) bool {
	return f.bytes >= window || len(f.sent) >= maxBatchesInFlight
}

func (f *inflight) add(last block.Seq, bytes int64) {
	f.sent = append(f.sent, sentBatch{last, bytes})
	f.bytes += bytes
}

func (f *inflight) staged(mark block.Seq) {
	n := 0
	for n < len(f.sent) && !mark.Less(f.sent[n].last) {
		f.bytes -= f.sent[n].bytes
		n++
	}
	f.sent = append(f.sent[:0], f.sent[n:]...)
}

func (f *inflight) reset() { f.sent, f.bytes = f.sent[:0], 0 }

// shipBatch cuts a batch from what has gathered and sends it, if it is time for one.
func (s *Stream) shipBatch(ctx context.Context) (progress, error) {
	p := s.peer
	if s.held.Load() {
		return progress{}, nil
	}
	p.mu.Lock()
	marks, full, memory := p.marks, s.flight.full(s.cfg.Window), s.memory
	s.memory = memoryKept
	p.mu.Unlock()
	s.remember(memory, marks.Applied)
	if full {
		return progress{}, nil
	}
	sent, empty := marks.Sent, p.group.emptyEpoch()
	records, backlog, _ := p.group.log.Backlog(sent)
	if records == 0 {
		if sent.Less(empty) {
			return progress{any: true}, s.sendStep(ctx, sent, empty)
		}
		return progress{}, nil
	}
	if wait := ship.Gather(s.cfg.Protocol, marks, backlog, time.Since(s.batch.last), s.rtt()); wait > 0 {
		return progress{wait: wait, gather: true}, nil
	}
	if err := s.tune(backlog); err != nil {
		return progress{}, err
	}
	limits := ship.PlanBatch(backlog)
	recs, arena, err := p.group.log.ReadInto(sent, limits.Bytes, limits.Records, s.batch.records[:0], s.batch.arena[:0])
	s.batch.records, s.batch.arena = recs, arena
	switch {
	case errors.Is(err, journal.ErrGone) && !p.ByJournal():
		return progress{}, nil // given up between the look and the read: the next turn sees it
	case err != nil:
		return progress{}, fmt.Errorf("read journal behind %v for %s: %w", sent, p.name, err)
	case len(recs) == 0:
		return progress{}, nil
	}
	s.batch.last = time.Now()
	return progress{any: true}, s.sendBatch(ctx, sent, recs)
}

// sendStep leads the peer into an epoch that has no record yet, so that it can reach the end of the write order.
func (s *Stream) sendStep(ctx context.Context, prev, last block.Seq) error {
	b, err := s.encoder.Step(prev, last, s.batch.out[:0])
	if err != nil {
		return fmt.Errorf("encode step to %v for %s: %w", last, s.peer.name, err)
	}
	s.batch.out = b.Payload
	return s.send(ctx, b, 0)
}

func (s *Stream) sendBatch(ctx context.Context, prev block.Seq, recs []block.Record) error {
	p := s.peer
	var raw int64
	for i := range recs {
		raw += int64(len(recs[i].Data))
	}
	b, err := s.encode(prev, recs)
	if err != nil {
		return fmt.Errorf("encode batch behind %v for %s: %w", prev, p.name, err)
	}
	s.batch.out = b.Payload
	s.stats.Records.Add(uint64(len(recs)))
	return s.send(ctx, b, raw)
}

// send moves the sent mark and sends a batch of raw bytes of data.
func (s *Stream) send(ctx context.Context, b *frame.Batch, raw int64) error {
	p := s.peer
	end := p.group.End()
	p.mu.Lock()
	if p.marks.Sent != b.Prev { // the peer asked for a resend meanwhile
		p.mu.Unlock()
		return nil
	}
	p.marks.Appended = end
	p.marks.Sent = b.Last
	s.flight.add(b.Last, raw)
	err := p.marks.Check()
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ship to %s: %w", p.name, err)
	}
	s.stats.Batches.Add(1)
	s.stats.Folded.Add(uint64(b.Folded))
	s.stats.BytesRaw.Add(uint64(raw))
	s.stats.Carried.Add(uint64(raw))
	s.stats.BytesPacked.Add(uint64(len(b.Payload)))
	if err := s.tell(ctx); err != nil { // once more: the batch may hold what was written since the step began
		return err
	}
	if err := s.sendData(ctx, b, len(b.Payload)); err != nil {
		return fmt.Errorf("send batch to %s: %w", p.name, err)
	}
	return nil
}

// acked takes over the peer's marks, lets writes complete and trims the journal.
func (s *Stream) acked(m *frame.Ack) error {
	p := s.peer
	p.mu.Lock()
	before := p.marks.Applied
	err := p.marks.Ack(m.Received, m.Staged, m.Applied)
	if err == nil {
		s.flight.staged(p.marks.Staged)
		p.releaseLocked()
	}
	moved := before.Less(p.marks.Applied)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if moved {
		return p.group.trim()
	}
	return nil
}

// resend goes back to where the peer lost the thread.
func (s *Stream) resend(m *frame.Resend) error {
	p := s.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.From.Less(s.from) {
		return nil // about batches before the newest StreamStart, which moved the peer on
	}
	if err := p.marks.Rewind(m.From); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	s.flight.reset()
	if s.memory = max(s.memory, memoryLost); m.Reason == frame.ResendCache {
		s.memory = memoryMissed
	}
	s.stats.Resends.Add(1)
	p.group.logger.Warn("peer asked for batches again", "peer", p.name, "from", m.From, "reason", m.Reason)
	return nil
}

// trim forgets what every peer that is tracked by journal has applied.
func (g *Group) trim() error {
	g.trimming.Lock()
	defer g.trimming.Unlock()
	upTo := g.trimmable()
	if upTo.IsZero() {
		return nil
	}
	if err := g.log.Trim(upTo); err != nil && !errors.Is(err, journal.ErrFailed) {
		return fmt.Errorf("trim journal to %v: %w", upTo, err)
	}
	start := g.log.Start()
	for _, p := range g.peers {
		p.mu.Lock()
		if !p.marks.Applied.Less(start) {
			p.marks.Trimmed = start
		}
		p.mu.Unlock()
	}
	return nil
}

// trimmable is the smallest applied mark over the peers tracked by journal; zero if nothing may be trimmed.
func (g *Group) trimmable() block.Seq {
	g.order.Lock()
	defer g.order.Unlock()
	upTo := g.last
	for _, p := range g.peers {
		if p.tracking != byJournal && p.conversionDone() {
			continue
		}
		p.mu.Lock()
		if p.marks.Applied.Less(upTo) {
			upTo = p.marks.Applied
		}
		p.mu.Unlock()
	}
	return upTo
}
