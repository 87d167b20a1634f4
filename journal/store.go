package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FormatVersion is the format that this build writes.
const FormatVersion = 1

// Defaults of Options, in bytes.
const (
	DefaultMaxJournal = 4 << 30
	DefaultMaxStaged  = 1 << 30
	DefaultMaxHistory = 4 << 30
	DefaultReserve    = 64 << 20
)

// Options of a store. Zero values mean the defaults above.
type Options struct {
	// FS is the file system; nil is the real one.
	FS vfs.FS
	// Logger gets Pebble's own messages, most of them at debug level; nil drops them.
	Logger *slog.Logger
	// MaxJournal, MaxStaged and MaxHistory bound the log, the staged batches and the pre-images, in bytes.
	MaxJournal, MaxStaged, MaxHistory int64
	// Reserve is what is kept allocated for the day the file system is full, in bytes; negative for none. With an FS
	// of the caller's the default is none.
	Reserve int64
	// OnFailure is told, from a goroutine of the store, that the file system is full (errors.Is ErrNoSpace: the log,
	// staging and history have stopped) and that the store has failed (ErrFailed), each at most once for an
	// Open or Rearm. It may use the store, but not Close it.
	OnFailure func(error)
	// MemTable is what gathers in memory before it becomes a table on disk, in bytes; 0: 16 MiB.
	MemTable uint64
	// BeforeSync is called, where not nil, before a commit that is durable when it returns, and holds it up. No lock is held then that
	// anybody waits for: a simulation lets time pass there.
	BeforeSync func()
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
		if o.Reserve == 0 {
			o.Reserve = DefaultReserve
		}
	}
	for _, d := range []struct {
		v   *int64
		def int64
	}{{&o.MaxJournal, DefaultMaxJournal}, {&o.MaxStaged, DefaultMaxStaged}, {&o.MaxHistory, DefaultMaxHistory}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if o.MemTable == 0 {
		o.MemTable = memTableBytes
	}
	if o.BeforeSync == nil {
		o.BeforeSync = func() {}
	}
	if o.OnFailure == nil {
		o.OnFailure = func(error) {}
	}
	return o
}

// Store is the store of one resource. Its methods, and those of its parts, may be called concurrently.
type Store struct {
	dir   string
	o     Options
	fs    *guardFS
	db    *pebble.DB
	lock  *pebble.Lock
	sched *scheduler
	gate  *gate // calls into db

	failOnce sync.Once
	failure  atomic.Pointer[error] // wraps ErrFailed; set after the mark of failure was made
	lost     atomic.Bool
	low      atomic.Bool
	spaceMu  sync.Mutex // giving up and remaking the reserve

	lowCh   chan struct{} // capacity 1: low was entered
	failCh  chan struct{} // closed by the failure
	closeCh chan struct{} // closed by Close
	done    chan struct{} // closed when watch has ended
	closing atomic.Bool   // Close was called
	closed  atomic.Bool   // calls are refused
	dbErr   error         // of closing the database; valid once done or after Close closed it

	syncer syncer
	writes atomic.Uint64 // unsynced commits so far

	metaMu sync.Mutex
	meta   *Meta // nil: none

	log     *Log
	staging *Staging
	history *History

	partsMu sync.Mutex
	bitmaps map[bitmapID]*Bitmap
	al      *ActivityLog
}

// Open opens the store in dir, creating it where there is none. It is locked against a second opener (ErrLocked); a
// format that this build does not know is refused (ErrFormat).
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{
		dir: dir, o: o, gate: newGate(), sched: newScheduler(), bitmaps: map[bitmapID]*Bitmap{},
		lowCh: make(chan struct{}, 1), failCh: make(chan struct{}), closeCh: make(chan struct{}), done: make(chan struct{}),
	}
	s.syncer.init()
	s.fs = &guardFS{FS: o.FS, memory: vfs.NewMem(), noSpace: s.makeRoom, fail: s.fail}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	go s.watch()
	return s, nil
}

