package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// Memory of a store: the block cache and at most memTables memtables.
const (
	cacheBytes    = 8 << 20
	memTableBytes = 16 << 20
	memTables     = 4
)

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.fs,
		Lock:                        s.lock,
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   cacheBytes,
		MemTableSize:                s.o.MemTable,
		MemTableStopWritesThreshold: memTables,
		// The log only grows at its end: tables in L0 hardly overlap, and trimming drops them whole. Writers wait
		// for the disk (memtables), not for tidying up.
		L0CompactionThreshold: 16,
		L0StopWritesThreshold: 1000,
		LBaseMaxBytes:         128 << 20,
		MaxOpenFiles:          500,
		Logger:                pebbleLogger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.backgroundError,
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.fail(fmt.Errorf("%w: %s: %w", ErrCorrupt, i.Path, i.Details))
			},
		},
	}
	o.TargetFileSizes[0] = 8 << 20
	o.Experimental.CompactionScheduler = s.sched
	o.Experimental.SpanPolicyFunc = tablePerPrefix
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
	}
	// Batches arrive compressed, and what applications write is compressed on its way out; a second time here costs
	// more than the room it saves.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.UniformDBCompressionSettings(block.NoCompression)
	})
	return o
}

// tablePerPrefix ends a table where the kind of key changes. A table of headers, data and bitmap pages together would overlap
// every other one, and the log would be merged over and over; alone, tables of the log follow one another, and are moved
// down or dropped whole.
func tablePerPrefix(start []byte) (pebble.SpanPolicy, []byte, error) {
	if len(start) == 0 || start[0] == 0xff {
		return pebble.SpanPolicy{}, nil, nil
	}
	return pebble.SpanPolicy{}, []byte{start[0] + 1}, nil
}

// backgroundError is told of flushes and compactions that failed. Pebble tries them again for ever.
func (s *Store) backgroundError(err error) {
	if s.low.Load() && isNoSpace(err) {
		return // compactions are suspended by now
	}
	if !s.fs.active.Load() || errors.Is(err, pebble.ErrClosed) {
		return
	}
	s.fail(fmt.Errorf("background work: %w", err))
}

// pebbleLogger hands Pebble's messages on. Its Fatalf returns: the guard has frozen the files.
type pebbleLogger struct{ s *Store }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) { l.log(slog.LevelDebug, format, args) }

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }

// Fatalf implements pebble.Logger.
func (l pebbleLogger) Fatalf(format string, args ...any) { l.s.fail(fmt.Errorf(format, args...)) }

func (l pebbleLogger) log(level slog.Level, format string, args []any) {
	ctx := context.Background() // Pebble's logger has none
	if l.s.o.Logger.Enabled(ctx, level) {
		l.s.o.Logger.Log(ctx, level, "store database", "dir", l.s.dir, "event", fmt.Sprintf(format, args...))
	}
}

// fail freezes the files, makes the mark of failure durable and only then lets callers see the failure: nobody goes
// on without the store before the next Open is bound to know. It may be called with any of Pebble's locks held.
func (s *Store) fail(cause error) {
	s.failOnce.Do(func() {
		s.fs.frozen.Store(true)
		err := fmt.Errorf("%w: %w", ErrFailed, cause)
		if s.fs.active.Load() && !s.lost.Load() { // one that fails to open loses nothing
			if e := moveMark(s.o.FS, s.dir, fileArmed, fileLost); e != nil {
				err = fmt.Errorf("%w (and it could not be marked: %w)", err, e)
			}
		}
		s.failure.Store(&err)
		close(s.failCh)
	})
}

// Failed returns why the store can no longer be written (it wraps ErrFailed), nil if it can.
func (s *Store) Failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// failedMeanwhile is Failed for whoever comes back from the database. Files that are frozen answer that all went well while
// the failure is still being marked: nobody may take that for real, so the caller waits for the failure to show.
func (s *Store) failedMeanwhile() error {
	if s.fs.frozen.Load() {
		<-s.failCh
	}
	return s.Failed()
}

