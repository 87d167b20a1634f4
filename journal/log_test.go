package journal

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

// put submits a record and commits it.
func put(t testing.TB, l *Log, r *block.Record, sync bool) block.Seq {
	t.Helper()
	must(t, l.Submit(r))
	must(t, l.Commit(r.Seq, sync))
	return r.Seq
}

func begin(t testing.TB, l *Log, atLeast uint64) block.Seq {
	t.Helper()
	start, err := l.Begin(atLeast)
	must(t, err)
	return start
}

// readAll reads everything behind after, a few records at a time.
func readAll(t testing.TB, l *Log, after block.Seq) []block.Record {
	t.Helper()
	var all []block.Record
	for {
		recs, err := l.Read(after, 200000, 17, nil)
		must(t, err)
		if len(recs) == 0 {
			return all
		}
		all = append(all, recs...)
		after = recs[len(recs)-1].Seq
	}
}

func sameRecord(a, b *block.Record) bool {
	return a.Seq == b.Seq && a.Time == b.Time && a.Volume == b.Volume && a.Kind == b.Kind && a.Off == b.Off && a.Len == b.Len && bytes.Equal(a.Data, b.Data)
}

func TestLogReadsWhatWasWrittenAcrossEpochsAndOpens(t *testing.T) {
	fsys := vfs.NewMem()
	s := openMem(t, fsys, Options{})
	l := s.Log()
	if err := l.Submit(record(1, 10)); !errors.Is(err, ErrNoEpoch) {
		t.Fatalf("submit before begin: %v", err)
	}
	start := begin(t, l, 41<<32)
	if start.Num != 0 || start.Epoch>>32 != 42 {
		t.Fatalf("first epoch starts at %v", start)
	}
	var want []*block.Record
	add := func(l *Log, r *block.Record) {
		put(t, l, r, false)
		want = append(want, r)
	}
	for i := range uint64(50) {
		add(l, record(i, int(i)*100))
	}
	add(l, &block.Record{Kind: block.Trim, Off: 0, Len: 1 << 30, Time: 5})
	second := begin(t, l, 0)
	add(l, &block.Record{Kind: block.Zero, Off: 4096, Len: 4096, Time: 6, Volume: 255})
	must(t, s.Close())

	s = openMem(t, fsys, Options{})
	l = s.Log()
	third := begin(t, l, 0)
	add(l, record(99, block.MaxRecord))
	if second.Num != 51 || third.Num != 52 || third.Epoch <= second.Epoch {
		t.Fatalf("epochs begin at %v and %v", second, third)
	}
	got := readAll(t, l, start)
	if len(got) != len(want) {
		t.Fatalf("read %d records of %d", len(got), len(want))
	}
	for i := range got {
		if !sameRecord(&got[i], want[i]) {
			t.Fatalf("record %d: %v instead of %v", i, got[i].Seq, want[i].Seq)
		}
	}
	for _, c := range []struct {
		pos  block.Seq
		want bool
	}{
		{start, true}, {block.Seq{}, false},
		{block.Seq{Epoch: start.Epoch, Num: 51}, true}, {second, true}, {block.Seq{Epoch: start.Epoch, Num: 52}, false},
		{block.Seq{Epoch: second.Epoch, Num: 50}, false}, {l.End(), true}, {block.Seq{Epoch: third.Epoch, Num: 54}, false},
		{block.Seq{Epoch: start.Epoch + 1, Num: 3}, false},
	} {
		if l.Covers(c.pos) != c.want {
			t.Errorf("covers %v: %v", c.pos, !c.want)
		}
		if _, err := l.Read(c.pos, 1, 1, nil); errors.Is(err, ErrGone) == c.want {
			t.Errorf("read behind %v: %v", c.pos, err)
		}
	}
}

func TestLogReadStaysWithinItsLimits(t *testing.T) {
	l := openMem(t, vfs.NewMem(), Options{}).Log()
	start := begin(t, l, 0)
	for i := range uint64(20) {
		must(t, l.Submit(record(i, 1000)))
	}
	must(t, l.Commit(block.Seq{Epoch: start.Epoch, Num: 20}, false)) // one group
	for _, c := range []struct{ bytes, records, want int }{{0, 0, 1}, {2500, 100, 2}, {1 << 20, 5, 5}, {1 << 20, 100, 20}} {
		recs, err := l.Read(start, c.bytes, c.records, nil)
		must(t, err)
		if len(recs) != c.want {
			t.Errorf("limits %d bytes, %d records: %d records", c.bytes, c.records, len(recs))
		}
	}
	var arena []byte
	recs, arena, err := l.ReadInto(block.Seq{Epoch: start.Epoch, Num: 3}, 1<<20, 2, nil, arena)
	must(t, err)
	if len(arena) != 2000 || &recs[0].Data[0] != &arena[0] || !bytes.Equal(recs[0].Data, payload(3, 1000)) {
		t.Errorf("arena of %d bytes", len(arena))
	}
}

