package journal

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// scheduler lets one compaction run at a time, and none while it is suspended: compactions need room before they give
// any back. Compactions that only delete do not ask it.
type scheduler struct {
	db pebble.DBForCompaction // set in Register, before any other call

	mu           sync.Mutex
	idle         *sync.Cond // granting has become false
	running      int
	granting     bool
	suspended    bool
	unregistered bool
}

var (
	_ pebble.CompactionScheduler   = (*scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*scheduler)(nil)
)

func newScheduler() *scheduler {
	s := &scheduler{}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// Register implements pebble.CompactionScheduler.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unregistered = true
	for s.granting {
		s.idle.Wait()
	}
}

// TrySchedule implements pebble.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unregistered || s.suspended || s.running > 0 {
		return false, nil
	}
	s.running++
	return true, s
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {}

// Started implements pebble.CompactionGrantHandle.
func (s *scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (s *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (s *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (s *scheduler) Done() {
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.grant()
}

// suspend stops new compactions, or lets them run again. It may be called with the database's locks held, and so
// grants nothing; grant does.
func (s *scheduler) suspend(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = yes
}

// grant starts the compaction that waits, if there is one and it may run. The database's locks are taken in the calls
// to it, so that s.mu is not held over them; granting keeps Unregister waiting meanwhile.
func (s *scheduler) grant() {
	s.mu.Lock()
	for s.granting {
		s.idle.Wait()
	}
	if s.unregistered || s.suspended || s.running > 0 || s.db == nil {
		s.mu.Unlock()
		return
	}
	s.granting = true
	s.mu.Unlock()

	waiting, _ := s.db.GetWaitingCompaction()
	accepted := waiting && s.db.Schedule(s)

	s.mu.Lock()
	defer s.mu.Unlock()
	if accepted {
		s.running++ // not before: a TrySchedule refused meanwhile would wait for a grant that never comes
	}
	s.granting = false
	s.idle.Broadcast()
}
