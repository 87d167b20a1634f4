package sender

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/internal/ship"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// line is a link that keeps what was sent.
type line struct {
	mu   sync.Mutex
	sent []frame.Message
}

// Send implements Link.
func (l *line) Send(_ context.Context, m frame.Message) error {
	if b, ok := m.(*frame.Batch); ok {
		c := *b
		c.Payload = append([]byte(nil), b.Payload...)
		m = &c
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, m)
	return nil
}

// last returns the newest message of a type, or the zero value.
func last[M frame.Message](l *line) (m M) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.sent) - 1; i >= 0; i-- {
		if found, ok := l.sent[i].(M); ok {
			return found
		}
	}
	return m
}

func count[M frame.Message](l *line) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.sent {
		if _, ok := m.(M); ok {
			n++
		}
	}
	return n
}

type fullHooks struct{ full chan string }

func (h fullHooks) JournalFull(peer string)  { h.full <- peer }
func (h fullHooks) DiskFailed(uint16, error) {}

// bench is a group of one volume with one peer, and a stream to it over a line.
type bench struct {
	*testing.T
	group  *Group
	stream *Stream
	line   *line
	hooks  fullHooks
}

const volumeSize = 16 << 20

func setUp(t *testing.T, protocol byte, maxJournal int64, onFull FullPolicy) *bench {
	t.Helper()
	return setUpWith(t, protocol, maxJournal, onFull, disk.NewMem(volumeSize, 1), func(*Peer, *StreamConfig) {})
}

// setUpWith has the peer and the stream's configuration changed before the stream runs.
func setUpWith(t *testing.T, protocol byte, maxJournal int64, onFull FullPolicy, d disk.Disk, change func(*Peer, *StreamConfig)) *bench {
	t.Helper()
	return setUpVolumes(t, protocol, maxJournal, onFull, []VolumeDisk{{Number: 0, Disk: d}}, change)
}

// setUpVolumes is setUpWith for several volumes.
func setUpVolumes(t *testing.T, protocol byte, maxJournal int64, onFull FullPolicy, disks []VolumeDisk, change func(*Peer, *StreamConfig)) *bench {
	t.Helper()
	store, err := journal.Open("r0", journal.Options{FS: vfs.NewMem(), MaxJournal: maxJournal})
	if err != nil {
		t.Fatal(err)
	}
	hooks := fullHooks{make(chan string, 8)}
	g, err := New(Config{Store: store, Disks: disks, Peers: []string{"bob"}, ALExtents: 67,
		MaxJournal: maxJournal, OnFull: onFull, Hooks: hooks, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Begin(0); err != nil {
		t.Fatal(err)
	}
	g.Open()
	b := &bench{T: t, group: g, line: &line{}, hooks: hooks}
	p := g.Peer("bob")
	p.StartHere()
	cfg := StreamConfig{Link: b.line, Protocol: protocol, Position: g.End(), AheadDwell: time.Second,
		Reduce:   reduce.Options{Codec: frame.CodecRaw, Digest: digest.CRC32C, Fold: true},
		Pace:     func() ship.Pace { return ship.Pace{} },
		Starting: func(context.Context, *frame.StreamStart) error { return nil },
		Synced:   func(context.Context) error { return nil }}
	change(p, &cfg)
	if b.stream, err = p.Open(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.stream.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return b
}

// write starts a write of n bytes at off and returns where its end is told.
func (b *bench) write(off int64, n int) chan error {
	done := make(chan error, 1)
	go func() { done <- b.group.Volume(0).WriteAt(context.Background(), make([]byte, n), off, false) }()
	synctest.Wait()
	return done
}

func (b *bench) pending(done chan error, why string) {
	b.Helper()
	select {
	case err := <-done:
		b.Fatalf("a write completed (%v) %s", err, why)
	default:
	}
}

func (b *bench) complete(done chan error) {
	b.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		if err != nil {
			b.Fatal(err)
		}
	default:
		b.Fatal("a write hangs")
	}
}

func (b *bench) handle(m frame.Message) {
	b.Helper()
	if err := b.stream.Handle(b.Context(), m); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

func TestProtocolsWaitForWhatTheyPromise(t *testing.T) {
	for _, protocol := range []byte("ABC") {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, protocol, 1<<30, PullAhead)
			from := b.group.End()
			done := b.write(0, block.Size)
			at := last[*frame.Batch](b.line).Last
			if protocol == 'A' {
				b.complete(done)
				return
			}
			b.pending(done, "before the peer had it")
			b.handle(&frame.Ack{Received: at, Staged: from, Applied: from})
			if protocol == 'C' {
				b.pending(done, "though the peer has not staged it")
				b.handle(&frame.Ack{Received: at, Staged: at, Applied: from})
			}
			b.complete(done)
		})
	}
}

func TestNobodyWaitsForAPeerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'C', 1<<30, PullAhead)
		done := b.write(0, block.Size)
		b.pending(done, "before the peer had it")
		b.stream.fail(context.Canceled)
		b.complete(done)
		b.complete(b.write(0, block.Size))
	})
}

func TestPeerIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'C', 1<<30, PullAhead)
		done := b.write(0, block.Size)
		beyond := b.group.End()
		beyond.Num++
		if err := b.stream.Handle(t.Context(), &frame.Ack{Received: beyond, Staged: beyond, Applied: beyond}); err == nil {
			t.Error("an acknowledgement of what was never sent was taken")
		}
		b.complete(done) // the stream ends, and lets the write go
	})
}

func TestResendGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'A', 1<<30, PullAhead)
		from := b.group.End()
		b.complete(b.write(0, block.Size))
		before := count[*frame.Batch](b.line)
		b.handle(&frame.Resend{From: from, Reason: frame.ResendDigest})
		time.Sleep(10 * time.Millisecond) // a batch may gather for a moment
		synctest.Wait()
		again := last[*frame.Batch](b.line)
		if count[*frame.Batch](b.line) != before+1 || again.Prev != from || again.Last != b.group.End() {
			t.Errorf("after a resend from %v: %d batches, the last %v…%v", from, count[*frame.Batch](b.line), again.Prev, again.Last)
		}
	})
}

func TestFullJournalGoesAheadAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'A', 1<<20, PullAhead)
		for i := range int64(20) { // nobody acknowledges: the journal fills
			b.complete(b.write(i*128<<10, 128<<10))
		}
		if peer := <-b.hooks.full; peer != "bob" {
			t.Fatalf("journal full for %q", peer)
		}
		if s := last[*frame.StreamStart](b.line); s == nil || s.Mode != frame.ModeAhead {
			t.Fatalf("the peer was not told: %+v", s)
		}
		p := b.group.Peer("bob")
		if oos := p.OutOfSync(); oos != 20*32 {
			t.Errorf("%d blocks out of sync, all %d that were written must be", oos, 20*32)
		}
		sent := p.Marks().Sent
		b.handle(&frame.Ack{Received: sent, Staged: sent, Applied: sent})
		time.Sleep(2 * time.Second) // the dwell is over
		synctest.Wait()
		start := last[*frame.StreamStart](b.line)
		if start.Mode != frame.ModeResync || start.From != b.group.End() || start.Blocks != 20*32 {
			t.Fatalf("no resync from the end of the order: %+v", start)
		}
		if count[*frame.Chunk](b.line) == 0 {
			t.Error("the resync sends nothing")
		}
	})
}

func TestFullJournalHoldsWritersIfTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'A', 1<<20, Block)
		var held chan error
		for i := int64(0); held == nil; i++ {
			done := b.write(i*128<<10, 128<<10)
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			default:
				held = done
			}
		}
		sent := b.group.Peer("bob").Marks().Sent
		b.handle(&frame.Ack{Received: sent, Staged: sent, Applied: sent})
		b.complete(held)
	})
}

// An answer that comes after the journal was given up must not clear a bit that a newer write has set.
func TestLateChunkAckClearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'A', 1<<20, PullAhead)
		p := b.group.Peer("bob")
		p.mu.Lock()
		b.stream.resync = newResync(1)
		b.stream.resync.out[7] = run{n: 1}
		p.mu.Unlock()
		b.group.order.Lock()
		b.group.untrackLocked(func(*Peer) bool { return true })
		b.group.order.Unlock()
		b.complete(b.write(0, block.Size))
		b.handle(&frame.ChunkAck{IDs: []uint64{7}})
		if !p.Bitmap(0).Contains(block.Range{Len: block.Size}) {
			t.Error("the block counts as in sync, and the peer does not have it")
		}
	})
}

// An epoch begins under a stream that has nothing to send: its peer is told, and has everything once it says so. Nothing else would wake
// the stream before the first write.
func TestAnEmptyEpochIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 'A', 1<<30, PullAhead)
		b.group.Peer("bob").StartHere()
		if !b.group.Peer("bob").Drained() {
			t.Fatal("the peer lacks something from the beginning")
		}
		end, err := b.group.Begin(0)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := last[*frame.Batch](b.line).Last; got != end {
			t.Fatalf("the peer was told %v, the epoch begins at %v", got, end)
		}
		b.handle(&frame.Ack{Received: end, Staged: end, Applied: end})
		if !b.group.Peer("bob").Drained() {
			t.Error("the peer lacks something though it is at the end")
		}
	})
}