func TestLogTrimDropAndBacklog(t *testing.T) {
	fsys := vfs.NewMem()
	s := openMem(t, fsys, Options{})
	l := s.Log()
	start := begin(t, l, 0)
	at := func(n uint64) block.Seq { return block.Seq{Epoch: start.Epoch, Num: n} }
	const n = 3 * recentRecords / 2
	for i := uint64(1); i <= n; i++ {
		must(t, l.Submit(record(i, 100)))
	}
	must(t, l.Commit(at(n), false))
	for _, num := range []uint64{0, 1, 17, n / 2, n - 1} {
		records, size, oldest := l.Backlog(at(num))
		if records != n-num || size != int64(n-num)*100 || !oldest.Equal(time.Unix(0, int64(num+1)*1000)) {
			t.Errorf("backlog behind %d: %d records, %d bytes, oldest %v", num, records, size, oldest)
		}
	}
	if records, size, oldest := l.Backlog(l.End()); records != 0 || size != 0 || !oldest.IsZero() {
		t.Errorf("backlog at the end: %d, %d, %v", records, size, oldest)
	}
	room := l.Room()
	must(t, l.Trim(at(1000)))
	if l.Room()-room != 1000*(100+recordHeaderLen) || l.Start() != at(1000) {
		t.Errorf("room %d, start %v", l.Room(), l.Start())
	}
	if err := l.Trim(at(n + 1)); err == nil {
		t.Error("trimmed beyond the end")
	}
	must(t, l.Trim(at(10))) // nothing to do
	if l.Covers(at(999)) || !l.Covers(at(1000)) {
		t.Error("covers what was trimmed")
	}
	if recs := readAll(t, l, at(1000)); len(recs) != n-1000 || recs[0].Seq != at(1001) {
		t.Errorf("%d records from %v", len(recs), recs[0].Seq)
	}
	must(t, s.Close())
	s = openMem(t, fsys, Options{})
	l = s.Log()
	if l.Start() != at(1000) || l.End() != at(n) || l.Room() != room+1000*(100+recordHeaderLen) {
		t.Errorf("reopened: %v to %v, room %d", l.Start(), l.End(), l.Room())
	}
	if records, size, oldest := l.Backlog(at(2000)); records != n-2000 || size != (n-2000)*100 || !oldest.Equal(time.Unix(0, 2001*1000)) {
		t.Errorf("backlog after opening: %d records, %d bytes, oldest %v", records, size, oldest)
	}
	var seen uint64
	must(t, l.Ranges(at(5000), func(vol uint16, r block.Range) error {
		seen++
		if want := record(5000+seen, 100); vol != want.Volume || r != want.Range() {
			t.Fatalf("range %d: volume %d %v", 5000+seen, vol, r)
		}
		return nil
	}))
	if seen != n-5000 {
		t.Errorf("%d ranges", seen)
	}
	end, err := l.Drop()
	must(t, err)
	if end != at(n) || l.Start() != end || l.End() != end || l.Room() != DefaultMaxJournal || len(readAll(t, l, end)) != 0 {
		t.Errorf("dropped: %v to %v, room %d", l.Start(), l.End(), l.Room())
	}
}

func TestLogResetTakesAPeersPosition(t *testing.T) {
	fsys := vfs.NewMem()
	s := openMem(t, fsys, Options{})
	l := s.Log()
	put(t, l, func() *block.Record { begin(t, l, 0); return record(1, 10) }(), false)
	pos := block.Seq{Epoch: 77<<32 | 5, Num: 1000}
	must(t, l.Reset(pos))
	if err := l.Submit(record(1, 1)); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("submit after reset: %v", err)
	}
	must(t, s.Close())
	s = openMem(t, fsys, Options{})
	l = s.Log()
	if l.Start() != pos || l.End() != pos || !l.Covers(pos) {
		t.Fatalf("reset: %v to %v", l.Start(), l.End())
	}
	start := begin(t, l, 0)
	if start.Num != 1000 || start.Epoch>>32 != 78 || !l.Covers(pos) {
		t.Fatalf("epoch after reset begins at %v", start)
	}
	put(t, l, record(5, 10), false)
	if recs := readAll(t, l, pos); len(recs) != 1 || recs[0].Seq.Num != 1001 {
		t.Errorf("%d records behind the peer's position", len(recs))
	}
}