func (s *Store) open() (err error) {
	dbDir := s.path(dirDB)
	if err := makeDir(s.o.FS, dbDir); err != nil {
		return err
	}
	if s.lock, err = pebble.LockDirectory(dbDir, s.o.FS); err != nil {
		return lockError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	lost, err := arm(s.o.FS, s.dir)
	if err != nil {
		return err
	}
	s.lost.Store(lost)
	if err := makeReserve(s.o.FS, s.path(fileReserve), s.o.Reserve); err != nil {
		if !isNoSpace(err) {
			return err
		}
		s.enterLow()
	}
	if s.db, err = pebble.Open(dbDir, s.pebbleOptions()); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := s.load(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	if err := s.Failed(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.fs.active.Store(true)
	return nil
}

// lockError tells a lock that somebody holds from a lock file that cannot be made.
func lockError(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrLocked, err)
}

// load reads what is kept in memory.
func (s *Store) load() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	if err := s.loadMeta(); err != nil {
		return err
	}
	var err error
	if s.log, err = openLog(s); err != nil {
		return err
	}
	if s.staging, err = openStaging(s); err != nil {
		return err
	}
	s.history, err = openHistory(s)
	return err
}

func (s *Store) checkFormat() error {
	v, err := s.get([]byte{keyFormat})
	switch {
	case err != nil:
		return err
	case v == nil:
		return s.db.Set([]byte{keyFormat}, binary.LittleEndian.AppendUint32(nil, FormatVersion), pebble.Sync)
	case len(v) != 4 || le.Uint32(v) != FormatVersion:
		return fmt.Errorf("%w: %x, this build knows %d", ErrFormat, v, FormatVersion)
	}
	return nil
}

func (s *Store) path(name string) string { return s.o.FS.PathJoin(s.dir, name) }

// Close writes what is cheap to keep, closes the store and lets go of its lock. What was not synced before may be
// durable afterwards, or not. Calls that are waiting return ErrClosed.
func (s *Store) Close() error {
	if s.closing.Swap(true) {
		return ErrClosed
	}
	var err error
	if s.Failed() == nil {
		err = s.log.persistTrim()
	}
	s.closed.Store(true)
	if s.gate.shut() {
		s.wakeAll()
		s.gate.wait()
		s.dbErr = s.db.Close()
	}
	close(s.closeCh)
	<-s.done
	if s.Failed() == nil {
		err = errors.Join(err, s.dbErr)
	}
	return errors.Join(err, s.lock.Close())
}

// watch is the store's goroutine: it tells the owner of trouble, and closes the database when it has failed.
func (s *Store) watch() {
	defer close(s.done)
	for {
		select {
		case <-s.closeCh:
			return
		case <-s.lowCh:
			s.o.OnFailure(fmt.Errorf("%s: %w", s.dir, ErrNoSpace))
		case <-s.failCh:
			if s.gate.shut() {
				s.wakeAll()
				s.gate.wait()
				s.dbErr = s.db.Close()
			}
			s.o.OnFailure(s.Failed())
			<-s.closeCh
			return
		}
	}
}

// wakeAll lets every waiter see that the store is closed or has failed.
func (s *Store) wakeAll() {
	s.log.wakeAll()
	s.partsMu.Lock()
	al := s.al
	s.partsMu.Unlock()
	if al != nil {
		al.wakeAll()
	}
}

// usable returns ErrFailed or ErrClosed once there is a reason to.
func (s *Store) usable() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// growable is usable for what makes the store grow.
func (s *Store) growable() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.low.Load() {
		return ErrNoSpace
	}
	return nil
}

// enter lets a call into the database; the caller leaves the gate again unless there is an error.
func (s *Store) enter() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.gate.enter() {
		return nil
	}
	if err := s.Failed(); err != nil {
		return err
	}
	return ErrClosed
}

// get returns a copy of a value, nil if there is none. The gate must be held, or the store be opening.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key %q: %w", key, err)
	}
	v = append([]byte{}, v...)
	return v, closer.Close()
}

// applyEntered commits a batch; with sync it is durable when it returns. The gate is held.
func (s *Store) applyEntered(b *pebble.Batch, sync bool) error {
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	err := s.db.Apply(b, o)
	if f := s.failedMeanwhile(); f != nil {
		return f
	}
	if err != nil {
		return fmt.Errorf("commit batch: %w", err)
	}
	if !sync {
		s.writes.Add(1)
	}
	return nil
}

// update builds a small batch and commits it.
func (s *Store) update(sync bool, fill func(b *pebble.Batch) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	b := s.db.NewBatch()
	if err := fill(b); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.applyEntered(b, sync); err != nil {
		return err // the batch may still be in the hands of a broken commit: it is not reused
	}
	return b.Close()
}
