package frame

import (
	"encoding/binary"
	"errors"
	"fmt"

	"drship/internal/block"
)

var errShort = errors.New("ends in the middle of a field")

// reader takes fields off a body. After the first failure every field reads as zero and finish tells.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.rest = err, nil
	}
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) bool() bool {
	switch r.u8() {
	case 0:
		return false
	case 1:
		return true
	}
	r.fail(errors.New("a yes or no that is neither"))
	return false
}

func (r *reader) seq() block.Seq { return block.Seq{Epoch: r.u64(), Num: r.u64()} }

// bytes reads a length of 32 bits and that many bytes, at most max.
func (r *reader) bytes(limit int) []byte {
	n := r.u32()
	if int64(n) > int64(limit) {
		r.fail(fmt.Errorf("a field of %d bytes, the limit is %d", n, limit))
	}
	return r.take(int(n))
}

// count reads a number of entries of at least size bytes each: more than the rest can hold is refused before
// anything is allocated for them.
func (r *reader) count(limit, size int) int {
	n := int(r.u32())
	if n > limit || n > len(r.rest)/size {
		r.fail(fmt.Errorf("%d entries, the limit is %d", n, limit))
		return 0
	}
	return n
}

// remainder is everything that is left.
func (r *reader) remainder() []byte { return r.take(len(r.rest)) }

func (r *reader) finish() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.rest))
	}
	return r.err
}

func putU16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func putU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func putU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func putSeq(b []byte, s block.Seq) []byte { return putU64(putU64(b, s.Epoch), s.Num) }

func putBytes(b, v []byte) []byte { return append(putU32(b, uint32(len(v))), v...) }
