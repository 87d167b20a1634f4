package sender

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"drship/internal/block"
	"drship/wan/frame"
)

// ackAll has the peer stage and apply everything that was sent.
func (b *bench) ackAll() {
	b.Helper()
	at := b.group.Peer("bob").Marks().Sent
	b.handle(&frame.Ack{Received: at, Staged: at, Applied: at})
}

// A journal that is full again in the resync that followed is not waited for a second time: the peer is chased, by bitmap
// alone, and what is written meanwhile is never taken for sent.
func TestFullAgainIsAChase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'C', 1<<20, PullAhead)
		p := b.group.Peer("bob")
		b.fillUnanswered()
		b.ackAll()
		time.Sleep(2 * time.Second) // the dwell is over
		synctest.Wait()
		if s := last[*frame.StreamStart](b.line); s.Mode != frame.ModeResync || b.stream.Chasing() {
			t.Fatalf("no resync beside the journal: %+v", s)
		}
		b.fillUnanswered()
		b.ackAll()
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if s := last[*frame.StreamStart](b.line); s.Mode != frame.ModeResync || !b.stream.Chasing() || s.Blocks != p.OutOfSync() {
			t.Fatalf("not chased: %+v, %d blocks out of sync", s, p.OutOfSync())
		}
		// A write to a block that is under way keeps its bit; the others of the run lose theirs. Nobody waits for the peer.
		c := last[*frame.Chunk](b.line)
		b.complete(b.write(c.Off+block.Size, 512))
		before := p.OutOfSync()
		b.handle(&frame.ChunkAck{IDs: []uint64{c.ID}})
		if got := before - p.OutOfSync(); got != uint64(c.Len/block.Size)-1 {
			t.Errorf("%d blocks of %d count as sent, all but the one that was written must", got, c.Len/block.Size)
		}
		if !p.Bitmap(0).Contains(block.Range{Off: c.Off + block.Size, Len: block.Size}) {
			t.Error("a block counts as in sync, and the peer has its old content")
		}
		b.answerChunks(func() {})
		time.Sleep(3 * time.Second) // the writers rest: back to the journal, and to the end
		b.answerChunks(func() {})
		time.Sleep(time.Second)
		synctest.Wait()
		if b.stream.Chasing() || p.OutOfSync() != 0 || last[*frame.ResyncEnd](b.line) == nil {
			t.Errorf("the chase does not end: chasing %v, %d blocks", b.stream.Chasing(), p.OutOfSync())
		}
	})
}

// fillUnanswered writes until the journal is given up.
func (b *bench) fillUnanswered() {
	b.Helper()
	p := b.group.Peer("bob")
	for i := int64(0); p.ByJournal(); i++ {
		b.write(i%64*128<<10, 128<<10)
	}
	<-b.hooks.full
	synctest.Wait()
}

// answerChunks acknowledges chunks until no more come, and calls between in between.
func (b *bench) answerChunks(between func()) {
	b.Helper()
	for seen := uint64(0); ; {
		var ids []uint64
		b.line.mu.Lock()
		for _, m := range b.line.sent {
			if c, ok := m.(*frame.Chunk); ok && c.ID > seen {
				ids = append(ids, c.ID)
			}
		}
		b.line.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		between()
		seen = ids[len(ids)-1]
		b.handle(&frame.ChunkAck{IDs: ids})
	}
}

// What a chase has under way is found by place, whatever the order in which runs come and go.
func TestOnWayFindsWhatIsWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	volumes := []*Volume{{index: 0}, {index: 1}}
	w := &onWay{}
	open := map[*question]bool{}
	for range 3000 {
		v := volumes[rng.IntN(2)]
		slot := rng.Int64N(64) * 64 * block.Size
		switch q := newQuestion(v, block.Range{Off: slot, Len: (1 + rng.Int64N(64)) * block.Size}); {
		case rng.IntN(3) == 0:
			for old := range open {
				w.remove(old)
				delete(open, old)
				break
			}
		case !taken(open, v, slot):
			w.add(q)
			open[q] = true
		}
		r := block.Range{Off: rng.Int64N(64 * 64 * block.Size), Len: 1 + rng.Int64N(200*block.Size)}
		for q := range open {
			clear(q.written)
		}
		w.touch(v, r)
		for q := range open {
			for i := range q.blocks() {
				b := block.Range{Off: q.Off + int64(i)*block.Size, Len: block.Size}
				if want := q.volume == v && b.Overlaps(r); bit(q.written, i) != want {
					t.Fatalf("a write of %v to volume %d: block at %d of volume %d marked %v", r, v.index, b.Off, q.volume.index, !want)
				}
			}
		}
		if len(w.runs) != len(open) {
			t.Fatalf("%d runs kept, %d are open", len(w.runs), len(open))
		}
	}
}

func taken(open map[*question]bool, v *Volume, off int64) bool {
	for q := range open {
		if q.volume == v && q.Off == off {
			return true
		}
	}
	return false
}

// TestChaseEndsUnderWriters: writers that never rest, on a line that carries far more than they write, do not keep a chase alive: a chase that has nothing more to
// send says nothing about what the line carries.
func TestChaseEndsUnderWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'C', 1<<20, PullAhead)
		b.fillUnanswered()
		b.ackAll()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p := b.group.Peer("bob")
		p.mu.Lock()
		p.congestion.Dwell = 10 * time.Second // long enough for the line to be reckoned
		p.mu.Unlock()
		b.fillUnanswered() // again, in the resync: a chase
		b.ackAll()
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if !b.stream.Chasing() {
			t.Fatal("no chase")
		}
		for i := int64(0); b.stream.Chasing(); i++ {
			if i == 600 {
				t.Fatalf("after a minute the chase goes on, with %d blocks before it", p.OutOfSync())
			}
			under := last[*frame.Chunk](b.line).ID // the line has a delay: something is always under way
			b.complete(b.write(i%512*block.Size, block.Size))
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			b.answerChunksTo(under)
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
	})
}

// answerChunksTo acknowledges all chunks up to one.
func (b *bench) answerChunksTo(id uint64) {
	b.Helper()
	var ids []uint64
	for i := range id {
		ids = append(ids, i+1)
	}
	b.handle(&frame.ChunkAck{IDs: ids})
}
