package stripe

import (
	"cmp"
	"slices"
	"time"
)

// Sending is a fragment that a stripe has taken to send. Its bytes are not to be changed.
type Sending struct {
	Header
	Data []byte
	of   *fragment
}

// fragment is a piece of a message until it is acknowledged.
type fragment struct {
	Header
	data []byte

	sent   time.Time // when a stripe last took it
	on     int       // that stripe
	acked  bool
	queued bool // it is to be sent, for the first time or again
}

func (f *fragment) end() int64 { return f.Place + int64(f.Start) + int64(f.Length) }

// Schedule decides which fragment a stripe sends next. Whoever has room comes and takes the next one, so that each stripe
// carries what it can. What was on a stripe that has ended, or does not get on, goes to the others at once; what
// everything behind it waits for goes to a stripe that has nothing better to do. The caller guards it with a lock.
//
//	done ≤ limit; a fragment is in flight on a stripe, or queued, or acknowledged
type Schedule struct {
	piece  int         // bytes of a new fragment
	fresh  []*fragment // never sent, in order
	again  []*fragment // to be sent again, in order
	order  []*fragment // everything that is not acknowledged, in order
	paths  map[int]*path
	edge   int64 // place of the next message
	limit  int64
	queued int    // bytes in fresh
	acked  uint64 // bytes acknowledged, each once
	resent uint64 // bytes sent again
	twice  uint64 // of them: because they were late
	sent   uint64 // bytes sent, all told
}

// path is what the schedule knows of a stripe.
type path struct {
	flights  []flight // first in, first out
	sent     uint64   // bytes, headers included
	progress time.Time
	rtt      time.Duration
	stalled  bool
	handed   bool // what was on its way when it stalled went to the others
}

type flight struct {
	f   *fragment
	end uint64 // of what was sent on the stripe with it
}

// NewSchedule begins a lane whose other side has room for that many bytes.
func NewSchedule(window int64) *Schedule {
	return &Schedule{piece: Cell, limit: window, paths: map[int]*path{}}
}

// SetPiece sets how long new fragments are, in bytes.
func (s *Schedule) SetPiece(n int) { s.piece = max(Cell, min(MaxFragment, n/Cell*Cell)) }

// Open adds a stripe.
func (s *Schedule) Open(id int, now time.Time, rtt time.Duration) {
	s.paths[id] = &path{progress: now, rtt: rtt}
}

// Close takes a stripe away; what is on its way there is sent again.
func (s *Schedule) Close(id int) {
	if p := s.paths[id]; p != nil {
		delete(s.paths, id)
		s.handOver(p)
	}
}

// handOver queues again what a stripe has on its way.
func (s *Schedule) handOver(p *path) {
	for _, fl := range p.flights {
		if f := fl.f; !f.acked && !f.queued {
			f.queued = true
			s.again = append(s.again, f)
		}
	}
	slices.SortFunc(s.again, func(a, b *fragment) int { return cmp.Compare(a.end(), b.end()) })
}

// Add queues a message, which is the schedule's from now on, and returns its place.
func (s *Schedule) Add(message []byte) int64 {
	place := s.edge
	for at := 0; at < len(message); at += s.piece {
		data := message[at:min(at+s.piece, len(message))]
		f := &fragment{Header: Header{Place: place, Total: uint32(len(message)), Start: uint32(at), Length: uint32(len(data))}, data: data, queued: true}
		s.fresh = append(s.fresh, f)
		s.order = append(s.order, f)
	}
	s.queued += len(message)
	s.edge += int64(len(message))
	return place
}

// Idle reports whether nothing is on its way on a stripe.
func (s *Schedule) Idle(id int) bool {
	p := s.paths[id]
	return p == nil || len(p.flights) == 0
}

// Edge is the place of the next message.
func (s *Schedule) Edge() int64 { return s.edge }

// Room reports whether a message of that many bytes may be added: the other side has room for it.
func (s *Schedule) Room(n int) bool { return s.edge+int64(n) <= s.limit }

// Queued is how many bytes no stripe has taken yet.
func (s *Schedule) Queued() int { return s.queued }

// Unacknowledged reports whether anything is on its way or waits for it.
func (s *Schedule) Unacknowledged() bool { return len(s.order) > 0 }

// Sent counts bytes that stripes have taken.
func (s *Schedule) Sent() uint64 { return s.sent }

// Delivered counts bytes that the other side has, each once.
func (s *Schedule) Delivered() uint64 { return s.acked }

// Resent counts bytes that were sent more than once.
func (s *Schedule) Resent() uint64 { return s.resent }

// Next returns what stripe id is to send now, false for nothing.
func (s *Schedule) Next(id int, now time.Time) (Sending, bool) {
	p := s.paths[id]
	if p == nil || p.stalled {
		return Sending{}, false
	}
	f := s.pick(id, now)
	if f == nil {
		return Sending{}, false
	}
	if len(p.flights) == 0 {
		p.progress = now
	}
	p.sent += HeaderSize + uint64(f.Length)
	s.sent += uint64(f.Length)
	p.flights = append(p.flights, flight{f, p.sent})
	f.on, f.sent, f.queued = id, now, false
	return Sending{Header: f.Header, Data: f.data, of: f}, true
}

