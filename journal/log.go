package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// Bounds of the log.
const (
	maxEpochs     = 1024    // epochs remembered; the records of older ones are given up
	maxGroup      = 1024    // records committed as one group
	maxGroupBytes = 2 << 20 // data of a group; a group always holds one record
	recentRecords = 8192    // records whose place and time are kept in memory
	trimBytes     = 2 << 20 // trimming reaches the disk in steps of this
)

// Log is the write journal: the records of a resource in their write order.
//
//	      Start            End    submitted
//	        │               │         │
//	────────┼───────────────┼─────────┼──────> number
//	trimmed │ committed:    │ queued  │ next
//	        │ read, covered │         │
//
// Positions are those behind a record, so that Start is the position of the last record trimmed.
// Invariant: start ≤ committed ≤ submitted, in number and in bytes.
type Log struct {
	s *Store

	mu        sync.Mutex
	epochs    []epochMark // ascending; the last one is current
	maxEpoch  uint64      // highest epoch ever seen
	active    bool        // an epoch was begun since Open: records may be submitted
	start     place
	committed place
	submitted place
	queue     []queued  // submitted, not committed
	writing   bool      // somebody commits a group, or changes the log as a whole
	waiting   []*waiter // for their record to be committed; one of them writes the next group
	tailWait  []*waiter // for records to come
	roomWait  []*waiter // for room, in bytes
	free      []*waiter
	recent    []recentRecord // ring by number, valid behind recentLow
	recentLow uint64         // number
	found     [8]foundRecord // lookups of older records, remembered
	foundNext int
	persisted place // start, as it is stored

	// Owned by whoever has set writing.
	batch *pebble.Batch
	group []queued
}

// epochMark says where an epoch began: behind number start. It ends where the next one begins.
type epochMark struct{ epoch, start uint64 }

// place is a number and the bytes of the log up to it, since its beginning.
type place struct {
	num, cum uint64
}

type queued struct {
	rec block.Record
	cum uint64 // bytes before it
}

// recentRecord is what Backlog needs to know of a record.
type recentRecord struct {
	cum  uint64 // bytes before it
	time int64
}

type foundRecord struct {
	num uint64
	recentRecord
}

type waiter struct {
	need uint64
	ch   chan struct{} // capacity 1
}

// size is what a record takes of MaxJournal.
func size(r *block.Record) uint64 { return recordHeaderLen + uint64(len(r.Data)) }

func openLog(s *Store) (*Log, error) {
	l := &Log{s: s}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return l, nil
}

// load finds the two ends of the log.
func (l *Log) load() error {
	if err := l.loadState(); err != nil {
		return err
	}
	last, err := l.lastGroup()
	if err != nil {
		return err
	}
	l.committed = l.start
	if last != nil {
		l.committed = place{num: last.seq.Num, cum: last.cum + last.bytes()}
	}
	if l.committed.num < l.start.num || l.committed.cum < l.start.cum {
		return fmt.Errorf("%w: journal ends at %d, before its start %d", ErrCorrupt, l.committed.num, l.start.num)
	}
	l.submitted = l.committed
	l.persisted = l.start
	l.recentLow = l.committed.num
	return nil
}

// Log returns the write journal.
func (s *Store) Log() *Log { return s.log }

