package journal

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// The way of a record: Submit numbers and queues it; Commit's first caller takes what has gathered, writes it as one
// group while others wait, and hands over. At depth 1 nobody waits for anybody.

// Submit gives r the next sequence number (it sets r.Seq) and queues it; the order of the calls is the write order.
// r.Data must stay as it is until a Commit(r.Seq) returned. It never waits for I/O. ErrFull: the log has reached
// MaxJournal; ErrNoSpace: the file system has; ErrNoEpoch: Begin comes first.
func (l *Log) Submit(r *block.Record) error {
	if err := l.s.growable(); err != nil {
		return err
	}
	if err := checkRecord(r); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.active {
		return ErrNoEpoch
	}
	n := size(r)
	if int64(n) > l.roomLocked() {
		return fmt.Errorf("journal: %w", ErrFull)
	}
	r.Seq = block.Seq{Epoch: l.epochs[len(l.epochs)-1].epoch, Num: l.submitted.num + 1}
	l.queue = append(l.queue, queued{rec: *r, cum: l.submitted.cum})
	l.submitted = place{num: r.Seq.Num, cum: l.submitted.cum + n}
	return nil
}

func checkRecord(r *block.Record) error {
	data := 0
	if r.Kind == block.Write {
		data = int(r.Len)
	}
	if r.Kind < block.Write || r.Kind > block.Trim || len(r.Data) != data || len(r.Data) > block.MaxRecord || r.Off < 0 {
		return fmt.Errorf("invalid record: %v of %d bytes at %d with %d bytes of data", r.Kind, r.Len, r.Off, len(r.Data))
	}
	return nil
}

// Commit returns when the record seq and all before it are in the journal, where Read sees them; with sync, when
// they are durable.
func (l *Log) Commit(seq block.Seq, sync bool) error {
	l.mu.Lock()
	if seq.Num > l.submitted.num {
		l.mu.Unlock()
		return fmt.Errorf("commit %v: never submitted", seq)
	}
	for l.committed.num < seq.Num {
		err := l.s.usable()
		if err == nil && l.writing {
			l.await(seq.Num)
			continue
		}
		if err == nil {
			err = l.writeGroup()
		}
		if err != nil {
			l.mu.Unlock()
			return err
		}
	}
	l.mu.Unlock()
	if sync {
		return l.s.Sync()
	}
	return l.s.usable()
}

// writeGroup commits the records at the head of the queue. mu is held on entry and on return, not in between.
func (l *Log) writeGroup() error {
	l.writing = true
	n, data := 0, 0
	for ; n < len(l.queue) && n < maxGroup; n++ {
		if data += len(l.queue[n].rec.Data); n > 0 && data > maxGroupBytes {
			break
		}
	}
	l.group = append(l.group[:0], l.queue[:n]...)
	l.mu.Unlock()
	err := l.applyGroup()
	l.mu.Lock()
	l.writing = false
	if err != nil {
		l.wakeAllLocked()
		return err
	}
	for i := range l.group {
		q := &l.group[i]
		l.recent[q.rec.Seq.Num%recentRecords] = recentRecord{cum: q.cum, time: q.rec.Time}
	}
	last := &l.group[n-1]
	l.committed = place{num: last.rec.Seq.Num, cum: last.cum + size(&last.rec)}
	if l.committed.num-l.recentLow > recentRecords {
		l.recentLow = l.committed.num - recentRecords
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:]) // let go of the data
	l.queue = l.queue[:rest]
	clear(l.group)
	l.wakeCommitted()
	return nil
}

func (l *Log) applyGroup() error {
	if err := l.s.enter(); err != nil {
		return err
	}
	defer l.s.gate.leave()
	if l.batch == nil {
		l.batch = l.s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * maxGroupBytes))
	}
	err := putGroup(l.batch, l.group)
	if err == nil {
		err = l.s.applyEntered(l.batch, false)
	}
	if err != nil {
		l.batch = nil
		return fmt.Errorf("append to journal: %w", err)
	}
	l.batch.Reset()
	return nil
}

// await waits to be woken once; mu is held on entry and on return.
func (l *Log) await(need uint64) {
	w := l.newWaiter(need)
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	<-w.ch
	l.mu.Lock()
	l.free = append(l.free, w)
}

func (l *Log) newWaiter(need uint64) *waiter {
	if n := len(l.free); n > 0 {
		w := l.free[n-1]
		l.free = l.free[:n-1]
		w.need = need
		return w
	}
	return &waiter{need: need, ch: make(chan struct{}, 1)}
}

// wakeCommitted wakes those whose record is committed, and one whose record is queued: it writes the next group.
func (l *Log) wakeCommitted() {
	keep := l.waiting[:0]
	next := false
	for _, w := range l.waiting {
		switch {
		case w.need <= l.committed.num:
		case w.need <= l.submitted.num && !next:
			next = true
		default:
			keep = append(keep, w)
			continue
		}
		w.ch <- struct{}{}
	}
	clear(l.waiting[len(keep):])
	l.waiting = keep
	l.tailWait = wake(l.tailWait, l.committed.num)
}

// wake wakes the waiters of list that need at most upTo, and returns the others in the same array.
func wake(list []*waiter, upTo uint64) []*waiter {
	keep := list[:0]
	for _, w := range list {
		if w.need <= upTo {
			w.ch <- struct{}{}
		} else {
			keep = append(keep, w)
		}
	}
	clear(list[len(keep):])
	return keep
}

func (l *Log) wakeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeAllLocked()
	l.wakeRoom()
}

func (l *Log) wakeAllLocked() {
	l.waiting = wake(l.waiting, math.MaxUint64)
	l.tailWait = wake(l.tailWait, math.MaxUint64)
}

func (l *Log) wakeRoom() { l.roomWait = wake(l.roomWait, math.MaxUint64) }

// Wait returns when a committed record stands behind after, or when after is not covered (Read then says ErrGone).
func (l *Log) Wait(ctx context.Context, after block.Seq) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.covers(after) && l.committed.num <= after.Num {
		if err := l.s.usable(); err != nil {
			return err
		}
		if err := l.awaitContext(ctx, after.Num+1, &l.tailWait); err != nil {
			return err
		}
	}
	return l.s.usable()
}

// WaitRoom returns when n bytes (of data; headers are counted by Submit) may be submitted. More than MaxJournal is
// ErrFull at once.
func (l *Log) WaitRoom(ctx context.Context, n int64) error {
	if n > l.s.o.MaxJournal {
		return fmt.Errorf("journal: %d bytes of at most %d: %w", n, l.s.o.MaxJournal, ErrFull)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.roomLocked() < n {
		if err := l.s.growable(); err != nil {
			return err
		}
		if err := l.awaitContext(ctx, 0, &l.roomWait); err != nil {
			return err
		}
	}
	return l.s.growable()
}

// awaitContext waits in list to be woken once, or for ctx; mu is held on entry and on return.
func (l *Log) awaitContext(ctx context.Context, need uint64, list *[]*waiter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := l.newWaiter(need)
	*list = append(*list, w)
	l.mu.Unlock()
	var err error
	select {
	case <-w.ch:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	if i := slices.Index(*list, w); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	} else if err != nil {
		<-w.ch // woken at the same time
	}
	l.free = append(l.free, w)
	return err
}