func TestLogIsBounded(t *testing.T) {
	l := openMem(t, vfs.NewMem(), Options{MaxJournal: 10 * (1000 + recordHeaderLen)}).Log()
	begin(t, l, 0)
	var last block.Seq
	for i := range uint64(10) {
		last = put(t, l, record(i, 1000), false)
	}
	if err := l.Submit(record(11, 1000)); !errors.Is(err, ErrFull) {
		t.Fatalf("submit to a full log: %v", err)
	}
	if err := l.WaitRoom(t.Context(), 1<<40); !errors.Is(err, ErrFull) {
		t.Errorf("wait for more room than there is: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.WaitRoom(ctx, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with a cancelled context: %v", err)
	}
	done := make(chan error)
	go func() { done <- l.WaitRoom(t.Context(), 2000) }()
	must(t, l.Trim(block.Seq{Epoch: last.Epoch, Num: 2}))
	must(t, <-done)
	put(t, l, record(12, 1000), false)
}

func TestLogWait(t *testing.T) {
	l := openMem(t, vfs.NewMem(), Options{}).Log()
	start := begin(t, l, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := l.Wait(ctx, start); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait with nothing there: %v", err)
	}
	done := make(chan error)
	for range 3 {
		go func() { done <- l.Wait(t.Context(), start) }()
	}
	put(t, l, record(1, 10), false)
	for range 3 {
		must(t, <-done)
	}
	must(t, l.Wait(t.Context(), block.Seq{Epoch: 1, Num: 7})) // not covered: Read says so
}

// Many writers, a reader that follows and a trimmer that follows the reader.
func TestLogConcurrently(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{MaxJournal: 1 << 20})
	l := s.Log()
	start := begin(t, l, 0)
	const writers, each = 16, 200
	var order sync.Mutex
	var want []block.Record
	var wg sync.WaitGroup
	for w := range uint64(writers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w, 1))
			for i := range uint64(each) {
				r := record(w*each+i, rng.IntN(3000))
				for {
					order.Lock()
					err := l.Submit(r)
					if err == nil {
						want = append(want, *r)
					}
					order.Unlock()
					if err == nil {
						break
					}
					if err := l.WaitRoom(t.Context(), 1<<16); err != nil {
						t.Error(err)
						return
					}
				}
				if err := l.Commit(r.Seq, rng.IntN(10) == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var got []block.Record
	at := start
	for len(got) < writers*each {
		must(t, l.Wait(t.Context(), at))
		recs, err := l.Read(at, 64<<10, 100, nil)
		must(t, err)
		got = append(got, recs...)
		at = recs[len(recs)-1].Seq
		l.Backlog(at)
		must(t, l.Trim(at))
	}
	wg.Wait()
	for i := range got {
		if !sameRecord(&got[i], &want[i]) {
			t.Fatalf("record %d differs", i)
		}
	}
}

func TestLogEpochsAreBounded(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	l := s.Log()
	var first block.Seq
	for i := range uint64(maxEpochs + 10) {
		start := begin(t, l, 0)
		if i == 0 {
			first = start
		}
		put(t, l, record(i, 10), false)
	}
	if len(l.epochs) > maxEpochs {
		t.Errorf("%d epochs kept", len(l.epochs))
	}
	if l.Covers(first) || !l.Covers(l.Start()) || len(readAll(t, l, l.Start())) == 0 {
		t.Errorf("start %v, first %v", l.Start(), first)
	}
}

// A reader may resume inside a group, at a record without data that stands behind records with data.
func TestLogReadsFromInsideAGroup(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	l := s.Log()
	begin(t, l, 0)
	trim := block.Record{Time: 2, Kind: block.Trim, Off: 4096, Len: 4096}
	last := record(3, 10)
	for _, r := range []*block.Record{record(1, 10), &trim, last} {
		must(t, l.Submit(r))
	}
	must(t, l.Commit(last.Seq, false)) // one group
	after := trim.Seq
	after.Num--
	recs, err := l.Read(after, 1, 1, nil)
	must(t, err)
	if len(recs) != 1 || !sameRecord(&recs[0], &trim) {
		t.Fatalf("read %+v, want %+v", recs, trim)
	}
	recs, err = l.Read(trim.Seq, 100, 10, nil)
	must(t, err)
	if len(recs) != 1 || !sameRecord(&recs[0], last) {
		t.Fatalf("read %+v, want %+v", recs, last)
	}
}
