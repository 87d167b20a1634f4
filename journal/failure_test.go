package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"drship/internal/block"
)

// faults decides which writes of a store's database fail.
type faults struct {
	base    vfs.FS
	n       atomic.Int64 // writes until the first failure; negative: none
	sticky  bool         // all after it fail too
	err     error
	match   func(op errorfs.Op) bool // which operations count
	noSpace atomic.Bool              // ENOSPC as long as the reserve is there
}

func (f *faults) String() string { return "faults" }

func (f *faults) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !strings.Contains(op.Path, dirDB) {
		return nil
	}
	switch op.Kind {
	case errorfs.OpFileClose, errorfs.OpRemove, errorfs.OpFilePreallocate, errorfs.OpLock:
		return nil
	}
	if f.noSpace.Load() {
		if there, _ := exists(f.base, f.base.PathJoin("r0", fileReserve)); there {
			return syscall.ENOSPC
		}
	}
	if f.match != nil && !f.match(op) {
		return nil
	}
	if n := f.n.Add(-1); n == -1 || (n < -1 && n > -1<<40 && f.sticky) {
		return f.err
	}
	return nil
}

const never = -1 << 50

func faulty(base vfs.FS, err error, sticky bool) (*faults, vfs.FS) {
	f := &faults{base: base, err: err, sticky: sticky}
	f.n.Store(never)
	return f, errorfs.Wrap(base, f)
}

// alarm collects what OnFailure is told.
type alarm struct {
	mu   sync.Mutex
	errs []error
	ch   chan error
}

func newAlarm() *alarm { return &alarm{ch: make(chan error, 10)} }

func (a *alarm) raise(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = append(a.errs, err)
	a.ch <- err
}

// load writes with several goroutines until an error; each returns the last record that was durable, and the error.
func load(t *testing.T, s *Store, n int) (synced uint64, err error) {
	l := s.Log()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range n {
				r := record(uint64(i), 30000)
				e := l.Submit(r)
				if e == nil {
					e = l.Commit(r.Seq, (i+w)%5 == 0)
				}
				if e == nil && w == 0 {
					e = l.Trim(block.Seq{Epoch: r.Seq.Epoch, Num: r.Seq.Num - min(r.Seq.Num, 200)})
					if errors.Is(e, errTrimAhead) {
						e = nil
					}
				}
				mu.Lock()
				if e != nil {
					err = e
					mu.Unlock()
					return
				}
				if (i+w)%5 == 0 {
					synced = max(synced, r.Seq.Num)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return synced, err
}

// Every write, sync, creation and rename that a store does fails once, or from then on: no call hangs or lies, the process
// lives, the owner is told once, the next opening knows, and what was durable is there.
func TestStoreFailsWithoutHarm(t *testing.T) {
	step := int64(29)
	if testing.Short() {
		step = 97
	}
	for _, sticky := range []bool{false, true} {
		for n := int64(0); n < 300; n += step {
			t.Run(fmt.Sprintf("%d/%v", n, sticky), func(t *testing.T) {
				failOnce(t, n, sticky, nil)
			})
		}
	}
	for _, file := range []string{"MANIFEST", ".sst", ".log"} {
		for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpCreate} {
			if (kind == errorfs.OpCreate && file == "MANIFEST") || (kind == errorfs.OpFileSyncData && file != ".log") ||
				(kind == errorfs.OpFileSync && file != "MANIFEST") {
				continue // the workload does not do that
			}
			t.Run(fmt.Sprintf("%s/%d", file, kind), func(t *testing.T) {
				failOnce(t, 0, false, func(op errorfs.Op) bool { return op.Kind == kind && strings.Contains(op.Path, file) })
			})
		}
	}
}

func failOnce(t *testing.T, n int64, sticky bool, match func(op errorfs.Op) bool) {
	base := vfs.NewCrashableMem()
	f, fsys := faulty(base, syscall.EIO, sticky)
	f.match = match
	a := newAlarm()
	s := openMem(t, fsys, Options{OnFailure: a.raise})
	begin(t, s.Log(), 0)
	al := openAL(t, s, 10, s.Sync)
	put(t, s.Log(), record(1, 10), true) // stays: there is never room for all of MaxJournal
	waiting := make(chan error, 1)
	go func() { waiting <- s.Log().WaitRoom(context.Background(), DefaultMaxJournal) }()

	f.n.Store(n)
	synced, err := load(t, s, 600)
	if err == nil {
		t.Fatal("the workload does not reach the fault")
	}
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("writer got %v", err)
	}
	if told := <-a.ch; !errors.Is(told, ErrFailed) {
		t.Errorf("owner was told %v", told)
	}
	if err := <-waiting; !errors.Is(err, ErrFailed) {
		t.Errorf("waiter got %v", err)
	}
	for name, err := range map[string]error{
		"Sync": s.Sync(), "SetMeta": s.SetMeta(Meta{}), "Acquire": al.Acquire(context.Background(), 0, at(1)),
		"Append": s.Staging().Append([]Staged{batch(0, 1)}), "Begin": s.History().Begin(pos(1)), "Flush": s.FlushBitmaps(),
		"Submit": s.Log().Submit(record(1, 1)), "ClearLost": s.ClearLost(), "Rearm": s.Rearm(),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s after the failure: %v", name, err)
		}
	}
	f.n.Store(never)
	must(t, s.Close())
	if len(a.errs) != 1 {
		t.Errorf("owner was told %d times", len(a.errs))
	}
	for _, image := range []vfs.FS{crash(base, 0, nil), base} { // a power loss at once, or just a restart
		after := openMem(t, image, Options{})
		if !after.WasLost() {
			t.Error("the store does not know that it was lost")
		}
		if end := after.Log().End(); end.Num < synced {
			t.Errorf("journal ends at %v, %d was durable", end, synced)
		}
		readAll(t, after.Log(), after.Log().Start())
		must(t, after.ClearLost())
		must(t, after.Close())
		if again := openMem(t, image, Options{}); again.WasLost() {
			t.Error("still lost after ClearLost")
		}
	}
}

