package journal

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
)

// ledger is what a store promised, and what it may have kept beyond that.
type ledger struct {
	rng    *rand.Rand
	fsys   *vfs.MemFS
	s      *Store
	al     *ActivityLog
	epochs map[uint64]bool
	next   uint64 // content of the next record

	records map[block.Seq]*block.Record // everything ever committed
	start   block.Seq                   // of the epoch
	synced  block.Seq                   // durable for sure
	trimmed uint64                      // asked for

	meta            uint64    // durable for sure
	applied, staged block.Seq // applied: highest mark ever set
	entries         map[block.Seq]Staged
	hot             map[int64]bool
	images          map[uint64]bool
	bits            *model // those that were flushed
}

func (g *ledger) String() string {
	return fmt.Sprintf("synced %v, trimmed %d, staged %v, %d records", g.synced, g.trimmed, g.staged, len(g.records))
}

// open opens the store and holds it against the promises.
func (g *ledger) open(t *testing.T) {
	t.Helper()
	g.s = openMem(t, g.fsys, Options{})
	g.checkLog(t)
	g.checkRest(t)
	start, err := g.s.Log().Begin(0)
	must(t, err)
	if g.epochs[start.Epoch] || start.Num < g.synced.Num {
		t.Fatalf("epoch %v begun, %v", start, g)
	}
	for e := range g.epochs {
		if e >= start.Epoch {
			t.Fatalf("epoch %x after %x", start.Epoch, e)
		}
	}
	g.epochs[start.Epoch] = true
	g.start, g.synced = start, start
}

func (g *ledger) checkLog(t *testing.T) {
	t.Helper()
	l := g.s.Log()
	from, end := l.Start(), l.End()
	if end.Num < g.synced.Num || from.Num > max(g.trimmed, g.start.Num) {
		t.Fatalf("log from %v to %v: %v", from, end, g)
	}
	if end.IsZero() {
		return
	}
	recs := readAll(t, l, from)
	if uint64(len(recs)) != end.Num-from.Num {
		t.Fatalf("%d records from %v to %v: %v", len(recs), from, end, g)
	}
	for i := range recs {
		if want := g.records[recs[i].Seq]; want == nil || !sameRecord(want, &recs[i]) {
			t.Fatalf("record %v was never written: %v", recs[i].Seq, g)
		}
	}
	// What is lost stays lost: its positions are not covered, and its numbers come back under another epoch only.
	for seq := range g.records {
		if lost := seq.Epoch == end.Epoch && seq.Num > end.Num; lost && l.Covers(seq) {
			t.Fatalf("lost position %v is covered: %v", seq, g)
		} else if lost {
			delete(g.records, seq)
		}
	}
	if l.Covers(g.synced) != (g.synced.Num >= from.Num) && !g.synced.IsZero() {
		t.Fatalf("synced position %v, log from %v", g.synced, from)
	}
}

func (g *ledger) checkRest(t *testing.T) {
	t.Helper()
	if m, err := g.s.Meta(); g.meta > 0 && (err != nil || m.Epoch < g.meta) {
		t.Fatalf("metadata %d: %v, %d was stored", m.Epoch, err, g.meta)
	}
	applied, staged := g.s.Staging().Marks()
	if g.applied.Less(applied) || staged.Less(g.staged) {
		t.Fatalf("marks %v, %v: %v", applied, staged, g)
	}
	for _, e := range replay(t, g.s.Staging()) {
		if want := g.entries[e.Last]; string(want.Raw) != string(e.Raw) || want.Prev != e.Prev {
			t.Fatalf("staged batch %v was never staged", e.Last)
		}
	}
	g.staged = staged
	g.al = openAL(t, g.s, 20, g.beforeCold)
	got := hot(t, g.al)
	for e := range g.hot {
		if !got[[2]int64{0, e}] {
			t.Fatalf("extent %d was acquired and is cold", e)
		}
	}
	g.hot = map[int64]bool{}
	must(t, g.al.Clear())
	h := g.s.History()
	must(t, h.Begin(pos(1)))
	if got := restore(t, h); len(g.images) > 0 {
		for b := range g.images {
			if string(got[blockID{0, b}]) != string(payload(b, 50)) {
				t.Fatalf("image of block %d is lost", b)
			}
		}
	}
	b := g.bitmap(t)
	for i, set := range g.bits.bits {
		if set && !b.Contains(block.Range{Off: int64(i) * block.Size, Len: 1}) {
			t.Fatalf("bit %d was flushed and is clear", i)
		}
	}
}

