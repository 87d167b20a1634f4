package journal

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// maxStagedEntries bounds the staged batches, beside their bytes.
const maxStagedEntries = 1 << 18

// Staged is a batch as it came.
type Staged struct {
	Prev block.Seq // the position it follows
	Last block.Seq // the position after it
	Raw  []byte    // as received
}

// Staging is a receiver's journal: batches as they came, from the moment they are durable here until they are on the
// disk. They form a chain: each follows the one before.
//
// Invariant: applied ≤ staged.
type Staging struct {
	s *Store

	appendMu sync.Mutex // held over the commits of Append and Reset; before mu

	mu      sync.Mutex
	applied block.Seq
	staged  block.Seq
	entries []stagedEntry // behind the applied mark, in order
	next    uint64        // index of the next entry
	bytes   int64
}

type stagedEntry struct {
	index uint64
	last  block.Seq
	bytes int64
}

// stagedHeaderLen is the length of a staged batch's header: checksum, length, Prev, Last.
const stagedHeaderLen = 4 + 4 + 16 + 16

// appliedLen is the length of the value under keyApplied: checksum, position, index of the first entry behind it.
const appliedLen = 4 + 16 + 8

func openStaging(s *Store) (*Staging, error) {
	g := &Staging{s: s}
	v, err := s.get([]byte{keyApplied})
	if err != nil {
		return nil, err
	}
	if v != nil {
		if len(v) != appliedLen || !sealed([]byte{keyApplied}, v) {
			return nil, fmt.Errorf("%w: applied mark", ErrCorrupt)
		}
		g.applied, g.next = getSeq(v[4:]), le.Uint64(v[20:])
	}
	g.staged = g.applied
	err = s.scan([]byte{keyStaged}, func(k, v []byte) error {
		e, err := parseStaged(k, v)
		if err != nil {
			return err
		}
		if e.Prev != g.staged {
			return fmt.Errorf("%w: staged batch %v follows %v, not %v", ErrCorrupt, e.Last, e.Prev, g.staged)
		}
		g.push(be.Uint64(k[1:]), e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	return g, nil
}

func (g *Staging) push(index uint64, e Staged) {
	n := int64(stagedHeaderLen + len(e.Raw))
	g.entries = append(g.entries, stagedEntry{index: index, last: e.Last, bytes: n})
	g.staged, g.next = e.Last, index+1
	g.bytes += n
}

// parseStaged decodes an entry; its Raw is part of v.
func parseStaged(k, v []byte) (Staged, error) {
	if len(k) != 9 || len(v) < stagedHeaderLen || !sealed(k, v) || int(le.Uint32(v[4:])) != len(v)-stagedHeaderLen {
		return Staged{}, fmt.Errorf("%w: staged batch %x", ErrCorrupt, k)
	}
	return Staged{Prev: getSeq(v[8:]), Last: getSeq(v[24:]), Raw: v[stagedHeaderLen:]}, nil
}

// Staging returns the receiver's journal.
func (s *Store) Staging() *Staging { return s.staging }

// Append stages batches, durably, with one sync for all; either all are staged or none. The first follows the staged
// mark, each other the one before it. ErrFull beyond MaxStaged.
func (g *Staging) Append(entries []Staged) error {
	if len(entries) == 0 {
		return nil
	}
	if err := g.s.growable(); err != nil {
		return err
	}
	g.appendMu.Lock()
	defer g.appendMu.Unlock()
	g.mu.Lock()
	index := g.next
	err := g.check(entries)
	g.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stage batches: %w", err)
	}
	g.s.o.BeforeSync()
	err = g.s.update(true, func(b *pebble.Batch) error {
		for i := range entries {
			if err := putStaged(b, index+uint64(i), &entries[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("stage batches: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range entries {
		g.push(index+uint64(i), entries[i])
	}
	return nil
}

func (g *Staging) check(entries []Staged) error {
	bytes, at := g.bytes, g.staged
	for i := range entries {
		e := &entries[i]
		if e.Prev != at || !e.Prev.Less(e.Last) {
			return fmt.Errorf("batch %v to %v does not follow %v", e.Prev, e.Last, at)
		}
		at = e.Last
		bytes += int64(stagedHeaderLen + len(e.Raw))
	}
	if bytes > g.s.o.MaxStaged || len(g.entries)+len(entries) > maxStagedEntries {
		return ErrFull
	}
	return nil
}

func putStaged(b *pebble.Batch, index uint64, e *Staged) error {
	op := b.SetDeferred(9, stagedHeaderLen+len(e.Raw))
	op.Key[0] = keyStaged
	be.PutUint64(op.Key[1:], index)
	v := op.Value
	le.PutUint32(v[4:], uint32(len(e.Raw)))
	putSeq(v[8:], e.Prev)
	putSeq(v[24:], e.Last)
	copy(v[stagedHeaderLen:], e.Raw)
	seal(op.Key, v)
	return op.Finish()
}

// Replay calls fn for every staged batch behind the applied mark, in order. Raw is valid during the call only. fn may
// use the store.
func (g *Staging) Replay(fn func(Staged) error) error {
	g.mu.Lock()
	first := g.next
	if len(g.entries) > 0 {
		first = g.entries[0].index
	}
	g.mu.Unlock()
	if err := g.s.enter(); err != nil {
		return err
	}
	defer g.s.gate.leave()
	return g.s.scan([]byte{keyStaged}, func(k, v []byte) error {
		e, err := parseStaged(k, v)
		if err != nil || be.Uint64(k[1:]) < first {
			return err
		}
		return fn(e)
	})
}

// Applied moves the applied mark to upTo, the Last of a staged batch, and forgets the batches up to it. It is not
// durable: after a crash they may be there again, and applying them once more does no harm.
func (g *Staging) Applied(upTo block.Seq) error {
	if err := g.s.usable(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if upTo == g.applied {
		return nil
	}
	n := 0
	for n < len(g.entries) && g.entries[n].last.Compare(upTo) <= 0 {
		n++
	}
	if n == 0 || g.entries[n-1].last != upTo {
		return fmt.Errorf("applied mark %v: no staged batch ends there (applied %v, staged %v)", upTo, g.applied, g.staged)
	}
	done := g.entries[:n]
	err := g.s.update(false, func(b *pebble.Batch) error {
		return errors.Join(deleteStaged(b, done), putApplied(b, upTo, done[n-1].index+1))
	})
	if err != nil {
		return fmt.Errorf("applied mark: %w", err)
	}
	for i := range done {
		g.bytes -= done[i].bytes
	}
	g.applied = upTo
	g.entries = g.entries[n:]
	return nil
}

// deleteStaged deletes single keys where they are few: range deletions are dear while they gather in a memtable.
func deleteStaged(b *pebble.Batch, done []stagedEntry) error {
	first, last := done[0].index, done[len(done)-1].index
	if last-first >= 64 {
		return b.DeleteRange(u64Key(keyStaged, first), u64Key(keyStaged, last+1), nil)
	}
	for i := range done {
		if err := b.Delete(u64Key(keyStaged, done[i].index), nil); err != nil {
			return err
		}
	}
	return nil
}

func putApplied(b *pebble.Batch, applied block.Seq, next uint64) error {
	var v [appliedLen]byte
	putSeq(v[4:], applied)
	le.PutUint64(v[20:], next)
	seal([]byte{keyApplied}, v[:])
	return b.Set([]byte{keyApplied}, v[:], nil)
}

// Marks returns the applied and the staged mark.
func (g *Staging) Marks() (applied, staged block.Seq) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied, g.staged
}

// Reset forgets every batch and moves both marks to pos, durably.
func (g *Staging) Reset(pos block.Seq) error {
	g.appendMu.Lock()
	defer g.appendMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	next := g.next
	err := g.s.update(true, func(b *pebble.Batch) error {
		return errors.Join(deletePrefix(b, keyStaged), putApplied(b, pos, next))
	})
	if err != nil {
		return fmt.Errorf("reset staging: %w", err)
	}
	g.applied, g.staged, g.entries, g.bytes = pos, pos, nil, 0
	return nil
}

// Bytes is what the staged batches take of MaxStaged.
func (g *Staging) Bytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}
