package receiver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/wan/frame"
	"drship/wan/reduce"
)

const (
	volumeCount = 2
	volumeSize  = 256<<10 + 512 // the last block is short
	volumeUnits = volumeSize / 512
	cacheSize   = 11 << 20 // the least that is of use
	waitLimit   = 20 * time.Second
)

// world is a source played by the test, a target, and what is known of both. Its gate makes a crash hit the disks and
// the store at one moment: everything that changes one of them holds it for reading.
type world struct {
	t    *testing.T
	rnd  *rand.Rand
	gate sync.RWMutex

	// The target's machine.
	store  *testStore
	disks  [volumeCount]*disk.Mem
	target *Target
	run    *Run
	link   *testLink
	life   int // counts restarts; guarded by gate

	// What the target's owner has made durable, and what the test remembers for it; guarded by gate.
	inconsistent bool
	point        []byte // what a rollback must lead to; nil where there is no way back
	finished     int    // resyncs
	fullEvents   int

	// The source.
	base     []byte         // both sides, at the start
	image    []byte         // the source's volumes, one behind the other
	recs     []block.Record // all records ever, recs[i] leads to position i+1
	epoch    uint64
	sent     int  // records sent in this session, or covered by its StreamStart
	resync   bool // the stream's mode
	ended    bool // ResyncEnd is out
	lost     bool // a batch never arrived, and the target has not said so yet
	covered  int  // the journal holds everything behind this position
	dirty    map[int]bool
	chunks   map[uint64][]int // outstanding, by ID: blocks
	queries  map[uint64][]int
	verifies map[uint64]verify
	from     int // where the stream was started
	nextID   uint64
	packing  reduce.Options
	enc      *reduce.Encoder // of the session
	acked    Marks           // the latest
	resends  int
	verified int

	rollbacks, crashes, spilled, reduced int
}

// testLink collects what the target says.
type testLink struct {
	w    *world
	mu   sync.Mutex
	msgs []frame.Message
	wake chan struct{}
}

func (l *testLink) Send(_ context.Context, m frame.Message) error {
	l.w.gate.RLock()
	defer l.w.gate.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.msgs = append(l.msgs, m)
	signal(l.wake)
	return nil
}

func (l *testLink) take() []frame.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	msgs := l.msgs
	l.msgs = nil
	return msgs
}

// gatedDisk lets a crash happen between two operations only, and checks that what is overwritten has been kept.
type gatedDisk struct {
	disk.Disk
	w       *world
	volume  uint16
	history historyStore
}

func (d *gatedDisk) WriteAt(p []byte, off int64) error {
	d.w.gate.RLock()
	defer d.w.gate.RUnlock()
	d.kept(p, off)
	return d.Disk.WriteAt(p, off)
}

func (d *gatedDisk) Zero(off, n int64, punch bool) error {
	d.w.gate.RLock()
	defer d.w.gate.RUnlock()
	d.kept(make([]byte, n), off)
	return d.Disk.Zero(off, n, punch)
}

// kept fails the test if a block is about to change that has no pre-image although a history is open.
func (d *gatedDisk) kept(p []byte, off int64) {
	if _, open := d.history.Open(); !open {
		return
	}
	old := make([]byte, len(p))
	if err := d.ReadAt(old, off); err != nil {
		d.w.t.Error(err)
	}
	for len(p) > 0 {
		n := min(int(block.Size-off%block.Size), len(p))
		if blk := uint64(off / block.Size); !bytes.Equal(p[:n], old[:n]) && !d.history.Saved(d.volume, blk) {
			d.w.t.Errorf("block %d of volume %d is overwritten and was not kept", blk, d.volume)
			return
		}
		p, old, off = p[n:], old[n:], off+int64(n)
	}
}

// testHooks is the target's owner during one life.
type testHooks struct {
	w    *world
	life int
}

func (h *testHooks) ResyncFinished(context.Context, block.Seq) error {
	h.w.gate.RLock()
	defer h.w.gate.RUnlock()
	if h.life == h.w.life {
		h.w.inconsistent, h.w.point = false, nil
		h.w.finished++
	}
	return nil
}

func (h *testHooks) StreamStarted(_ context.Context, m *frame.StreamStart) error {
	h.w.gate.RLock()
	defer h.w.gate.RUnlock()
	if h.life != h.w.life {
		return nil
	}
	_, open := h.w.target.CanRollback()
	if open && h.w.point == nil {
		h.w.point = h.w.replica()
	}
	h.w.inconsistent = m.Mode == frame.ModeResync
	return nil
}

