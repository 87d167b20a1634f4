package reduce

import (
	"encoding/binary"
	"fmt"
	"slices"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

// Encoder packs batches and chunks. It is reusable, not safe for concurrent use, and holds no goroutine.
//
// A batch goes through it in these stages, each over the whole batch:
//
//  1. fold: which record does each byte end up with
//  2. split: blocks of zeroes out of the writes; neighbours joined to entries
//  3. table: one entry each, room left for the digests
//  4. data: copied behind the table once, digested where it lies
//  5. pack: compressed where that pays
type Encoder struct {
	opt     Options
	fold    folder
	entries []entry
	runs    []piece // the pieces of the entries, in their order
	table   []byte  // digested head and table
	raw     []byte  // a payload before compression
	pack    packer
	slots   int       // of the cache that the receiver has offered; 0: nothing is reduced
	red     *reducing // nil: nothing was reduced yet
	gear    Gear
	applied uint64 // number of the last record that the receiver has on its disks
	stats   Stats
}

// entry is one record of the batch as sent: pieces runs[first:first+n], which lie next to each other.
type entry struct {
	volume   uint16
	kind     block.Kind
	off, len int64
	first, n int
	sum      int // where its digest goes in the table
}

// NewEncoder returns an encoder that packs as o says.
func NewEncoder(o Options) (*Encoder, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p, err := newPacker(o)
	if err != nil {
		return nil, err
	}
	return &Encoder{opt: o, pack: p, gear: Gear{Codec: o.Codec, Level: o.Level}}, nil
}

// Stats returns what was counted since the encoder was made.
func (e *Encoder) Stats() Stats { return e.stats }

// Batch packs recs, consecutive records behind prev in write order, at most MaxRecords with MaxData bytes of data.
// The payload is appended to dst and aliases it; recs are not kept.
func (e *Encoder) Batch(prev block.Seq, recs []block.Record, dst []byte) (*frame.Batch, error) {
	in, err := checkRecords(prev, recs)
	if err != nil {
		return nil, fmt.Errorf("pack batch behind %v: %w", prev, err)
	}
	gone := 0
	if e.opt.Fold {
		gone = e.fold.fold(recs)
	} else {
		e.fold.keep(recs)
	}
	zeroes := e.join(recs)
	b := &frame.Batch{
		Prev: prev, Last: recs[len(recs)-1].Seq, Time: recs[0].Time,
		Records: uint32(len(e.entries)), Folded: uint32(gone), Digest: uint8(e.opt.Digest),
	}
	data := e.buildTable(b)
	e.payload(dst, b, recs, data)

	e.stats.Records += uint64(len(recs))
	e.stats.Folded += uint64(gone)
	e.stats.BytesIn += uint64(in)
	e.stats.BytesZero += uint64(zeroes)
	e.stats.BytesFolded += uint64(in - zeroes - data)
	e.stats.BytesOut += uint64(len(b.Payload))
	return b, nil
}

// payload appends the payload of a batch to dst and fills in b.
func (e *Encoder) payload(dst []byte, b *frame.Batch, recs []block.Record, data int) {
	at := len(dst)
	reduced := e.gear.Reduce && e.slots > 0
	switch {
	case reduced:
		e.startReducing()
	case e.red != nil:
		e.red.overwritten(e.entries)
	}
	packed := 0
	if e.gear.Codec == frame.CodecRaw && !reduced {
		dst = e.fill(dst, b, recs, data)
		b.RawLen = uint32(len(dst) - at)
		packed = int(b.RawLen)
	} else {
		e.raw = e.fill(e.raw[:0], b, recs, data)
		b.RawLen = uint32(len(e.raw))
		packed = int(b.RawLen)
		if reduced {
			dst = e.red.fill(dst, e, b, e.raw)
			if reduced = max(len(dst)-at, e.red.made) <= len(e.raw)+frame.ReducedSlack; !reduced {
				dst = dst[:at] // many tiny records; the receiver does not see what the cache here has seen
				e.red.begins = true
			}
		}
		if reduced {
			b.Codec = frame.CodecReduced
			packed = e.red.made
			e.stats.BytesDelta, e.stats.BytesReferred = e.red.stats.delta, e.red.stats.reference
		} else if dst, b.Codec = e.pack.pack(dst, e.raw); b.Codec != e.gear.Codec {
			e.stats.Incompressed++
		}
	}
	e.stats.BytesPacked += uint64(packed)
	b.Payload = dst[at:len(dst):len(dst)]
}

// Step is a batch without records, from prev to last: it leads into a journal epoch in which nothing was written yet.
func (e *Encoder) Step(prev, last block.Seq, dst []byte) (*frame.Batch, error) {
	if !prev.Less(last) {
		return nil, fmt.Errorf("pack step: %w: %v behind %v", ErrMalformed, last, prev)
	}
	b := &frame.Batch{Prev: prev, Last: last, Digest: uint8(e.opt.Digest)}
	e.fold.reset(0)
	e.join(nil)
	data := e.buildTable(b)
	at := len(dst)
	dst = e.fill(dst, b, nil, data)
	b.RawLen = uint32(len(dst) - at)
	b.Payload = dst[at:len(dst):len(dst)]
	return b, nil
}

func (e *Encoder) count(raw, packed int, c frame.Codec) {
	e.stats.BytesPacked += uint64(raw)
	e.stats.BytesOut += uint64(packed)
	if c != e.gear.Codec {
		e.stats.Incompressed++
	}
}

func checkRecords(prev block.Seq, recs []block.Record) (data int, err error) {
	if len(recs) == 0 {
		return 0, fmt.Errorf("%w: no records", ErrMalformed)
	}
	if len(recs) > MaxRecords {
		return 0, fmt.Errorf("%w: %d records, the limit is %d", ErrTooLarge, len(recs), MaxRecords)
	}
	for i := range recs {
		if err := validRecord(&recs[i]); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if !prev.Less(recs[i].Seq) {
			return 0, fmt.Errorf("%w: record %v behind %v", ErrMalformed, recs[i].Seq, prev)
		}
		prev = recs[i].Seq
		data += len(recs[i].Data)
	}
	if data > MaxData {
		return 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, data, MaxData)
	}
	return data, nil
}

