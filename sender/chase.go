package sender

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/wan/frame"
)

// A chase is a resync of a peer that is followed by bitmap alone: what is written meanwhile sets bits. A run is read under its
// range lock and remembered as on its way; writes mark its blocks there, and the answer clears the bits of those blocks only
// that were not marked. No record is under way in a chase, so its chunks are all that the peer gets, in the order of the reads.

// onWay are the runs of a chase that were read and are not answered: disjoint, by volume and offset. Guarded by Group.order.
type onWay struct{ runs []*question }

// place is where the run that begins at or behind an offset is, or would be.
func (w *onWay) place(v *Volume, off int64) int {
	return sort.Search(len(w.runs), func(i int) bool {
		q := w.runs[i]
		return q.volume.index > v.index || q.volume.index == v.index && q.Off >= off
	})
}

func (w *onWay) add(q *question) { w.runs = slices.Insert(w.runs, w.place(q.volume, q.Off), q) }

func (w *onWay) remove(q *question) {
	if i := w.place(q.volume, q.Off); i < len(w.runs) && w.runs[i] == q {
		w.runs = slices.Delete(w.runs, i, i+1)
	}
}

// touch marks what a write changes.
func (w *onWay) touch(v *Volume, r block.Range) {
	i := w.place(v, r.Off)
	if i > 0 {
		w.runs[i-1].touch(v, r)
	}
	for ; i < len(w.runs) && w.runs[i].volume == v && w.runs[i].Off < r.End(); i++ {
		w.runs[i].touch(v, r)
	}
}

// newQuestion is a run whose content goes to a peer; writes are told to it once it is open.
func newQuestion(v *Volume, r block.Range) *question {
	q := &question{volume: v, Range: r}
	q.written = make([]byte, (q.blocks()+7)/8)
	return q
}

// part is the part of a question from block i to block j, nil of nil.
func (q *question) part(i, j int) *question {
	if q == nil {
		return nil
	}
	off := int64(i) * block.Size
	of := newQuestion(q.volume, block.Range{Off: q.Off + off, Len: min(int64(j)*block.Size, q.Len) - off})
	for b := i; b < j; b++ {
		if bit(q.written, b) {
			of.written[(b-i)/8] |= 1 << ((b - i) % 8)
		}
	}
	return of
}

// open has writes told to a question of a chase; nil is none. Called with its range locked, before it is read.
func (p *Peer) open(q *question) {
	if q == nil {
		return
	}
	p.group.order.Lock()
	defer p.group.order.Unlock()
	if p.onWay != nil {
		p.onWay.add(q)
	}
}

// closeLocked ends that. Called with order held.
func (p *Peer) closeLocked(q *question) {
	if q != nil && p.onWay != nil {
		p.onWay.remove(q)
	}
}

// settleLocked clears the bits of a run that the peer has: all of it, or in a chase what nobody has written since. Called
// with order held.
func (p *Peer) settleLocked(r run) {
	if r.asked == nil {
		p.bitmaps[r.volume].Clear(r.bytesOf(p.group.volumes[r.volume]))
		return
	}
	p.closeLocked(r.asked)
	p.clearUnwritten(r.asked)
}

// clearUnwritten clears the bits of the blocks of q that nobody has written since they were read.
func (p *Peer) clearUnwritten(q *question) {
	for i := 0; i < q.blocks(); {
		written := bit(q.written, i)
		j := i + 1
		for j < q.blocks() && bit(q.written, j) == written {
			j++
		}
		if !written {
			r := block.Range{Off: q.Off + int64(i)*block.Size, Len: min(int64(j)*block.Size, q.Len) - int64(i)*block.Size}
			p.bitmaps[q.volume.index].Clear(r)
		}
		i = j
	}
}

// noteFlow tells the peer's congestion what moves. Only the pump calls it.
func (s *Stream) noteFlow(now time.Time) {
	if now.Sub(s.noted) < time.Second {
		return
	}
	s.noted = now
	p := s.peer
	full := false
	if p.ByJournal() {
		_, backlog, _ := p.group.log.Backlog(p.Marks().Sent)
		full = backlog >= fullBacklog && !s.held.Load()
	} else {
		// A chase that has come to the end of its walk had nothing more to send: what went out then is what was written, not what the line carries.
		full = s.chasing.Load() && !s.paused.Load() && !s.held.Load() && !s.walked && p.OutOfSync() > 0
	}
	s.walked = false
	p.mu.Lock()
	p.congestion.Note(now, p.group.counters.Written.Load(), s.stats.Carried.Load(), full)
	p.mu.Unlock()
}

