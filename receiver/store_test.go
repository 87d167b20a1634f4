package receiver

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/internal/block"
	"drship/journal"
)

// testStore is a store on a file system that can lose power.
type testStore struct {
	t  *testing.T
	fs *vfs.MemFS
	o  journal.Options
	*journal.Store
}

func newTestStore(t *testing.T) *testStore {
	t.Helper()
	return openTestStore(t, vfs.NewCrashableMem(), journal.Options{})
}

func openTestStore(t *testing.T, fs *vfs.MemFS, o journal.Options) *testStore {
	t.Helper()
	o.FS, o.Logger = fs, slog.New(slog.DiscardHandler)
	s, err := journal.Open("store", o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	return &testStore{t: t, fs: fs, o: o, Store: s}
}

// power returns the file system as a loss of power leaves it.
func (s *testStore) power(rnd *rand.Rand) *vfs.MemFS {
	return s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rand.New(rand.NewPCG(rnd.Uint64(), 0))})
}

func (s *testStore) close() {
	if err := s.Close(); err != nil {
		s.t.Errorf("close store: %v", err)
	}
}

// gatedStaging and gatedHistory let a crash happen between two operations only.
type gatedStaging struct {
	stagingStore
	w *world
}

func (g *gatedStaging) Append(entries []journal.Staged) error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.stagingStore.Append(entries)
}

func (g *gatedStaging) Applied(upTo block.Seq) error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.stagingStore.Applied(upTo)
}

func (g *gatedStaging) Reset(pos block.Seq) error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.stagingStore.Reset(pos)
}

type gatedHistory struct {
	historyStore
	w *world
}

func (g *gatedHistory) Begin(at block.Seq) error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.historyStore.Begin(at)
}

func (g *gatedHistory) Save(images []journal.Image) error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.historyStore.Save(images)
}

func (g *gatedHistory) End() error {
	g.w.gate.RLock()
	defer g.w.gate.RUnlock()
	return g.historyStore.End()
}
