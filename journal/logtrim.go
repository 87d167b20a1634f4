package journal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

var errTrimAhead = errors.New("not a position of the journal")

// Trim forgets the records up to and including upTo. It is not durable: after a crash they may be back. A position
// behind the end is refused, one before the start is nothing to do.
func (l *Log) Trim(upTo block.Seq) error {
	if err := l.s.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	before := upTo.Num <= l.start.num
	known := l.covers(upTo)
	l.mu.Unlock()
	if before {
		return nil
	}
	if !known {
		return fmt.Errorf("trim to %v: %w", upTo, errTrimAhead)
	}
	p, err := l.placeAfter(upTo.Num)
	if errors.Is(err, ErrGone) {
		return nil // trimmed by somebody else meanwhile
	}
	if err != nil {
		return fmt.Errorf("trim to %v: %w", upTo, err)
	}
	l.mu.Lock()
	if p.num > l.start.num && p.num <= l.committed.num {
		l.start = p
		l.wakeRoom()
	}
	due := l.start.cum-l.persisted.cum >= trimBytes
	l.mu.Unlock()
	if due {
		return l.persistTrim()
	}
	return nil
}

// persistTrim stores how far the log was trimmed. It leaves it to the next call if somebody is writing.
func (l *Log) persistTrim() error {
	l.mu.Lock()
	if l.writing || l.start.num <= l.persisted.num {
		l.mu.Unlock()
		return nil
	}
	l.writing = true
	start := l.start
	l.mu.Unlock()
	err := l.s.update(false, func(b *pebble.Batch) error {
		return errors.Join(l.putTrim(b, start), putLogState(b, l.maxEpoch, start))
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseWriting()
	if err != nil {
		return fmt.Errorf("trim journal: %w", err)
	}
	l.persisted = start
	return nil
}

// putTrim deletes the groups that end at or before start; writing is held. Ranges of successive calls do not overlap,
// so that they stay cheap.
func (l *Log) putTrim(b *pebble.Batch, start place) error {
	if start.num <= l.persisted.num {
		return nil
	}
	from := block.Seq{Epoch: l.epochAt(l.persisted.num + 1), Num: l.persisted.num + 1}
	to := block.Seq{Epoch: l.epochAt(start.num), Num: start.num + 1}
	return errors.Join(
		b.DeleteRange(seqKey(keyHeaders, from), seqKey(keyHeaders, to), nil),
		b.DeleteRange(seqKey(keyData, from), seqKey(keyData, to), nil))
}