// fullBacklog is how many bytes have to wait for the line to count as full.
const fullBacklog = 1 << 20

// stepBehind is the pump's turn while the peer is followed by bitmap: Ahead, or chased.
func (s *Stream) stepBehind(ctx context.Context) (progress, error) {
	p := s.peer
	if !s.behind {
		return s.fallBehind(ctx)
	}
	if p.group.store.Failed() != nil || s.held.Load() {
		return progress{}, nil
	}
	p.group.order.Lock()
	converted := p.conversionDone()
	p.group.order.Unlock()
	left := int64(p.OutOfSync()) * block.Size
	p.mu.Lock()
	drained := p.marks.Staged == p.marks.Sent
	p.mu.Unlock()
	if !drained || !converted {
		return progress{wait: 10 * time.Millisecond}, nil
	}
	p.mu.Lock()
	course, wait := p.congestion.Next(time.Now(), left)
	p.mu.Unlock()
	switch {
	case course == ship.ByJournal:
		return s.backToJournal(ctx)
	case course == ship.Chase && !s.chasing.Load():
		return progress{any: true}, s.startChase(ctx)
	case course == ship.Chase:
		piece, err := s.shipResync(ctx)
		return piece.and(progress{wait: min(wait, time.Second)}), err
	}
	return progress{wait: wait}, nil
}

// fallBehind is the first turn after the journal was given up. What was sent is answered before a chase begins, so that it has the
// peer's position.
func (s *Stream) fallBehind(ctx context.Context) (progress, error) {
	p := s.peer
	p.mu.Lock()
	inResync := s.resync != nil
	s.resync = nil // acknowledgements of its chunks must not clear bits any more
	sent := p.marks.Sent
	course := p.congestion.Full(time.Now(), inResync)
	p.mu.Unlock()
	s.behind = true
	if course == ship.Chase && p.group.store.Failed() == nil {
		return progress{any: true}, nil
	}
	return progress{any: true}, s.announce(ctx, frame.ModeAhead, sent, p.OutOfSync())
}

// startChase begins a resync that the writers do not wait for, and no record goes beside.
func (s *Stream) startChase(ctx context.Context) error {
	p := s.peer
	p.group.order.Lock()
	p.onWay = &onWay{}
	p.group.order.Unlock()
	s.chasing.Store(true)
	writers, line, limit := p.Congestion()
	p.group.logger.Warn("the peer is not caught up with beside the writers: it gets all of the line", "peer", p.name,
		"writers", writers, "line", line, "writers-have-to-stay-below", limit)
	if err := s.announce(ctx, frame.ModeResync, p.Marks().Sent, p.OutOfSync()); err != nil {
		return fmt.Errorf("resync beside writers that are faster: %w", err)
	}
	return nil
}

// backToJournal has the journal follow the peer again, once what a chase has sent is answered, and goes on with a resync.
func (s *Stream) backToJournal(ctx context.Context) (progress, error) {
	p := s.peer
	p.mu.Lock()
	open := s.chasing.Load() && s.resync != nil && len(s.resync.out) > 0
	p.mu.Unlock()
	if open {
		return progress{wait: 10 * time.Millisecond}, nil
	}
	from, _ := p.track(s.cfg.Position)
	s.chasing.Store(false)
	s.behind, s.exact = false, true
	if err := s.announce(ctx, frame.ModeResync, from, p.OutOfSync()); err != nil {
		return progress{}, fmt.Errorf("resume after journal was full: %w", err)
	}
	return progress{any: true}, nil
}

// endChaseLocked forgets what a chase has under way. Called with order held.
func (p *Peer) endChaseLocked() { p.onWay = nil }

// Congestion is what applications write, what the line to the peer was seen to carry while it was full, and what the writers
// would have to stay below for the peer to catch up: bytes a second, 0 where not known.
func (p *Peer) Congestion() (writers, line, limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.congestion.Rates()
}

// paceNow is the pace of the resync that runs.
func (s *Stream) paceNow() ship.Pace {
	switch {
	case !s.chasing.Load():
		return s.cfg.Pace()
	case s.cfg.ChasePace == nil:
		return ship.Pace{Why: "all of the line"}
	}
	return s.cfg.ChasePace()
}

// Chasing reports whether the peer is resynced by bitmap alone, because the writers are faster than the line.
func (s *Stream) Chasing() bool { return s.chasing.Load() }

// Peer is whom the stream serves.
func (s *Stream) Peer() *Peer { return s.peer }