func TestStoreWhenSpaceRunsOut(t *testing.T) {
	base := vfs.NewMem()
	f, fsys := faulty(base, syscall.ENOSPC, true)
	a := newAlarm()
	s := openMem(t, fsys, Options{OnFailure: a.raise, Reserve: 1 << 20})
	begin(t, s.Log(), 0)
	al := openAL(t, s, 10, s.Sync)
	must(t, s.History().Begin(pos(1)))
	b, err := s.Bitmap("bob", 0, gib)
	must(t, err)
	f.noSpace.Store(true)
	if _, err := load(t, s, 1000); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		t.Fatalf("writer got %v", err)
	}
	if told := <-a.ch; !errors.Is(told, ErrNoSpace) || errors.Is(told, ErrFailed) {
		t.Errorf("owner was told %v", told)
	}
	if !s.LowSpace() || s.Failed() != nil || s.Usage().Reserve != 0 {
		t.Errorf("low %v, failed %v, reserve %d", s.LowSpace(), s.Failed(), s.Usage().Reserve)
	}
	if err := s.Staging().Append([]Staged{batch(0, 1)}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("staging: %v", err)
	}
	if err := s.History().Save([]Image{{Block: 1}}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("history: %v", err)
	}
	if _, err := s.Log().Drop(); err != nil {
		t.Errorf("drop: %v", err)
	}
	must(t, s.SetMeta(someMeta()))
	must(t, al.Acquire(t.Context(), 0, at(1)))
	al.Release(0, at(1))
	b.SetAll()
	must(t, b.Flush())
	// Room again.
	f.noSpace.Store(false)
	must(t, s.Rearm())
	put(t, s.Log(), record(1, 100), true)
	if s.LowSpace() || s.Usage().Reserve != 1<<20 {
		t.Error("still low")
	}
	// And once more, with no room below the reserve.
	f.noSpace.Store(true)
	f.n.Store(0)
	r := record(2, 100)
	must(t, s.Log().Submit(r))
	err = s.Log().Commit(r.Seq, true)
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no room at all: %v", err)
	}
	if told := <-a.ch; !errors.Is(told, ErrNoSpace) && !errors.Is(told, ErrFailed) {
		t.Errorf("owner was told %v", told)
	}
}

// A real file system that fills up.
func TestStoreOnAFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	a := newAlarm()
	s, err := Open(filepath.Join(dir, "state", "r0"), Options{OnFailure: a.raise, Reserve: 48 << 20})
	must(t, err)
	defer s.Close()
	begin(t, s.Log(), 0)
	if _, err := load(t, s, 100000); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		t.Fatalf("writer got %v", err)
	}
	select {
	case told := <-a.ch:
		if !errors.Is(told, ErrNoSpace) {
			t.Errorf("owner was told %v", told)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("owner was not told")
	}
	if _, err := s.Log().Drop(); err != nil {
		t.Fatalf("drop: %v", err)
	}
	for i := range uint64(300) {
		must(t, s.SetMeta(Meta{Epoch: i}))
	}
	if err := os.WriteFile(filepath.Join(dir, "hog"), make([]byte, 200<<20), 0o600); err == nil {
		t.Fatal("the file system is not full")
	}
	if err := s.Rearm(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("rearm on a full file system: %v", err)
	}
	failed := false
	for i := range uint64(100000) { // the last of the room
		r := Meta{Epoch: i, Volumes: make([]VolumeMeta, 256)}
		if err := s.SetMeta(r); err != nil {
			if !errors.Is(err, ErrFailed) {
				t.Fatalf("metadata: %v", err)
			}
			failed = true
			break
		}
	}
	must(t, os.Remove(filepath.Join(dir, "hog")))
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again, err := Open(filepath.Join(dir, "state", "r0"), Options{Reserve: 1 << 20})
	must(t, err)
	defer again.Close()
	if again.WasLost() != failed {
		t.Errorf("failed %v, known afterwards: %v", failed, again.WasLost())
	}
	begin(t, again.Log(), 0)
	put(t, again.Log(), record(1, 100), true)
}
