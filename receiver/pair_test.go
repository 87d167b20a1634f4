package receiver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a target with one volume of 64 blocks, and the means to send to it by hand.
type pair struct {
	t      *testing.T
	store  *testStore
	disk   *disk.Mem
	faults *disk.Plan
	target *Target
	run    *Run
	link   *chanLink
	enc    *reduce.Encoder
	at     block.Seq // where the next batch starts
	config Config

	mu     sync.Mutex
	events []string
}

const pairSize = 64 * block.Size

// chanLink hands on what the target says, one after another.
type chanLink struct{ said chan frame.Message }

func (l *chanLink) Send(ctx context.Context, m frame.Message) error {
	select {
	case l.said <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pair) event(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, what)
}

func (p *pair) happened() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events
}

func (p *pair) ResyncFinished(context.Context, block.Seq) error { p.event("finished"); return nil }
func (p *pair) DiskFailed(uint16, error)                        { p.event("disk") }
func (p *pair) HistoryFull(error)                               { p.event("history") }
func (p *pair) StoreFailed(error)                               { p.event("store") }

// newPair makes a pair; wrap, where given, stands between the target and staging.
func newPair(t *testing.T, o journal.Options, wrap func(stagingStore) stagingStore) *pair {
	t.Helper()
	enc, err := reduce.NewEncoder(reduce.Options{Digest: digest.CRC32C})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, store: openTestStore(t, vfs.NewCrashableMem(), o), disk: disk.NewMem(pairSize, 1), faults: &disk.Plan{},
		enc: enc, link: &chanLink{said: make(chan frame.Message, 1024)}}
	t.Cleanup(p.store.close)
	p.config = Config{
		Hooks: p, Logger: slog.New(slog.DiscardHandler), Digest: digest.CRC32C,
		Volumes: []Volume{{Number: 0, Disk: disk.Faulty(p.disk, p.faults)}},
	}
	var staging stagingStore = p.store.Staging()
	if wrap != nil {
		staging = wrap(staging)
	}
	p.target, err = newTarget(p.config, staging, p.store.History())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start opens a session that goes on from where the target stands.
func (p *pair) start(mode frame.Mode) {
	p.t.Helper()
	p.run = p.target.Start(p.t.Context(), p.link)
	p.t.Cleanup(func() { _ = p.run.Stop() }) // tests that care have stopped it
	p.at = p.target.Marks().Staged
	p.handle(&frame.StreamStart{Mode: mode, From: p.at, Keep: true})
}

func (p *pair) handle(m frame.Message) {
	p.t.Helper()
	if err := p.run.Handle(p.t.Context(), m); err != nil {
		p.t.Fatal(err)
	}
}

func fill(b byte, blocks int) []byte { return bytes.Repeat([]byte{b}, blocks*block.Size) }

// batch packs one write of whole blocks and moves on.
func (p *pair) batch(blk int, data []byte) *frame.Batch {
	p.t.Helper()
	prev := p.at
	p.at = block.Seq{Epoch: max(prev.Epoch, 1), Num: prev.Num + 1}
	return p.pack(prev, block.Record{Seq: p.at, Kind: block.Write, Off: int64(blk) * block.Size, Len: uint32(len(data)), Data: data})
}

func (p *pair) pack(prev block.Seq, recs ...block.Record) *frame.Batch {
	p.t.Helper()
	b, err := p.enc.Batch(prev, recs, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *pair) chunk(id uint64, blk int, data []byte) *frame.Chunk {
	p.t.Helper()
	c, err := p.enc.Chunk(id, 0, int64(blk)*block.Size, data, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// said waits for the next message that want accepts.
func said[M frame.Message](p *pair, want func(M) bool) M {
	p.t.Helper()
	for {
		select {
		case m := <-p.link.said:
			if m, ok := m.(M); ok && (want == nil || want(m)) {
				return m
			}
		case <-p.run.Done():
			p.t.Fatalf("the run ended: %v", p.run.Err())
		}
	}
}

// applied waits until everything sent is.
func (p *pair) applied() {
	p.t.Helper()
	said(p, func(a *frame.Ack) bool { return a.Applied == p.at })
}

// failed waits for the end of the run and returns what Stop says.
func (p *pair) failed() error {
	p.t.Helper()
	<-p.run.Done()
	return p.run.Stop()
}

func (p *pair) holds(blk int, data []byte) {
	p.t.Helper()
	got := make([]byte, len(data))
	if err := p.disk.ReadAt(got, int64(blk)*block.Size); err != nil || !bytes.Equal(got, data) {
		p.t.Fatalf("block %d does not hold what it should (%v)", blk, err)
	}
}

var errInjected = errors.New("injected")
