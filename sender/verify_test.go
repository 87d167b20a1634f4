package sender

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/disk"
	"drship/internal/ship"
	"drship/journal"
	"drship/wan/frame"
	"drship/wan/reduce"
)

type noHooks struct{}

func (noHooks) JournalFull(string)       {}
func (noHooks) DiskFailed(uint16, error) {}

// wire hands over what is sent.
type wire chan frame.Message

func (w wire) Send(ctx context.Context, m frame.Message) error {
	select {
	case w <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const testSize = 4 << 20

func testGroup(t *testing.T) (*Group, *Peer) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	store, err := journal.Open("store", journal.Options{FS: vfs.NewMem(), Logger: logger, MaxJournal: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Store: store, Disks: []VolumeDisk{{Number: 0, Disk: disk.NewMem(testSize, 1)}}, Peers: []string{"bob"},
		ALExtents: 67, MaxJournal: 64 << 20, Hooks: noHooks{}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Begin(0); err != nil {
		t.Fatal(err)
	}
	g.Open()
	t.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, g.Peer("bob")
}

func mustWrite(t *testing.T, g *Group, off int64, fill byte, n int) {
	t.Helper()
	if err := g.Volume(0).WriteAt(t.Context(), bytes.Repeat([]byte{fill}, n), off, false); err != nil {
		t.Fatal(err)
	}
}

// differ is an answer that says so of the given blocks.
func differ(m *frame.Verify, blocks ...int) *frame.VerifyReply {
	r := &frame.VerifyReply{ID: m.ID, Differ: make([]byte, (int(m.Len)/block.Size+7)/8)}
	for _, b := range blocks {
		r.Differ[b/8] |= 1 << (b % 8)
	}
	return r
}

func recv[T frame.Message](t *testing.T, w wire) T {
	t.Helper()
	m, ok := (<-w).(T)
	if !ok {
		t.Fatalf("got %T", m)
	}
	return m
}

func TestVerifyAsksAgainWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p := testGroup(t)
		mustWrite(t, g, 0, 1, 8192)
		w := make(wire)
		var found []VolumeRange
		v, err := p.Verify(VerifyConfig{Link: w, Alg: digest.CRC32C, Live: true, Ranges: []VolumeRange{{0, block.Range{Off: 0, Len: 1 << 20}}},
			Pace: func() ship.Pace { return ship.Pace{} }, Differ: func(r VolumeRange) { found = append(found, r) }})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- v.Run(t.Context()) }()

		m := recv[*frame.Verify](t, w)
		if m.At != g.End() || m.Len != 1<<20 {
			t.Fatalf("asked for %d bytes at %v, the write order ends at %v", m.Len, m.At, g.End())
		}
		// Block 3 is written in part before the answer; 3 and 5 differ.
		mustWrite(t, g, 3*4096+512, 2, 512)
		if err := v.Handle(differ(m, 3, 5)); err != nil {
			t.Fatal(err)
		}
		if want := []VolumeRange{{0, block.Range{Off: 5 * 4096, Len: 4096}}}; !slices.Equal(found, want) {
			t.Fatalf("found %v, want %v", found, want)
		}
		again := recv[*frame.Verify](t, w)
		if again.Off != 3*4096 || again.Len != 4096 || again.At != g.End() {
			t.Fatalf("asked again for %d bytes at %d, position %v of %v", again.Len, again.Off, again.At, g.End())
		}
		if p := v.Progress(); p.Off != 3*4096 || p.Done != 255*4096 {
			t.Fatalf("progress %+v", p)
		}
		if err := v.Handle(differ(again)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if pr := v.Progress(); pr.Differ != 1 || pr.Asked != 1 || pr.Unsettled != 0 || pr.Done != 1<<20 || p.OutOfSync() != 1 {
			t.Fatalf("progress %+v, %d out of sync", pr, p.OutOfSync())
		}
		if len(g.questions) != 0 {
			t.Fatalf("%d questions left open", len(g.questions))
		}
	})
}

// A block that is written each time it is asked for is given up, and said to be unsettled: never different.
func TestVerifyGivesUpAHotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p := testGroup(t)
		w := make(wire)
		v, err := p.Verify(VerifyConfig{Link: w, Alg: digest.XXH3, Live: true, Ranges: []VolumeRange{{0, block.Range{Off: 0, Len: 4096}}},
			Pace: func() ship.Pace { return ship.Pace{} }, Differ: func(r VolumeRange) { t.Errorf("%v reported as different", r) }})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- v.Run(t.Context()) }()
		for i := range verifyTries + 1 {
			m := recv[*frame.Verify](t, w)
			mustWrite(t, g, 0, byte(i), 512)
			if err := v.Handle(differ(m, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if pr := v.Progress(); pr.Unsettled != 1 || pr.Differ != 0 || p.OutOfSync() != 0 {
			t.Fatalf("progress %+v", pr)
		}
	})
}

func TestVerifyEndsWhenThePeerFallsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p := testGroup(t)
		w := make(wire)
		v, err := p.Verify(VerifyConfig{Link: w, Alg: digest.XXH3, Live: true, Ranges: []VolumeRange{{0, block.Range{Off: 0, Len: 4096}}},
			Pace: func() ship.Pace { return ship.Pace{} }, Differ: func(VolumeRange) {}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- v.Run(t.Context()) }()
		recv[*frame.Verify](t, w)
		g.order.Lock()
		g.untrackLocked(func(*Peer) bool { return true })
		g.order.Unlock()
		if err := <-done; !errors.Is(err, ErrVerifyBehind) {
			t.Fatalf("ended with %v", err)
		}
	})
}

// A repair reads a block, and sends it behind everything that it has seen; a write in between makes it read again.
func TestRepairStandsAtItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p := testGroup(t)
		w := make(wire)
		s, err := p.Open(StreamConfig{Link: w, Protocol: 'A', Position: g.End(), Reduce: reduce.Options{Digest: digest.CRC32C},
			Pace:     func() ship.Pace { return ship.Pace{} },
			Starting: func(context.Context, *frame.StreamStart) error { return nil }, Synced: func(context.Context) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		if m := recv[*frame.StreamStart](t, w); m.Mode != frame.ModeJournal {
			t.Fatalf("mode %v", m.Mode)
		}
		mustWrite(t, g, 0, 7, 4096)
		p.Bitmap(0).Set(block.Range{Off: 0, Len: 4096})
		var repaired uint64
		if err := s.Repair(RepairConfig{Pace: func() ship.Pace { return ship.Pace{} }, Done: func(n uint64, err error) {
			if err != nil {
				t.Error(err)
			}
			repaired = n
		}}); err != nil {
			t.Fatal(err)
		}
		b := recv[*frame.Batch](t, w)
		if b.Last != g.End() {
			t.Fatalf("batch leads to %v, want %v", b.Last, g.End())
		}
		c := recv[*frame.Chunk](t, w)
		if c.Off != 0 || c.Len != 4096 {
			t.Fatalf("chunk of %d bytes at %d", c.Len, c.Off)
		}
		if err := s.Handle(t.Context(), &frame.ChunkAck{IDs: []uint64{c.ID}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if repaired != 1 || p.OutOfSync() != 0 || s.Repairing() || len(g.questions) != 0 {
			t.Fatalf("%d repaired, %d out of sync, %d questions", repaired, p.OutOfSync(), len(g.questions))
		}
		cancel()
		<-ran
	})
}