// WasLost reports whether the store had failed before it was opened, and nothing after that was recorded: the owner
// has to set the bitmaps whole, and then calls ClearLost.
func (s *Store) WasLost() bool { return s.lost.Load() }

// ClearLost forgets that the store was lost, durably.
func (s *Store) ClearLost() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if !s.lost.Load() {
		return nil
	}
	if err := moveMark(s.o.FS, s.dir, fileLost, fileArmed); err != nil {
		return fmt.Errorf("clear mark of failure: %w", err)
	}
	s.lost.Store(false)
	return nil
}

// LowSpace reports whether the file system was full: the log, staging and history refuse with ErrNoSpace until Rearm.
func (s *Store) LowSpace() bool { return s.low.Load() }

// makeRoom gives up the reserve after an ENOSPC. It reports whether trying again makes sense.
func (s *Store) makeRoom() bool {
	s.spaceMu.Lock()
	defer s.spaceMu.Unlock()
	if s.fs.frozen.Load() {
		return false
	}
	there, err := exists(s.o.FS, s.path(fileReserve))
	if err == nil && there {
		err = s.o.FS.Remove(s.path(fileReserve))
	}
	s.enterLow()
	return err == nil // gone just now, or a moment ago by somebody else's ENOSPC
}

func (s *Store) enterLow() {
	s.sched.suspend(true)
	s.fs.tight.Store(true)
	if !s.low.Swap(true) {
		select {
		case s.lowCh <- struct{}{}:
		default:
		}
	}
}

// Rearm allocates the reserve again and, if that worked, takes the log, staging and history back into use. Until the
// file system has room it fails with ErrNoSpace.
func (s *Store) Rearm() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := s.leaveLow(); err != nil {
		if isNoSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return err
	}
	s.sched.grant() // takes Pebble's locks, under which makeRoom may be waiting for spaceMu
	return nil
}

func (s *Store) leaveLow() error {
	s.spaceMu.Lock()
	defer s.spaceMu.Unlock()
	if !s.low.Load() {
		return nil
	}
	if err := makeReserve(s.o.FS, s.path(fileReserve), s.o.Reserve); err != nil {
		return err
	}
	s.fs.tight.Store(false)
	s.sched.suspend(false)
	s.low.Store(false)
	return nil
}

// syncer lets concurrent callers share one sync of the write-ahead log.
type syncer struct {
	mu      sync.Mutex
	cond    *sync.Cond
	running bool
	started uint64 // syncs begun
	ended   uint64 // syncs done
	covered uint64 // writes that are durable for sure
}

func (y *syncer) init() { y.cond = sync.NewCond(&y.mu) }

// Sync returns when everything committed before the call is durable. Concurrent calls share the work; a call with
// nothing to make durable does none.
func (s *Store) Sync() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	need := s.writes.Load()
	y := &s.syncer
	y.mu.Lock()
	defer y.mu.Unlock()
	for ticket := y.started + 1; y.covered < need && y.ended < ticket; {
		if y.running {
			y.cond.Wait()
			if err := s.Failed(); err != nil {
				return err
			}
			continue
		}
		if err := s.syncOnce(); err != nil {
			return err
		}
	}
	return nil
}

// syncOnce runs one sync; y.mu is held on entry and on return.
func (s *Store) syncOnce() error {
	y := &s.syncer
	y.running = true
	y.started++
	writes := s.writes.Load()
	y.mu.Unlock()
	err := s.db.LogData(nil, pebble.Sync)
	if f := s.failedMeanwhile(); f != nil {
		err = f
	}
	y.mu.Lock()
	y.running = false
	if err == nil {
		y.ended = y.started
		y.covered = max(y.covered, writes)
	}
	y.cond.Broadcast()
	if err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	return nil
}
