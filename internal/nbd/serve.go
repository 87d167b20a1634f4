package nbd

import (
	"encoding/binary"
	"fmt"
	"time"
)

// serve carries a request out and makes the reply. An error of the export goes to the client; the connection stays.
func (s *session) serve(q *request, r *reply) {
	err := q.err
	if err == nil {
		begin := time.Now()
		err = s.execute(q, r)
		s.role.timed(time.Since(begin))
	}
	s.buffers.put(q.buf)
	q.buf = nil
	switch {
	case err != nil:
		r.fail(q.cookie, s.structured, err)
	case r.n == 0:
		r.simple(q.cookie, 0)
	}
}

// execute carries a checked request out; it fills r where the reply has a payload.
func (s *session) execute(q *request, r *reply) error {
	off, n := int64(q.off), int64(q.length)
	fua := q.flags&CmdFlagFUA != 0
	switch {
	case q.cmd == CmdFlush:
		return s.export.Flush(s.ctx)
	case q.cmd == CmdRead:
		return s.read(q, r)
	case q.cmd == CmdBlockStatus:
		return s.blockStatus(q, r)
	case n == 0:
		return nil
	case q.cmd == CmdWrite:
		return s.export.WriteAt(s.ctx, q.buf.data, off, fua)
	case q.cmd == CmdTrim:
		return s.export.Trim(s.ctx, off, n, fua)
	case q.cmd == CmdWriteZeroes:
		return s.export.Zero(s.ctx, off, n, ZeroOptions{
			FUA:    fua,
			NoHole: q.flags&CmdFlagNoHole != 0,
			Fast:   q.flags&CmdFlagFastZero != 0,
		})
	}
	return fmt.Errorf("%w: command %d", ErrInvalid, q.cmd)
}

// read answers NBD_CMD_READ. A reply that is all zeroes goes as a hole where the client understands one.
func (s *session) read(q *request, r *reply) error {
	if q.length == 0 {
		if s.structured {
			r.chunk(q.cookie, ReplyNone, 0)
		}
		return nil
	}
	buf, err := s.buffer(int(q.length))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrShutdown, err)
	}
	if err := s.export.ReadAt(s.ctx, buf.data, int64(q.off)); err != nil {
		s.buffers.put(buf)
		return err
	}
	switch {
	case !s.structured:
		r.simple(q.cookie, 0)
	case q.flags&CmdFlagDF == 0 && isZero(buf.data):
		s.buffers.put(buf)
		r.chunk(q.cookie, ReplyOffsetHole, 12)
		binary.BigEndian.PutUint64(r.head[r.n:], q.off)
		binary.BigEndian.PutUint32(r.head[r.n+8:], q.length)
		r.n += 12
		return nil
	default:
		r.chunk(q.cookie, ReplyOffsetData, 8+len(buf.data))
		binary.BigEndian.PutUint64(r.head[r.n:], q.off)
		r.n += 8
	}
	r.data, r.buf = buf.data, buf
	return nil
}

// blockStatus answers NBD_CMD_BLOCK_STATUS for base:allocation.
func (s *session) blockStatus(q *request, r *reply) error {
	extents, err := s.export.Extents(s.ctx, int64(q.off), int64(q.length))
	if err != nil {
		return err
	}
	limit := maxExtents
	if q.flags&CmdFlagReqOne != 0 {
		limit = 1
	}
	r.data = appendStatus(nil, extents, int64(q.length), limit)
	r.chunk(q.cookie, ReplyBlockStatus, len(r.data))
	return nil
}

// appendStatus encodes extents, of one status each, for at most n bytes and limit descriptors. No extent at all
// counts as data, which is always true enough.
func appendStatus(b []byte, extents []Extent, n int64, limit int) []byte {
	b = binary.BigEndian.AppendUint32(b, metaContextID)
	var run Extent
	emit := func() {
		length, status := descriptor(run, n)
		b = binary.BigEndian.AppendUint32(b, length)
		b = binary.BigEndian.AppendUint32(b, status)
		n -= int64(length)
		limit--
	}
	for _, e := range extents {
		if e.Len <= 0 {
			break
		}
		if run.Len > 0 && (run.Hole != e.Hole || run.Zero != e.Zero) {
			emit()
			run = Extent{}
			if limit == 0 || n == 0 {
				return b
			}
		}
		run = Extent{Len: run.Len + min(e.Len, n), Hole: e.Hole, Zero: e.Zero}
	}
	if run.Len == 0 {
		run.Len = n
	}
	emit()
	return b
}

// isZero reports whether b holds only zeroes. It stops at the first byte that is not.
func isZero(b []byte) bool {
	for len(b) >= 32 {
		x := binary.NativeEndian.Uint64(b) | binary.NativeEndian.Uint64(b[8:]) |
			binary.NativeEndian.Uint64(b[16:]) | binary.NativeEndian.Uint64(b[24:])
		if x != 0 {
			return false
		}
		b = b[32:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