func (g *ledger) beforeCold() error { return g.s.FlushBitmaps() }

func (g *ledger) bitmap(t *testing.T) *Bitmap {
	t.Helper()
	b, err := g.s.Bitmap("bob", 0, g.bits.size)
	must(t, err)
	return b
}

// step does something at random. What it promises is noted when it has returned.
func (g *ledger) step(t *testing.T) {
	t.Helper()
	l := g.s.Log()
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3:
		var last block.Seq
		for range g.rng.IntN(6) + 1 {
			g.next++
			r := record(g.next, g.rng.IntN(20000))
			must(t, l.Submit(r))
			g.records[r.Seq] = r
			last = r.Seq
		}
		sync := g.rng.IntN(3) == 0
		must(t, l.Commit(last, sync))
		if sync {
			g.synced = last
		}
	case 4:
		must(t, g.s.Sync())
		g.synced = l.End()
	case 5:
		from, end := l.Start(), l.End()
		upTo := block.Seq{Epoch: end.Epoch, Num: max(g.start.Num, from.Num+g.rng.Uint64N(end.Num-from.Num+1))}
		must(t, l.Trim(upTo))
		g.trimmed = max(g.trimmed, upTo.Num)
	case 6:
		g.meta++
		must(t, g.s.SetMeta(Meta{Epoch: g.meta}))
	case 7:
		_, at := g.s.Staging().Marks()
		var in []Staged
		for range g.rng.IntN(4) + 1 {
			to := pos(at.Num + g.rng.Uint64N(5000) + 1)
			in = append(in, Staged{Prev: at, Last: to, Raw: payload(to.Num, 300)})
			g.entries[to] = in[len(in)-1]
			at = to
		}
		must(t, g.s.Staging().Append(in))
		g.staged = at
	case 8:
		if all := replay(t, g.s.Staging()); len(all) > 0 {
			g.applied = all[g.rng.IntN(len(all))].Last
			must(t, g.s.Staging().Applied(g.applied))
		}
	case 9:
		e := g.rng.Int64N(60)
		must(t, g.al.Acquire(t.Context(), 0, at(e)))
		g.al.Release(0, at(e))
		g.hot = map[int64]bool{e: true} // others may have become cold
	case 10:
		b := g.rng.Uint64N(1000)
		must(t, g.s.History().Save([]Image{{Block: b, Data: payload(b, 50)}}))
		g.images[b] = true
	case 11:
		r := randomRange(g.rng, g.bits.size)
		g.bitmap(t).Set(r)
		must(t, g.bitmap(t).Flush())
		g.bits.set(r)
	}
}

// Whatever a call promised survives a power loss at any moment, with any part of what was not synced; nothing that
// was never written appears; epochs and numbers are never used twice.
func TestStoreSurvivesCrashes(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := seeded(t, seed)
			g := &ledger{
				rng: rng, fsys: vfs.NewCrashableMem(), epochs: map[uint64]bool{}, records: map[block.Seq]*block.Record{},
				entries: map[block.Seq]Staged{}, hot: map[int64]bool{}, images: map[uint64]bool{}, bits: newModel(400 << 20),
			}
			g.open(t)
			for range 8 {
				for range rng.IntN(60) {
					g.step(t)
				}
				switch rng.IntN(5) {
				case 0:
					must(t, g.s.Close())
				default:
					g.fsys = crash(g.fsys, []int{0, 0, 20, 50, 90}[rng.IntN(5)], rng)
				}
				g.open(t)
			}
		})
	}
}
