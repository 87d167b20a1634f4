package reduce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

// Decoder unpacks batches and chunks and checks every digest before it hands anything out. It is reusable, not safe
// for concurrent use, and holds no goroutine.
type Decoder struct {
	unpack  unpacker
	restore *restoring // nil: reduced batches are not taken
	table   []byte     // digested head and table
	sum     []byte
}

// NewDecoder returns a decoder for every codec and digest of this version.
func NewDecoder() (*Decoder, error) {
	u, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	return &Decoder{unpack: u}, nil
}

// Close gives the decoder's memory back.
func (d *Decoder) Close() {
	d.unpack.close()
	if d.restore != nil {
		d.restore.stream.close()
	}
}

// Batch unpacks b into records that may be applied one after another; their Seq is b.Last and their Time b.Time.
// Their data aliases arena, where its capacity is at least b.RawLen, else memory allocated for this call, or b.Payload
// where that is raw. The error is ErrDigest where b may be asked for again, ErrMalformed where the peer is at fault.
func (d *Decoder) Batch(b *frame.Batch, arena []byte) ([]block.Record, error) {
	recs, err := d.batch(b, arena)
	if err != nil {
		return nil, fmt.Errorf("unpack batch %v…%v: %w", b.Prev, b.Last, err)
	}
	return recs, nil
}