// join makes the entries: pieces split at blocks of zeroes, neighbours of one kind joined. It returns the bytes of
// writes that became zeroes.
func (e *Encoder) join(recs []block.Record) (zeroes int) {
	e.entries, e.runs = e.entries[:0], e.runs[:0]
	for _, p := range e.fold.pieces {
		r := &recs[p.rec]
		if r.Kind != block.Write {
			e.add(r.Volume, p)
			continue
		}
		splitZeroes(p, r.Data[p.off-r.Off:p.end-r.Off], func(q piece) {
			if q.kind == block.Zero {
				zeroes += int(q.end - q.off)
			}
			e.add(r.Volume, q)
		})
	}
	return zeroes
}

func (e *Encoder) add(volume uint16, p piece) {
	limit := int64(maxZeroEntry)
	if p.kind == block.Write {
		limit = block.MaxRecord
	}
	for p.end-p.off > limit {
		head := p
		head.end = p.off + limit
		e.add(volume, head)
		p.off = head.end
	}
	e.runs = append(e.runs, p)
	if n := len(e.entries); n > 0 {
		l := &e.entries[n-1]
		if l.volume == volume && l.kind == p.kind && l.off+l.len == p.off && l.len+p.end-p.off <= limit {
			l.len += p.end - p.off
			l.n++
			return
		}
	}
	e.entries = append(e.entries, entry{volume: volume, kind: p.kind, off: p.off, len: p.end - p.off, first: len(e.runs) - 1, n: 1})
}

