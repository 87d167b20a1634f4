package journal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// Read appends committed records behind after to dst, in order and without a gap: at least one if there is any, then
// as many as stay within maxRecords and maxBytes (of data). ErrGone if after is not covered. Their Data is
// memory of their own.
func (l *Log) Read(after block.Seq, maxBytes, maxRecords int, dst []block.Record) ([]block.Record, error) {
	recs, _, err := l.ReadInto(after, maxBytes, maxRecords, dst, nil)
	return recs, err
}

// ReadInto is Read with the Data of the records in arena: they are appended to it, and it is returned for the next
// call. Records stay valid until the caller writes to the arena, or reads into it again from its beginning.
func (l *Log) ReadInto(after block.Seq, maxBytes, maxRecords int, dst []block.Record, arena []byte) (_ []block.Record, _ []byte, err error) {
	r := logReader{l: l, next: after.Num + 1, maxBytes: maxBytes, maxRecords: maxRecords, dst: dst, arena: arena}
	if err := r.open(after); err != nil || r.groups == nil {
		return dst, arena, err
	}
	err = r.run()
	if err = errors.Join(err, r.close()); err != nil {
		return dst, arena, fmt.Errorf("read journal behind %v: %w", after, err)
	}
	return r.dst, r.arena, nil
}

// Ranges calls fn for the range of every committed record behind after, in order. It reads no data. ErrGone if after is not covered.
func (l *Log) Ranges(after block.Seq, fn func(volume uint16, r block.Range) error) error {
	r := logReader{l: l, next: after.Num + 1}
	if err := r.open(after); err != nil || r.groups == nil {
		return err
	}
	err := r.eachGroup(func(g *groupView) (bool, error) {
		for i := int(r.next - g.first()); i < g.count; i++ {
			rec := g.record(i)
			if err := fn(rec.Volume, rec.Range()); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return errors.Join(err, r.close())
}

// logReader reads groups in order: headers from one iterator, data from another that is opened with the first need.
type logReader struct {
	l                    *Log
	next                 uint64 // number expected next
	end                  place  // last record to read
	maxBytes, maxRecords int
	dst                  []block.Record
	arena                []byte
	first                int // len(dst) at the beginning

	groups, data *pebble.Iterator
	group        groupView
	key          [seqKeyLen]byte
}

// open positions the reader behind after; groups stays nil if there is nothing to read. The gate is held until close.
func (r *logReader) open(after block.Seq) error {
	l := r.l
	l.mu.Lock()
	covered := l.covers(after)
	r.end = l.committed
	l.mu.Unlock()
	if err := l.s.usable(); err != nil {
		return err
	}
	if !covered {
		return fmt.Errorf("%v: %w", after, ErrGone)
	}
	if r.next > r.end.num {
		return nil
	}
	if err := l.s.enter(); err != nil {
		return err
	}
	r.first = len(r.dst)
	it, err := l.s.iter([]byte{keyHeaders})
	if err != nil {
		l.s.gate.leave()
		return err
	}
	r.groups = it
	it.SeekGE(seqKey(keyHeaders, block.Seq{Epoch: after.Epoch, Num: r.next}))
	return nil
}

func (r *logReader) close() error {
	err := r.groups.Close()
	if r.data != nil {
		err = errors.Join(err, r.data.Close())
	}
	r.l.s.gate.leave()
	return err
}

// eachGroup calls fn for each group from next on, and moves next behind it, until fn says that it is enough.
func (r *logReader) eachGroup(fn func(g *groupView) (more bool, err error)) error {
	for ; r.groups.Valid() && r.next <= r.end.num; r.groups.Next() {
		v, err := r.groups.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read headers: %w", err)
		}
		if r.group, err = parseGroup(r.groups.Key(), v); err != nil {
			return err
		}
		g := &r.group
		if g.seq.Num < r.next || g.first() > r.next {
			return r.gap()
		}
		more, err := fn(g)
		if err != nil || !more {
			return err
		}
		r.next = g.seq.Num + 1
	}
	if err := r.groups.Error(); err != nil {
		return err
	}
	if r.next <= r.end.num {
		return r.gap()
	}
	return nil
}

// gap tells records that were trimmed meanwhile from records that are missing.
func (r *logReader) gap() error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if r.next <= r.l.start.num {
		return ErrGone
	}
	return fmt.Errorf("%w: record %d is missing from the journal", ErrCorrupt, r.next)
}

// arenaBytes bounds what is allocated before it is known to be needed.
const arenaBytes = 4 << 20

func (r *logReader) run() error {
	return r.eachGroup(func(g *groupView) (bool, error) {
		if r.arena == nil && r.end.cum > g.cum {
			r.arena = make([]byte, 0, min(uint64(max(r.maxBytes, 0)), r.end.cum-g.cum, arenaBytes))
		}
		off, from := 0, int(r.next-g.first())
		for i := range from {
			off += g.dataLen(i)
		}
		var data []byte
		for i := from; i < g.count; i++ {
			n := g.dataLen(i)
			if taken := len(r.dst) - r.first; taken > 0 && (taken >= r.maxRecords || n > r.maxBytes) {
				return false, nil
			}
			var piece []byte
			if n > 0 {
				if data == nil {
					var err error
					if data, err = r.groupData(g); err != nil {
						return false, err
					}
				}
				if off+n > len(data) {
					return false, fmt.Errorf("%w: data of group %v is short", ErrCorrupt, g.seq)
				}
				piece = data[off : off+n]
			}
			if err := r.take(g, i, piece); err != nil {
				return false, err
			}
			off += n
			r.maxBytes -= n
		}
		return true, nil
	})
}

// take checks record i of g and appends it.
func (r *logReader) take(g *groupView, i int, data []byte) error {
	rec := g.record(i)
	h := g.header(i)
	if le.Uint32(h) != recordSum(h, data) {
		return fmt.Errorf("%w: record %v: checksum does not match", ErrCorrupt, rec.Seq)
	}
	if len(data) > 0 {
		at := len(r.arena)
		r.arena = append(r.arena, data...)
		rec.Data = r.arena[at:len(r.arena):len(r.arena)]
	}
	r.dst = append(r.dst, rec)
	return nil
}

// groupData is the data of a group, valid until the next call.
func (r *logReader) groupData(g *groupView) ([]byte, error) {
	key := r.key[:]
	putSeqKey(key, keyData, g.seq)
	ok := false
	if r.data == nil {
		it, err := r.l.s.iter([]byte{keyData})
		if err != nil {
			return nil, err
		}
		r.data = it
		ok = it.SeekGE(key)
	} else if ok = r.data.Next(); ok && string(r.data.Key()) != string(key) {
		ok = r.data.SeekGE(key)
	}
	if !ok || string(r.data.Key()) != string(key) {
		if err := r.data.Error(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: data of group %v is missing", ErrCorrupt, g.seq)
	}
	return r.data.ValueAndErr()
}

// placeAfter is the place behind record num.
func (l *Log) placeAfter(num uint64) (place, error) {
	l.mu.Lock()
	switch num {
	case l.committed.num:
		defer l.mu.Unlock()
		return l.committed, nil
	case l.start.num:
		defer l.mu.Unlock()
		return l.start, nil
	}
	l.mu.Unlock()
	rec, err := l.find(num + 1)
	return place{num: num, cum: rec.cum}, err
}

// find tells where record num stands and when it was accepted: from memory if it is recent or was asked for before.
func (l *Log) find(num uint64) (recentRecord, error) {
	l.mu.Lock()
	if num > l.recentLow && num <= l.committed.num {
		defer l.mu.Unlock()
		return l.recent[num%recentRecords], nil
	}
	for _, f := range l.found {
		if f.num == num {
			defer l.mu.Unlock()
			return f.recentRecord, nil
		}
	}
	from := block.Seq{Epoch: l.epochAt(num), Num: num - 1}
	l.mu.Unlock()
	rec, err := l.lookup(from, num)
	if err != nil {
		return rec, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if num > l.start.num { // not dropped meanwhile
		l.found[l.foundNext] = foundRecord{num: num, recentRecord: rec}
		l.foundNext = (l.foundNext + 1) % len(l.found)
	}
	return rec, nil
}

func (l *Log) lookup(after block.Seq, num uint64) (rec recentRecord, err error) {
	r := logReader{l: l, next: num}
	if err := r.open(after); err != nil {
		return rec, err
	}
	if r.groups == nil {
		return rec, ErrGone
	}
	err = r.eachGroup(func(g *groupView) (bool, error) {
		i := int(num - g.first())
		rec = recentRecord{cum: g.cum, time: g.record(i).Time}
		for j := range i {
			rec.cum += recordHeaderLen + uint64(g.dataLen(j))
		}
		return false, nil
	})
	return rec, errors.Join(err, r.close())
}