func (s *Schedule) pick(id int, now time.Time) *fragment {
	for len(s.again) > 0 {
		f := s.again[0]
		s.again = s.again[1:]
		f.queued = false
		if !f.acked {
			s.resent += uint64(f.Length)
			return f
		}
	}
	if len(s.fresh) > 0 {
		f := s.fresh[0]
		s.fresh[0] = nil
		s.fresh = s.fresh[1:]
		s.queued -= int(f.Length)
		return f
	}
	if s.twice > s.acked/lateShare+lateFree {
		return nil
	}
	if f := s.late(id, now); f != nil {
		s.resent += uint64(f.Length)
		s.twice += uint64(f.Length)
		return f
	}
	return nil
}

// late finds what another stripe should have delivered by now, the oldest first: a line that is not full can carry it
// twice.
func (s *Schedule) late(id int, now time.Time) *fragment {
	looked := 0
	for _, f := range s.order {
		if f.acked || f.queued {
			continue
		}
		if looked++; looked > maxScan {
			return nil
		}
		if f.on == id {
			continue
		}
		if p := s.paths[f.on]; p == nil || now.Sub(f.sent) > lateAfter(p.rtt) {
			return f
		}
	}
	return nil
}

// What is sent twice is no more than a part of what was delivered: on a line that is full everything is late and stripes stall, and what is
// sent twice makes it fuller. Only a stripe that has not got on for long is sure to be lost.
const (
	lateShare   = 16
	lateFree    = 1 << 20 // bytes beside that
	repeatShare = 8
	repeatFree  = 4 << 20
	patience    = 4 // times the time after which a stripe stalls
)

// mayRepeat reports whether what a stalled stripe has on its way may go to the others already.
func (s *Schedule) mayRepeat() bool { return s.resent <= s.acked/repeatShare+repeatFree }

// lateAfter is how long a fragment may take. QUIC repairs a single loss within a second round trip.
func lateAfter(rtt time.Duration) time.Duration { return 2*rtt + 20*time.Millisecond }

// stallAfter is how long a stripe may go without an acknowledgement while it owes one.
func stallAfter(rtt time.Duration) time.Duration { return 4*rtt + 250*time.Millisecond }

// Written notes that the transport has taken a fragment: its time runs from here.
func (s *Schedule) Written(w Sending, id int, now time.Time) {
	if w.of.on == id {
		w.of.sent = now
	}
}

// Acked takes in what the other side says on stripe id. It reports whether there is news for stripes that wait. An error
// means that the peer broke the rules.
func (s *Schedule) Acked(id int, a Ack, now time.Time) (bool, error) {
	p := s.paths[id]
	if p == nil {
		return false, nil
	}
	if a.Taken > p.sent || a.Done > s.edge {
		return false, ErrRecord
	}
	n := 0
	for n < len(p.flights) && p.flights[n].end <= a.Taken {
		s.ack(p.flights[n].f)
		p.flights[n].f = nil
		n++
	}
	p.flights = p.flights[n:]
	news := p.stalled || a.Limit > s.limit
	if n > 0 || len(p.flights) == 0 {
		p.progress, p.stalled, p.handed = now, false, false
	}
	s.limit = max(s.limit, a.Limit)
	i := 0
	for i < len(s.order) && (s.order[i].acked || s.order[i].end() <= a.Done) {
		s.ack(s.order[i])
		s.order[i] = nil
		i++
	}
	s.order = s.order[i:]
	return news, nil
}

func (s *Schedule) ack(f *fragment) {
	if !f.acked {
		f.acked = true
		s.acked += uint64(f.Length)
		f.data = nil
	}
}

// SetRTT tells the round trip time of a stripe.
func (s *Schedule) SetRTT(id int, rtt time.Duration) {
	if p := s.paths[id]; p != nil {
		p.rtt = rtt
	}
}

// Tick looks for stripes that do not get on, and returns how many do. It reports in news whether others have more to
// send because of it, or because something is late.
func (s *Schedule) Tick(now time.Time) (running int, news bool) {
	for _, p := range s.paths {
		if len(p.flights) > 0 && now.Sub(p.progress) > stallAfter(p.rtt) {
			p.stalled = true
		}
		if !p.stalled {
			running++
		}
	}
	if running == 0 {
		return 0, false
	}
	for _, p := range s.paths {
		if p.stalled && !p.handed && (s.mayRepeat() || now.Sub(p.progress) > patience*stallAfter(p.rtt)) {
			p.handed = true
			s.handOver(p)
			news = true
		}
	}
	return running, news || len(s.order) > 0 && s.queued == 0
}

// Stalled reports whether a stripe owes an acknowledgement for too long, and since when it has not got on.
func (s *Schedule) Stalled(id int) (since time.Time, stalled bool) {
	p := s.paths[id]
	if p == nil {
		return time.Time{}, false
	}
	return p.progress, p.stalled
}
