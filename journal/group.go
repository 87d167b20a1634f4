package journal

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
)

// A group is what one commit put into the log: consecutive records of one epoch, under two keys, so that headers can be
// read without the data. Its layout is in docs/format.md.
const (
	groupHeaderLen  = 4 + 4 + 8
	recordHeaderLen = 28
)

// putGroup adds the records of g to the batch. It is the only copy that is made of their data.
func putGroup(b *pebble.Batch, g []queued) error {
	last := g[len(g)-1].rec.Seq
	var total int
	for i := range g {
		total += len(g[i].rec.Data)
	}
	var data []byte
	if total > 0 {
		op := b.SetDeferred(seqKeyLen, total)
		putSeqKey(op.Key, keyData, last)
		data = op.Value
		for i := range g {
			data = data[copy(data, g[i].rec.Data):]
		}
		if err := op.Finish(); err != nil {
			return fmt.Errorf("add data of group: %w", err)
		}
	}
	op := b.SetDeferred(seqKeyLen, groupHeaderLen+recordHeaderLen*len(g))
	putSeqKey(op.Key, keyHeaders, last)
	v := op.Value
	le.PutUint32(v[4:], uint32(len(g)))
	le.PutUint64(v[8:], g[0].cum)
	for i := range g {
		putRecordHeader(v[groupHeaderLen+i*recordHeaderLen:][:recordHeaderLen], &g[i].rec)
	}
	seal(op.Key, v)
	return op.Finish()
}

func putRecordHeader(h []byte, r *block.Record) {
	h[4] = byte(r.Kind)
	h[5] = 0
	le.PutUint16(h[6:], r.Volume)
	le.PutUint64(h[8:], uint64(r.Time))
	le.PutUint64(h[16:], uint64(r.Off))
	le.PutUint32(h[24:], r.Len)
	le.PutUint32(h, recordSum(h, r.Data))
}

// recordSum is the checksum of a record: its header behind the checksum, and its data. That it stands under the right
// sequence number is covered by the checksum of the group's headers.
func recordSum(h, data []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, h[4:recordHeaderLen]), castagnoli, data)
}

// groupView reads the headers of a group in place.
type groupView struct {
	seq     block.Seq // of its last record
	count   int
	cum     uint64 // bytes of the log before it
	headers []byte
}

func parseGroup(k, v []byte) (groupView, error) {
	seq, ok := parseSeqKey(k)
	if !ok || len(v) < groupHeaderLen+recordHeaderLen || !sealed(k, v) {
		return groupView{}, fmt.Errorf("%w: headers of group %x", ErrCorrupt, k)
	}
	g := groupView{seq: seq, count: int(le.Uint32(v[4:])), cum: le.Uint64(v[8:]), headers: v[groupHeaderLen:]}
	if g.count > maxGroup || g.count*recordHeaderLen != len(g.headers) || uint64(g.count) > seq.Num {
		return groupView{}, fmt.Errorf("%w: group %v of %d records", ErrCorrupt, seq, g.count)
	}
	return g, nil
}

// first is the number of its first record.
func (g *groupView) first() uint64 { return g.seq.Num - uint64(g.count) + 1 }

func (g *groupView) header(i int) []byte { return g.headers[i*recordHeaderLen:][:recordHeaderLen] }

// dataLen is the length of the data of record i.
func (g *groupView) dataLen(i int) int {
	h := g.header(i)
	if block.Kind(h[4]) != block.Write {
		return 0
	}
	return int(le.Uint32(h[24:]))
}

// bytes is what the group takes of the log.
func (g *groupView) bytes() uint64 {
	n := uint64(g.count) * recordHeaderLen
	for i := range g.count {
		n += uint64(g.dataLen(i))
	}
	return n
}

// record decodes record i, without its data.
func (g *groupView) record(i int) block.Record {
	h := g.header(i)
	return block.Record{
		Seq:    block.Seq{Epoch: g.seq.Epoch, Num: g.first() + uint64(i)},
		Time:   int64(le.Uint64(h[8:])),
		Volume: le.Uint16(h[6:]),
		Kind:   block.Kind(h[4]),
		Off:    int64(le.Uint64(h[16:])),
		Len:    le.Uint32(h[24:]),
	}
}

// lastGroup finds the last group of the log, nil if it is empty.
func (l *Log) lastGroup() (g *groupView, err error) {
	it, err := l.s.iter([]byte{keyHeaders})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return nil, it.Error()
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	view, err := parseGroup(it.Key(), append([]byte{}, v...))
	if err != nil {
		return nil, err
	}
	return &view, nil
}