func (h *testHooks) DiskFailed(volume uint16, err error) { h.w.t.Errorf("disk %d: %v", volume, err) }
func (h *testHooks) StoreFailed(err error)               { h.w.t.Errorf("store: %v", err) }

func (h *testHooks) HistoryFull(error) {
	h.w.gate.RLock()
	defer h.w.gate.RUnlock()
	if h.life == h.w.life {
		h.w.point = nil
		h.w.fullEvents++
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0x7265))
	packing := reduce.Options{Codec: frame.Codec(rnd.IntN(2)), Digest: digest.CRC32C, Fold: rnd.IntN(2) == 0}
	packing.Delta, packing.Dedupe, packing.Cache = seed%3 > 0, seed%3 > 0, cacheSize
	w := &world{
		t: t, rnd: rnd, store: newTestStore(t), packing: packing, epoch: 1,
		dirty: make(map[int]bool), base: make([]byte, volumeCount*volumeSize),
	}
	for i := 0; i < len(w.base); i += 512 {
		if rnd.IntN(3) > 0 {
			copy(w.base[i:], w.content(512))
		}
	}
	w.image = bytes.Clone(w.base)
	for v := range w.disks {
		w.disks[v] = disk.NewMem(volumeSize, seed+uint64(v))
		w.must(w.disks[v].WriteAt(w.base[v*volumeSize:(v+1)*volumeSize], 0))
		w.must(w.disks[v].Sync())
	}
	w.boot()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// content makes data that tells itself apart; now and then it is zeroes.
func (w *world) content(n int) []byte {
	p := make([]byte, n)
	if w.rnd.IntN(6) > 0 {
		stamp := w.rnd.Uint64()
		for i := range p {
			p[i] = byte(stamp >> (i % 8 * 8))
		}
	}
	return p
}

// boot starts the target on what the machine's disks and store hold, and checks what must hold after a restart.
func (w *world) boot() {
	w.t.Helper()
	w.life++
	hooks := &testHooks{w: w, life: w.life}
	c := Config{
		Hooks: hooks, Logger: slog.New(slog.DiscardHandler), Digest: digest.CRC32C,
		MaxQueueBytes: 32<<10 + w.rnd.Int64N(128<<10), StreamStarted: hooks.StreamStarted, CacheBytes: cacheSize,
		Consistent: func() bool { return !w.inconsistent },
	}
	for v, d := range w.disks {
		c.Volumes = append(c.Volumes, Volume{Number: uint16(v), Disk: &gatedDisk{Disk: d, w: w, volume: uint16(v), history: w.store.History()}})
	}
	var err error
	w.target, err = newTarget(c, &gatedStaging{w.store.Staging(), w}, &gatedHistory{w.store.History(), w})
	w.must(err)
	w.must(w.target.Recover(w.t.Context()))
	m := w.target.Marks()
	if m.Applied != m.Staged {
		w.t.Fatalf("after recovery: %+v", m)
	}
	_, open := w.target.CanRollback()
	switch {
	case !w.inconsistent: // crashed between Begin and the hook, or between the hook and End
		w.must(w.target.EndHistory())
		w.point = nil
	case open != (w.point != nil):
		w.t.Fatalf("a way back is open: %v, wanted: %v", open, w.point != nil)
	}
	if !w.inconsistent {
		w.same("after recovery", w.replica(), w.imageAt(w.index(m.Staged)))
	}
}

// index is the number of records up to a position.
func (w *world) index(s block.Seq) int {
	if s.IsZero() {
		return 0
	}
	if n := int(s.Num); n > len(w.recs) || w.recs[n-1].Seq != s {
		w.t.Fatalf("position %v never was", s)
	}
	return int(s.Num)
}

func (w *world) seq(index int) block.Seq {
	if index == 0 {
		return block.Seq{}
	}
	return w.recs[index-1].Seq
}

// imageAt is what the source's volumes held after the first n records.
func (w *world) imageAt(n int) []byte {
	image := bytes.Clone(w.base)
	for i := range w.recs[:n] {
		applyTo(image, &w.recs[i])
	}
	return image
}

func applyTo(image []byte, r *block.Record) {
	at := int(r.Volume)*volumeSize + int(r.Off)
	if r.Kind == block.Write {
		copy(image[at:], r.Data)
		return
	}
	clear(image[at : at+int(r.Len)])
}

// replica reads the target's disks as they are now.
func (w *world) replica() []byte {
	image := make([]byte, volumeCount*volumeSize)
	for v, d := range w.disks {
		if err := d.ReadAt(image[v*volumeSize:(v+1)*volumeSize], 0); err != nil {
			panic(fmt.Sprintf("read a disk in memory: %v", err)) // also called from hooks
		}
	}
	return image
}