// buildTable fills e.table with the digested head of b and the table, digests left blank, and returns the length of
// the data.
func (e *Encoder) buildTable(b *frame.Batch) (data int) {
	t := appendDigestedHead(e.table[:0], b)
	volume, end := uint16(0), int64(0)
	for i := range e.entries {
		en := &e.entries[i]
		if en.volume != volume {
			volume, end = en.volume, 0
			t = append(t, byte(en.kind)|tagVolume, byte(volume))
		} else {
			t = append(t, byte(en.kind))
		}
		t = binary.AppendVarint(t, en.off-end)
		t = binary.AppendUvarint(t, uint64(en.len))
		end = en.off + en.len
		if en.kind == block.Write {
			en.sum = len(t)
			t = append(t, blank[:e.opt.Digest.Size()]...)
			data += int(en.len)
		}
	}
	e.table = t
	return data
}

var blank [digest.MaxSize]byte

func appendDigestedHead(t []byte, b *frame.Batch) []byte {
	for _, v := range [...]uint64{b.Prev.Epoch, b.Prev.Num, b.Last.Epoch, b.Last.Num} {
		t = binary.BigEndian.AppendUint64(t, v)
	}
	return binary.BigEndian.AppendUint32(t, b.Records)
}

// fill appends the unpacked payload to dst: it copies the data behind the room for the table, digests it there, and
// puts the finished table in front.
func (e *Encoder) fill(dst []byte, b *frame.Batch, recs []block.Record, data int) []byte {
	size := e.opt.Digest.Size()
	entries := len(e.table) - digestedHead
	dst = slices.Grow(dst, prefixSize+size+entries+data)
	dst = append(dst, payloadVersion, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(entries))
	tableAt := len(dst) + size
	dst = dst[:tableAt+entries]
	for i := range e.entries {
		en := &e.entries[i]
		if en.kind != block.Write {
			continue
		}
		at := len(dst)
		for _, p := range e.runs[en.first : en.first+en.n] {
			r := &recs[p.rec]
			dst = append(dst, r.Data[p.off-r.Off:p.end-r.Off]...)
		}
		e.opt.Digest.Sum(e.table[en.sum:en.sum], dst[at:])
	}
	copy(dst[tableAt:], e.table[digestedHead:])
	e.opt.Digest.Sum(dst[tableAt-size:tableAt-size], e.table)
	return dst
}

// Chunk packs data, the contents of a volume at off, at most frame.MaxChunk bytes. The payload is appended to dst and
// aliases it; data is not kept. Data that is all zeroes becomes a chunk of zeroes.
func (e *Encoder) Chunk(id uint64, volume uint16, off int64, data, dst []byte) (*frame.Chunk, error) {
	if len(data) > frame.MaxChunk {
		return nil, fmt.Errorf("pack chunk of volume %d at %d: %w: %d bytes, the limit is %d", volume, off, ErrTooLarge, len(data), frame.MaxChunk)
	}
	if allZero(data) {
		return e.ZeroChunk(id, volume, off, int64(len(data)))
	}
	c := &frame.Chunk{ID: id, Volume: volume, Off: off, Len: uint32(len(data)), Digest: uint8(e.opt.Digest)}
	c.Sum = e.opt.Digest.Sum(nil, data)
	at := len(dst)
	dst, c.Codec = e.pack.pack(dst, data)
	c.Data = dst[at:len(dst):len(dst)]
	if err := frame.Validate(c); err != nil {
		return nil, fmt.Errorf("pack chunk of volume %d at %d: %w", volume, off, err)
	}
	e.stats.BytesIn += uint64(len(data))
	e.count(len(data), len(c.Data), c.Codec)
	return c, nil
}

// ZeroChunk is a chunk that says that n bytes of a volume are zeroes, at most frame.MaxZeroChunk.
func (e *Encoder) ZeroChunk(id uint64, volume uint16, off, n int64) (*frame.Chunk, error) {
	c := &frame.Chunk{ID: id, Volume: volume, Off: off, Len: uint32(min(n, frame.MaxZeroChunk+1)), Zero: true}
	if err := frame.Validate(c); err != nil {
		return nil, fmt.Errorf("pack zeroes of volume %d at %d: %w", volume, off, err)
	}
	e.stats.BytesIn += uint64(n)
	e.stats.BytesZero += uint64(n)
	return c, nil
}

func allZero(data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), block.Size)
		if !isZero(data[:n]) {
			return false
		}
		data = data[n:]
	}
	return true
}