// Begin starts a new epoch, durably: its counter (the high 32 bits) is higher than that of any epoch seen here and
// of atLeast, its low 32 bits are random, and its numbers go on from the last one in the log. It returns the
// position before the epoch's first record. Records must not be submitted meanwhile: ErrBusy, ErrNoEpoch.
func (l *Log) Begin(atLeast uint64) (block.Seq, error) {
	if err := l.lockIdle(); err != nil {
		return block.Seq{}, fmt.Errorf("begin epoch: %w", err)
	}
	defer l.unlockWriting()
	var low [4]byte
	if _, err := rand.Read(low[:]); err != nil {
		return block.Seq{}, fmt.Errorf("begin epoch: %w", err)
	}
	counter := max(l.maxEpoch, atLeast)>>32 + 1
	if counter >= 1<<32 {
		return block.Seq{}, errors.New("begin epoch: all epochs are used up")
	}
	mark := epochMark{epoch: counter<<32 | uint64(le.Uint32(low[:])), start: l.committed.num}
	keep, start := l.pruneEpochs()
	err := l.s.update(true, func(b *pebble.Batch) error {
		return errors.Join(l.putDroppedEpochs(b, keep), putEpoch(b, mark), l.putTrim(b, start), putLogState(b, mark.epoch, start))
	})
	if err != nil {
		return block.Seq{}, fmt.Errorf("begin epoch: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs = append(slices.Clone(l.epochs[keep:]), mark)
	l.maxEpoch, l.persisted, l.active = mark.epoch, start, true
	if l.start.num < start.num {
		l.start = start
		l.wakeRoom()
	}
	if l.recent == nil {
		l.recent = make([]recentRecord, recentRecords)
	}
	return block.Seq{Epoch: mark.epoch, Num: mark.start}, nil
}

// pruneEpochs says which epochs to keep and where the log starts then. One that ended before the start is of no use;
// the end of one that ended at it is a position still covered. Beyond maxEpochs the oldest go, with their records.
func (l *Log) pruneEpochs() (keep int, start place) {
	l.mu.Lock()
	start = l.start
	l.mu.Unlock()
	for keep+1 < len(l.epochs) && l.epochs[keep+1].start < start.num {
		keep++
	}
	over := len(l.epochs) - (maxEpochs - 1)
	if over <= keep {
		return keep, start
	}
	if from := l.epochs[over].start; from > start.num {
		p, err := l.placeAfter(from)
		if err != nil {
			return keep, start // unreadable: rather too many epochs than records lost
		}
		start = p
	}
	return over, start
}

// Reset forgets everything and makes pos the start and the end of the log, durably: the position of a node that got
// its data from a peer. Covers(pos) holds from then on, and a following Begin goes on from it.
func (l *Log) Reset(pos block.Seq) error {
	if err := l.lockIdle(); err != nil {
		return fmt.Errorf("reset journal: %w", err)
	}
	defer l.unlockWriting()
	mark := epochMark{epoch: pos.Epoch, start: pos.Num}
	start := place{num: pos.Num, cum: l.committed.cum}
	highest := max(l.maxEpoch, pos.Epoch)
	err := l.s.update(true, func(b *pebble.Batch) error {
		return errors.Join(
			deletePrefix(b, keyHeaders), deletePrefix(b, keyData), deletePrefix(b, keyEpoch),
			putEpoch(b, mark), putLogState(b, highest, start))
	})
	if err != nil {
		return fmt.Errorf("reset journal: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs, l.maxEpoch, l.submitted = []epochMark{mark}, highest, start
	l.forget(start)
	return nil
}

// Drop forgets every record, durably, and returns the end of the log, which is its start now. What was submitted
// before is committed first, and dropped; what is submitted meanwhile stays.
func (l *Log) Drop() (block.Seq, error) {
	if err := l.lockWriting(); err != nil {
		return block.Seq{}, fmt.Errorf("drop journal: %w", err)
	}
	defer l.unlockWriting()
	end := l.committed
	err := l.s.update(true, func(b *pebble.Batch) error {
		return errors.Join(deletePrefix(b, keyHeaders), deletePrefix(b, keyData), putLogState(b, l.maxEpoch, end))
	})
	if err != nil {
		return block.Seq{}, fmt.Errorf("drop journal: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(end)
	return l.endLocked(), nil
}

// forget makes the log empty at p. Both writing and mu are held.
func (l *Log) forget(p place) {
	l.start, l.committed, l.persisted, l.recentLow = p, p, p, p.num
	l.found = [8]foundRecord{}
	l.wakeRoom()
}

// lockWriting waits until nobody commits, commits what is queued and keeps others from committing. Records may be
// submitted meanwhile, but those submitted before are in.
func (l *Log) lockWriting() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	upTo := l.submitted.num
	for l.writing || l.committed.num < upTo {
		if err := l.s.usable(); err != nil {
			return err
		}
		if l.writing {
			l.await(l.committed.num + 1)
			continue
		}
		if err := l.writeGroup(); err != nil {
			return err
		}
	}
	if err := l.s.usable(); err != nil {
		return err
	}
	l.writing = true
	return nil
}

// lockIdle is lockWriting for what needs records to keep away: until the next Begin they are refused.
func (l *Log) lockIdle() error {
	if err := l.lockWriting(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		l.releaseWriting()
		return ErrBusy
	}
	l.active = false
	return nil
}

func (l *Log) unlockWriting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseWriting()
}

func (l *Log) releaseWriting() {
	l.writing = false
	l.wakeAllLocked()
}

// End is the position of the last committed record.
func (l *Log) End() block.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.endLocked()
}

func (l *Log) endLocked() block.Seq {
	if len(l.epochs) == 0 {
		return block.Seq{}
	}
	return block.Seq{Epoch: l.epochs[len(l.epochs)-1].epoch, Num: l.committed.num}
}

// Start is the position from which the log is complete.
func (l *Log) Start() block.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return block.Seq{Epoch: l.epochAt(l.start.num), Num: l.start.num}
}

// epochAt is the epoch of record num; mu or writing is held.
func (l *Log) epochAt(num uint64) uint64 {
	for i := len(l.epochs) - 1; i >= 0; i-- {
		if l.epochs[i].start < num || i == 0 {
			return l.epochs[i].epoch
		}
	}
	return 0
}

// Covers reports whether Read yields everything newer than pos: it lies between Start and End, its epoch is known and
// did not end before it.
func (l *Log) Covers(pos block.Seq) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.covers(pos)
}

func (l *Log) covers(pos block.Seq) bool {
	i, ok := slices.BinarySearchFunc(l.epochs, pos.Epoch, func(m epochMark, e uint64) int {
		switch {
		case m.epoch < e:
			return -1
		case m.epoch > e:
			return 1
		}
		return 0
	})
	if !ok {
		return false
	}
	end := l.committed.num
	if i+1 < len(l.epochs) {
		end = l.epochs[i+1].start
	}
	return pos.Num >= l.epochs[i].start && pos.Num <= end && pos.Num >= l.start.num
}

// Backlog says how much stands behind after: records, bytes of their data, and when the oldest was accepted (zero if
// there is none). A position that is not covered counts from Start.
func (l *Log) Backlog(after block.Seq) (records uint64, bytes int64, oldest time.Time) {
	l.mu.Lock()
	from := l.start.num
	if l.covers(after) {
		from = after.Num
	}
	end := l.committed
	l.mu.Unlock()
	if from >= end.num {
		return 0, 0, time.Time{}
	}
	rec, err := l.find(from + 1)
	if err != nil {
		return end.num - from, 0, time.Time{} // trimmed or failed meanwhile
	}
	records = end.num - from
	return records, int64(end.cum - rec.cum - records*recordHeaderLen), time.Unix(0, rec.time)
}

// Room is what may still be submitted, in bytes.
func (l *Log) Room() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roomLocked()
}

func (l *Log) roomLocked() int64 {
	return max(0, l.s.o.MaxJournal-int64(l.submitted.cum-l.start.cum))
}
