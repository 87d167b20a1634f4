package sender

import (
	"fmt"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// memory is what has to be said to the encoder about what the peer remembers of the batches sent.
type memory uint8

const (
	memoryKept   memory = iota
	memoryLost          // batches were lost on the way
	memoryMissed        // the peer did not have what a batch built on
)

// tuning is how batches are packed at the moment. Only the pump touches it.
type tuning struct {
	tuner  ship.Tuner
	since  time.Time // of the last look
	waited int64     // nanoseconds, as StreamStats counts them, at that moment
	sent   uint64    // bytes as packed, likewise
	busy   time.Duration
}

// gears are the efforts as the encoder knows them.
var gears = [...]reduce.Gear{
	ship.EffortRaw:    {Codec: frame.CodecRaw},
	ship.EffortFast:   {Codec: frame.CodecS2, Level: 1},
	ship.EffortReduce: {Codec: frame.CodecZstd, Level: 1, Reduce: true},
	ship.EffortMore:   {Codec: frame.CodecZstd, Level: 3, Reduce: true},
	ship.EffortMost:   {Codec: frame.CodecZstd, Level: 3, Reduce: true, Dense: true},
}

// denseLevel is the level from which on a configuration that names one asks for dense packing.
const denseLevel = 7

// EffortRange lets a stream choose its effort at run time, from Least to Most. Without it the Codec and Level of Reduce stand.
type EffortRange struct{ Least, Most ship.Effort }

// newEncoder makes the stream's encoder.
func (s *Stream) newEncoder() error {
	enc, err := reduce.NewEncoder(s.cfg.Reduce)
	if err != nil {
		return err
	}
	s.encoder = enc
	if s.cfg.Effort == nil {
		o := s.cfg.Reduce
		zstd := o.Codec == frame.CodecZstd
		return enc.SetGear(reduce.Gear{Codec: o.Codec, Level: o.Level, Reduce: zstd, Dense: zstd && o.Level >= denseLevel})
	}
	s.tuning.tuner.Limit(s.cfg.Effort.Least, s.cfg.Effort.Most)
	return s.shift(s.tuning.tuner.Effort())
}

func (s *Stream) shift(to ship.Effort) error {
	s.effort.Store(int32(to))
	if err := s.encoder.SetGear(gears[to]); err != nil {
		return fmt.Errorf("pack by effort %v: %w", to, err)
	}
	return nil
}

// tune reconsiders the effort now and then.
func (s *Stream) tune(backlog int64) error {
	t := &s.tuning
	now := time.Now()
	span := now.Sub(t.since)
	if s.cfg.Effort == nil || span < ship.TuneEvery {
		return nil
	}
	waited, sent := s.stats.Waited.Load(), s.stats.BytesPacked.Load()
	load := ship.Load{Span: span, Busy: t.busy, Waited: time.Duration(waited - t.waited), RTT: s.rtt(), Backlog: backlog, Sent: int64(sent - t.sent)}
	if s.cfg.LineRate != nil {
		load.Ceiling = s.cfg.LineRate() > 0
		if s.lineFree.After(now) { // the ceiling is what it waits for
			load.Waited = max(load.Waited, span/2)
		}
	}
	first := t.since.IsZero()
	t.since, t.waited, t.sent, t.busy = now, waited, sent, 0
	if first {
		load = ship.Load{Span: ship.TuneEvery, RTT: load.RTT, Ceiling: load.Ceiling}
	}
	before := t.tuner.Effort()
	if to := t.tuner.Next(load); to != before {
		return s.shift(to)
	}
	return nil
}

// encode packs a batch.
func (s *Stream) encode(prev block.Seq, recs []block.Record) (*frame.Batch, error) {
	if bytes := s.offer.Load(); bytes > 0 {
		s.encoder.Offered(bytes)
	}
	before, start := s.encoder.Stats(), time.Now()
	b, err := s.encoder.Batch(prev, recs, s.batch.out[:0])
	s.tuning.busy += time.Since(start)
	if err != nil {
		return nil, err
	}
	after := s.encoder.Stats()
	s.stats.BytesFolded.Add(after.BytesIn - after.BytesFolded - after.BytesZero - (before.BytesIn - before.BytesFolded - before.BytesZero))
	s.stats.BytesReduced.Add(after.BytesPacked - before.BytesPacked)
	s.stats.BytesDelta.Add(after.BytesDelta - before.BytesDelta)
	s.stats.BytesReferred.Add(after.BytesReferred - before.BytesReferred)
	return b, nil
}

// remember tells the encoder what became of the peer's memory, and how far its disks are. Called with nothing held.
func (s *Stream) remember(m memory, applied block.Seq) {
	switch m {
	case memoryLost:
		s.encoder.Forget()
	case memoryMissed:
		s.encoder.Missed()
	}
	s.encoder.Applied(applied.Num)
}

// offered takes the peer's offer to keep recent blocks.
func (s *Stream) offered(m *frame.Offer) {
	s.offer.Store(int64(min(m.Cache, 1<<40)))
}

// Effort is how much is done to make batches small at the moment; false where the configuration says it.
func (s *Stream) Effort() (ship.Effort, bool) {
	return ship.Effort(s.effort.Load()), s.cfg.Effort != nil
}

// rtt is the round trip to the peer, 0 where it is not known.
func (s *Stream) rtt() time.Duration {
	if s.cfg.RTT == nil {
		return 0
	}
	return s.cfg.RTT()
}
