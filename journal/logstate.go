package journal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// logStateLen is the length of the value under keyLogState: checksum, highest epoch, start (number, bytes).
const logStateLen = 4 + 8 + 8 + 8

func putLogState(b *pebble.Batch, maxEpoch uint64, start place) error {
	var v [logStateLen]byte
	le.PutUint64(v[4:], maxEpoch)
	le.PutUint64(v[12:], start.num)
	le.PutUint64(v[20:], start.cum)
	seal([]byte{keyLogState}, v[:])
	return b.Set([]byte{keyLogState}, v[:], nil)
}

func putEpoch(b *pebble.Batch, m epochMark) error {
	k := u64Key(keyEpoch, m.epoch)
	var v [12]byte
	le.PutUint64(v[4:], m.start)
	seal(k, v[:])
	return b.Set(k, v[:], nil)
}

// putDroppedEpochs deletes all but the epochs from keep on.
func (l *Log) putDroppedEpochs(b *pebble.Batch, keep int) error {
	if keep == 0 {
		return nil
	}
	return b.DeleteRange(u64Key(keyEpoch, 0), u64Key(keyEpoch, l.epochs[keep].epoch), nil)
}

// deletePrefix deletes every key that begins with prefix.
func deletePrefix(b *pebble.Batch, prefix byte) error {
	return b.DeleteRange([]byte{prefix}, []byte{prefix + 1}, nil)
}

// loadState reads the epochs and the start of the log.
func (l *Log) loadState() error {
	v, err := l.s.get([]byte{keyLogState})
	if err != nil || v == nil {
		return err
	}
	if len(v) != logStateLen || !sealed([]byte{keyLogState}, v) {
		return fmt.Errorf("%w: state of the journal", ErrCorrupt)
	}
	l.maxEpoch = le.Uint64(v[4:])
	l.start = place{num: le.Uint64(v[12:]), cum: le.Uint64(v[20:])}
	return l.s.scan([]byte{keyEpoch}, func(k, v []byte) error {
		if len(k) != 9 || len(v) != 12 || !sealed(k, v) {
			return fmt.Errorf("%w: epoch %x", ErrCorrupt, k)
		}
		l.epochs = append(l.epochs, epochMark{epoch: be.Uint64(k[1:]), start: le.Uint64(v[4:])})
		return nil
	})
}

// scan calls fn for every key that begins with prefix, in order; k and v are valid during the call. The gate must be
// held, or the store be opening.
func (s *Store) scan(prefix []byte, fn func(k, v []byte) error) (err error) {
	it, err := s.iter(prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read value: %w", err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}

// iter opens an iterator over the keys that begin with prefix, whose last byte is below 0xff.
func (s *Store) iter(prefix []byte) (*pebble.Iterator, error) {
	end := append([]byte{}, prefix...)
	end[len(end)-1]++
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end})
	if err != nil {
		return nil, fmt.Errorf("open iterator: %w", err)
	}
	return it, nil
}
