package stripe

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func message(n int, fill byte) []byte { return bytes.Repeat([]byte{fill}, n) }

func TestRecords(t *testing.T) {
	h := Header{Place: 1 << 40, Total: 3*Cell + 5, Start: Cell, Length: 2*Cell + 5}
	if got, err := ReadHeader(h.Append(nil), 1<<20); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	a := Ack{Taken: 5, Done: 6, Limit: 1 << 41}
	if got, err := ReadAck(a.Append(nil)); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	for name, h := range map[string]Header{
		"nothing":         {Total: 1},
		"no message":      {Length: 1},
		"too long":        {Total: 1<<20 + 1, Length: Cell},
		"over the end":    {Total: Cell, Start: Cell, Length: Cell},
		"a huge one":      {Total: 1 << 20, Length: MaxFragment + Cell},
		"off the grid":    {Total: 2 * Cell, Start: 1, Length: Cell},
		"half a cell":     {Total: 2 * Cell, Length: Cell / 2},
		"before the lane": {Place: -1, Total: 1, Length: 1},
		"wraps":           {Total: 1 << 20, Start: math.MaxUint32 - Cell + 1, Length: Cell},
	} {
		if _, err := ReadHeader(h.Append(nil), 1<<20); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, a := range map[string]Ack{"less than nothing": {Done: -1}, "no room for what is done": {Done: 2, Limit: 1}, "no end": {Limit: math.MaxInt64}} {
		if _, err := ReadAck(a.Append(nil)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add((&Header{Total: 1, Length: 1}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderSize {
			return
		}
		h, err := ReadHeader(b, 1<<20)
		if err != nil {
			return
		}
		a := NewAssembly(2 << 20)
		_, err = a.Place(h, make([]byte, h.Length))
		if a.Held() > 2<<20 || err == nil && h.Place+int64(h.Total) > 2<<20 {
			t.Fatalf("%+v: %d bytes held, %v", h, a.Held(), err)
		}
	})
}

// Fragments in any order, some twice, over a window that is full: whole messages come out in their order.
func TestAssembly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var messages [][]byte
	total := 0
	s := NewSchedule(1 << 30)
	s.Open(1, at(0), 0)
	for i := range 40 {
		m := message(1+rng.IntN(6*Cell), byte(i))
		messages = append(messages, m)
		total += len(m)
		s.SetPiece(Cell * (1 + rng.IntN(4)))
		s.Add(m)
	}
	var all []Sending
	for {
		w, ok := s.Next(1, at(0))
		if !ok {
			break
		}
		all = append(all, w)
		if rng.IntN(4) == 0 {
			all = append(all, w)
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	a := NewAssembly(int64(total))
	for _, w := range all {
		if _, err := a.Place(w.Header, w.Data); err != nil {
			t.Fatal(err)
		}
	}
	if a.Done() != int64(total) || a.Held() != int64(total) {
		t.Fatalf("done to %d, %d held, of %d", a.Done(), a.Held(), total)
	}
	for i, m := range messages {
		if got := a.Take(); !bytes.Equal(got, m) {
			t.Fatalf("message %d has %d bytes, %d are due", i, len(got), len(m))
		}
	}
	if a.Take() != nil || a.Held() != 0 || a.Limit() != 2*int64(total) {
		t.Fatalf("%d held, limit %d", a.Held(), a.Limit())
	}
}

func TestAssemblyRefuses(t *testing.T) {
	a := NewAssembly(4 * Cell)
	if _, err := a.Place(Header{Place: Cell, Total: 2 * Cell, Length: Cell}, message(Cell, 1)); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]Header{
		"behind the window": {Place: 3 * Cell, Total: 2 * Cell, Length: Cell},
		"another length":    {Place: Cell, Total: 3 * Cell, Length: Cell},
		"more than there is room for, one over the other": {Place: 0, Total: 3 * Cell, Length: Cell},
	} {
		if _, err := a.Place(h, message(Cell, 1)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func send(t *testing.T, s *Schedule, id, ms int) Sending {
	t.Helper()
	w, ok := s.Next(id, at(ms))
	if !ok {
		t.Fatalf("nothing for stripe %d after %d ms", id, ms)
	}
	return w
}

func none(t *testing.T, s *Schedule, id, ms int) {
	t.Helper()
	if w, ok := s.Next(id, at(ms)); ok {
		t.Fatalf("stripe %d is given %+v after %d ms", id, w.Header, ms)
	}
}

func acked(t *testing.T, s *Schedule, id int, a Ack, ms int) bool {
	t.Helper()
	news, err := s.Acked(id, a, at(ms))
	if err != nil {
		t.Fatal(err)
	}
	return news
}

const one = HeaderSize + Cell // what a fragment of one cell takes on a stripe

// Whoever has room takes the next fragment; acknowledgements free them; counters tell.
func TestScheduleShares(t *testing.T) {
	s := NewSchedule(8 * Cell)
	s.Open(1, at(0), 50*time.Millisecond)
	s.Open(2, at(0), 50*time.Millisecond)
	if !s.Room(8*Cell) || s.Room(8*Cell+1) {
		t.Error("the window is not kept")
	}
	s.Add(message(3*Cell, 1))
	for i, id := range []int{1, 2, 1} {
		if w := send(t, s, id, 0); int(w.Start) != i*Cell {
			t.Fatalf("fragment %d is %+v", i, w.Header)
		}
	}
	none(t, s, 2, 0)
	if s.Queued() != 0 || !s.Unacknowledged() || s.Idle(1) {
		t.Error("what is on its way is forgotten")
	}
	acked(t, s, 1, Ack{Taken: one, Limit: 8 * Cell}, 50)
	if s.Delivered() != Cell {
		t.Errorf("%d delivered", s.Delivered())
	}
	// The rest is done, whatever stripe 2 says of itself; there is more room.
	if !acked(t, s, 1, Ack{Taken: 2 * one, Done: 3 * Cell, Limit: 11 * Cell}, 60) {
		t.Error("more room is no news")
	}
	if s.Delivered() != 3*Cell || s.Unacknowledged() || !s.Room(8*Cell) || s.Resent() != 0 {
		t.Errorf("%d delivered, %d resent", s.Delivered(), s.Resent())
	}
	for name, a := range map[string]Ack{"more than was sent": {Taken: 9 * one}, "done before it was sent": {Done: 4 * Cell, Limit: 4 * Cell}} {
		if _, err := s.Acked(2, a, at(70)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stripe ends: what it had goes to the others, before anything new.
func TestScheduleStripeEnds(t *testing.T) {
	s := NewSchedule(1 << 20)
	s.Open(1, at(0), 50*time.Millisecond)
	s.Open(2, at(0), 50*time.Millisecond)
	s.Add(message(4*Cell, 1))
	send(t, s, 1, 0)
	send(t, s, 2, 0)
	send(t, s, 1, 0)
	acked(t, s, 1, Ack{Taken: one, Limit: 1 << 20}, 40)
	s.Close(1)
	if w := send(t, s, 2, 41); w.Start != 2*Cell {
		t.Errorf("first comes %+v", w.Header)
	}
	if w := send(t, s, 2, 41); w.Start != 3*Cell {
		t.Errorf("then comes %+v", w.Header)
	}
	if s.Resent() != Cell {
		t.Errorf("%d resent", s.Resent())
	}
	if news, err := s.Acked(1, Ack{Taken: 2 * one, Limit: 1 << 20}, at(42)); news || err != nil {
		t.Errorf("a late word of a stripe that has ended: %v, %v", news, err)
	}
}

// A stripe does not get on: the others take over what it had, and it is given nothing until it does. While no other gets
// on there is no use in that.
func TestScheduleStripeStalls(t *testing.T) {
	s := NewSchedule(1 << 20)
	s.Open(1, at(0), 50*time.Millisecond)
	s.Open(2, at(0), 50*time.Millisecond)
	s.Add(message(3*Cell, 1))
	send(t, s, 1, 0)
	send(t, s, 2, 0)
	acked(t, s, 2, Ack{Taken: one, Limit: 1 << 20}, 400)
	if n, _ := s.Tick(at(449)); n != 2 {
		t.Errorf("%d get on", n)
	}
	n, news := s.Tick(at(451)) // four round trips and 250 ms
	if n != 1 || !news {
		t.Errorf("%d get on, news %v", n, news)
	}
	if _, stalled := s.Stalled(1); !stalled {
		t.Error("stripe 1 is not noticed")
	}
	none(t, s, 1, 451)
	if w := send(t, s, 2, 451); w.Start != 0 {
		t.Errorf("first comes %+v", w.Header)
	}
	if !acked(t, s, 1, Ack{Taken: one, Limit: 1 << 20}, 460) {
		t.Error("that stripe 1 gets on is no news")
	}
	send(t, s, 1, 460)

	s.Tick(at(2000))
	if n, _ := s.Tick(at(2000)); n != 0 {
		t.Errorf("%d get on though nothing comes", n)
	}
	none(t, s, 1, 2000)
	none(t, s, 2, 2000)
}

// What everything waits for is sent again by a stripe that has nothing else to do, once it is late.
func TestScheduleLate(t *testing.T) {
	s := NewSchedule(1 << 20)
	s.Open(1, at(0), 50*time.Millisecond)
	s.Open(2, at(0), 50*time.Millisecond)
	s.Add(message(Cell, 1))
	w := send(t, s, 1, 0)
	s.Written(w, 1, at(5))
	none(t, s, 2, 124)
	none(t, s, 1, 200)
	if w := send(t, s, 2, 126); w.Start != 0 { // two round trips and 20 ms
		t.Errorf("%+v", w.Header)
	}
	none(t, s, 1, 127)
}

// Everything is late for ever: what is sent twice for that stays a part of what was delivered, beside what is free.
func TestScheduleRepeatsWithinBounds(t *testing.T) {
	s := NewSchedule(1 << 30)
	s.Open(1, at(0), 10*time.Millisecond)
	s.Open(2, at(0), 10*time.Millisecond)
	now, taken := 0, uint64(0)
	for range 2000 {
		s.Add(message(Cell, 1))
		send(t, s, 1, now)
		now += 100
		for range 3 { // the other one has nothing else to do
			if w, ok := s.Next(2, at(now)); ok {
				taken += HeaderSize + uint64(w.Length)
				acked(t, s, 2, Ack{Taken: taken, Limit: 1 << 30}, now)
			}
		}
	}
	if most := s.Delivered()/lateShare + lateFree + Cell; s.Resent() > most || s.Resent() < lateFree {
		t.Errorf("%d of %d delivered were sent twice, at most %d may", s.Resent(), s.Delivered(), most)
	}
}

// A stripe stalls when much was sent twice already: what it has goes to the others only once it is sure to be lost.
func TestScheduleStallsWithPatience(t *testing.T) {
	s := NewSchedule(1 << 30)
	s.Open(1, at(0), 50*time.Millisecond)
	s.Open(2, at(0), 50*time.Millisecond)
	s.resent = repeatFree + 1
	s.Add(message(Cell, 1))
	send(t, s, 1, 0)
	for _, ms := range []int{451, 900, 1799} {
		if n, news := s.Tick(at(ms)); n != 1 || len(s.again) != 0 {
			t.Errorf("after %d ms: %d get on, news %v, %d to send again", ms, n, news, len(s.again))
		}
	}
	s.Tick(at(1801))
	if len(s.again) != 1 {
		t.Error("it is never sent again")
	}
}