func (w *world) same(when string, got, want []byte) {
	w.t.Helper()
	for i := 0; i < len(got); i += 512 {
		if !bytes.Equal(got[i:min(i+512, len(got))], want[i:min(i+512, len(want))]) {
			w.t.Fatalf("%s: sector %d of volume %d differs from the model", when, i%volumeSize/512, i/volumeSize)
		}
	}
}

// connect starts a session: by journal where that is enough, else with a resync.
func (w *world) connect() {
	w.link = &testLink{w: w, wake: make(chan struct{}, 1)}
	w.run = w.target.Start(w.t.Context(), w.link)
	var err error
	w.enc, err = reduce.NewEncoder(w.packing)
	w.must(err)
	w.chunks, w.queries, w.verifies, w.ended = make(map[uint64][]int), make(map[uint64][]int), make(map[uint64]verify), false
	staged := w.target.Marks().Staged
	w.acked = Marks{}
	at := w.index(staged)
	if at < w.covered { // the journal does not reach back: the blocks in between, and then on from the end
		w.setDirty(at, len(w.recs))
		at = len(w.recs)
	}
	w.resync = len(w.dirty) > 0 || w.inconsistent
	mode := frame.ModeJournal
	if w.resync {
		mode = frame.ModeResync
	}
	w.sent, w.from, w.lost = at, at, false
	w.handle(&frame.StreamStart{Mode: mode, From: w.seq(at), Keep: w.resync})
}

// disconnect ends the session in an orderly way.
func (w *world) disconnect() {
	w.t.Helper()
	if w.run == nil {
		return
	}
	if err := w.run.Stop(); err != nil {
		w.t.Fatalf("stop: %v", err)
	}
	w.answers()
	w.run = nil
}

// crash takes the power from the target and starts it again.
func (w *world) crash() {
	w.t.Helper()
	w.crashes++
	w.spilled += int(w.target.Stats().Spilled)
	w.gate.Lock()
	w.life++ // what happens from now on happens to nobody
	var said []frame.Message
	if w.run != nil {
		said = w.link.take()
	}
	fs := w.store.power(w.rnd)
	var disks [volumeCount]*disk.Mem
	for v, d := range w.disks {
		disks[v] = d.CrashClone()
	}
	w.gate.Unlock()
	if w.run != nil {
		_ = w.run.Stop() // of a machine that is gone
		w.run = nil
	}
	arrived := w.rnd.IntN(2) == 0
	for _, m := range said {
		if _, isAck := m.(*frame.Ack); isAck || arrived {
			w.answer(m)
		}
	}
	w.store.close()
	w.store, w.disks = openTestStore(w.t, fs, w.store.o), disks
	claimed := w.acked
	w.boot()
	if m := w.target.Marks(); m.Staged.Less(claimed.Staged) {
		w.t.Fatalf("%v was acknowledged as staged, a crash left %v", claimed.Staged, m.Staged)
	}
}

// handle puts a message on the data lane.
func (w *world) handle(m frame.Message) {
	w.t.Helper()
	if err := frame.Validate(m); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), waitLimit)
	defer cancel()
	if err := w.run.Handle(ctx, m); err != nil {
		w.t.Fatalf("handle %T: %v", m, err)
	}
}

// settle brings both sides together and checks that they are equal.
func (w *world) settle() {
	w.t.Helper()
	if w.run == nil {
		w.connect()
	}
	w.append() // a batch that was lost shows when the next one comes
	limit := time.After(waitLimit)
	for {
		w.answers()
		for w.sent < len(w.recs) {
			w.sendBatch(false)
		}
		for w.resync && len(w.dirty) > 0 && len(w.chunks) < 8 && w.sendChunk() {
		}
		w.maybeEnd()
		if !w.resync && w.acked.Applied == w.seq(len(w.recs)) && len(w.queries)+len(w.verifies) == 0 {
			break
		}
		select {
		case <-w.link.wake:
		case <-w.run.Done():
			w.t.Fatalf("the run ended: %v", w.run.Err())
		case <-limit:
			w.t.Fatalf("no peace: marks %+v, sent %d of %d, resync %v, %d dirty, %d chunks out, %d queries, %+v", w.acked,
				w.sent, len(w.recs), w.resync, len(w.dirty), len(w.chunks), len(w.queries), w.target.Stats())
		}
	}
	w.same("at the end", w.replica(), w.image)
}