func (d *Decoder) batch(b *frame.Batch, arena []byte) ([]block.Record, error) {
	if err := frame.Validate(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	raw, err := d.unpack.unpack(b.Codec, b.Payload, int(b.RawLen), arena)
	if err != nil {
		return nil, err
	}
	return d.records(b, raw, false)
}

// records takes a plain payload apart; digests were checked where trusted.
func (d *Decoder) records(b *frame.Batch, raw []byte, trusted bool) ([]block.Record, error) {
	alg := digest.Alg(b.Digest)
	table, data, err := d.split(b, alg, raw, trusted)
	if err != nil {
		return nil, err
	}
	if int64(b.Records) > int64(len(table)/minEntry) {
		return nil, fmt.Errorf("%w: %d records in a table of %d bytes", ErrMalformed, b.Records, len(table))
	}
	t := tableReader{rest: table, data: data, alg: alg}
	recs := make([]block.Record, b.Records)
	for i := range recs {
		sum, err := t.next(&recs[i])
		if err != nil {
			return nil, fmt.Errorf("%w: record %d of %d: %w", ErrMalformed, i+1, b.Records, err)
		}
		recs[i].Seq, recs[i].Time = b.Last, b.Time
		if !trusted && recs[i].Kind == block.Write && !d.matches(alg, sum, recs[i].Data) {
			return nil, fmt.Errorf("%w: %v of volume %d", ErrDigest, recs[i].Range(), recs[i].Volume)
		}
	}
	if len(t.rest) > 0 || len(t.data) > 0 {
		return nil, fmt.Errorf("%w: %d bytes of table and %d of data too many", ErrMalformed, len(t.rest), len(t.data))
	}
	return recs, nil
}

// split takes an unpacked payload apart and checks the digest of its table.
func (d *Decoder) split(b *frame.Batch, alg digest.Alg, raw []byte, trusted bool) (table, data []byte, err error) {
	size := alg.Size()
	if len(raw) < prefixSize+size {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	sum, rest := raw[prefixSize:prefixSize+size], raw[prefixSize+size:]
	n := int64(binary.BigEndian.Uint32(raw[2:]))
	if n > int64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: a table of %d bytes in a payload of %d", ErrDigest, n, len(raw))
	}
	d.table = append(appendDigestedHead(d.table[:0], b), rest[:n]...)
	if !trusted && !d.matches(alg, sum, d.table) {
		return nil, nil, fmt.Errorf("%w: table", ErrDigest)
	}
	if raw[0] != payloadVersion || raw[1] != 0 {
		return nil, nil, fmt.Errorf("%w: version %d, flags %#x", ErrMalformed, raw[0], raw[1])
	}
	return rest[:n], rest[n:], nil
}

func (d *Decoder) matches(alg digest.Alg, sum, data []byte) bool {
	d.sum = alg.Sum(d.sum[:0], data)
	return bytes.Equal(d.sum, sum)
}

// tableReader takes entries off a table and their data off the data.
type tableReader struct {
	rest, data []byte
	alg        digest.Alg
	volume     uint16
	end        int64
}

var errEntry = errors.New("entry ends early")

// next fills in r and returns the digest that a write should have.
func (t *tableReader) next(r *block.Record) (sum []byte, err error) {
	if err := t.entry(r); err != nil || r.Kind != block.Write {
		return nil, err
	}
	return t.write(r)
}

// entry fills in r but for its data, and takes what stands before the digest off the table.
func (t *tableReader) entry(r *block.Record) error {
	tag, err := t.byte()
	if err != nil {
		return err
	}
	if tag&^tagKnown != 0 {
		return fmt.Errorf("unknown tag %#x", tag)
	}
	if tag&tagVolume != 0 {
		v, err := t.byte()
		if err != nil {
			return err
		}
		t.volume, t.end = uint16(v), 0
	}
	delta, n := binary.Varint(t.rest)
	if n <= 0 {
		return errEntry
	}
	length, m := binary.Uvarint(t.rest[n:])
	if m <= 0 {
		return errEntry
	}
	t.rest = t.rest[n+m:]
	off := t.end + delta // wraps round at worst; the check below sees that
	*r = block.Record{Volume: t.volume, Kind: block.Kind(tag & tagKind), Off: off, Len: uint32(length)}
	if off < 0 || length == 0 || length > maxZeroEntry || off > math.MaxInt64-int64(length) {
		return fmt.Errorf("%d bytes at %d", length, off)
	}
	t.end = off + int64(length)
	if r.Kind < block.Write || r.Kind > block.Trim {
		return fmt.Errorf("unknown kind %d", tag&tagKind)
	}
	return nil
}

func (t *tableReader) write(r *block.Record) (sum []byte, err error) {
	size := t.alg.Size()
	switch {
	case len(t.rest) < size:
		return nil, errEntry
	case r.Len > block.MaxRecord:
		return nil, fmt.Errorf("a write of %d bytes", r.Len)
	case int(r.Len) > len(t.data):
		return nil, fmt.Errorf("a write of %d bytes, %d are left", r.Len, len(t.data))
	}
	sum, t.rest = t.rest[:size], t.rest[size:]
	r.Data, t.data = t.data[:r.Len:r.Len], t.data[r.Len:]
	return sum, nil
}

func (t *tableReader) byte() (byte, error) {
	if len(t.rest) == 0 {
		return 0, errEntry
	}
	b := t.rest[0]
	t.rest = t.rest[1:]
	return b, nil
}

// Chunk unpacks c and checks its digest. It returns c.Len bytes, aliasing arena where that has room for them, else
// memory allocated for this call, or c.Data where that is raw; for a chunk of zeroes it returns nil.
func (d *Decoder) Chunk(c *frame.Chunk, arena []byte) ([]byte, error) {
	data, err := d.chunk(c, arena)
	if err != nil {
		return nil, fmt.Errorf("unpack chunk %d of volume %d at %d: %w", c.ID, c.Volume, c.Off, err)
	}
	return data, nil
}

func (d *Decoder) chunk(c *frame.Chunk, arena []byte) ([]byte, error) {
	if err := frame.Validate(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if c.Zero {
		return nil, nil
	}
	data, err := d.unpack.unpack(c.Codec, c.Data, int(c.Len), arena)
	if err != nil {
		return nil, err
	}
	if !d.matches(digest.Alg(c.Digest), c.Sum, data) {
		return nil, ErrDigest
	}
	return data, nil
}
