package frame

import (
	"fmt"

	"drship/internal/digest"
)

// The bodies of the requests that a Primary without a disk sends to its peer, and of their answers. docs/format.md draws them.

func (m *IO) append(b []byte) []byte {
	b = putU64(putU16(append(putU64(b, m.ID), byte(m.Op)), m.Volume), uint64(m.Off))
	return appendSum(putU32(b, m.Len), m.Digest, m.Sum)
}

func (m *IO) tail() []byte { return m.Data }

func (m *IO) decode(r *reader) {
	m.ID, m.Op, m.Volume, m.Off, m.Len = r.u64(), Op(r.u8()), r.u16(), int64(r.u64()), r.u32()
	m.Digest = r.u8()
	m.Sum = r.take(int(r.u8()))
	m.Data = r.remainder()
}

func (m *IO) validate() error {
	if m.Op < OpRead || m.Op > OpFlush {
		return fmt.Errorf("operation %d", m.Op)
	}
	data := 0
	if m.Op == OpWrite {
		data = int(m.Len)
	}
	if err := validData(m.Digest, m.Sum, m.Data, data); err != nil {
		return err
	}
	switch m.Op {
	case OpFlush:
		if m.Off != 0 || m.Len != 0 {
			return fmt.Errorf("a flush of %d bytes at %d", m.Len, m.Off)
		}
		return validVolume(m.Volume)
	case OpRead, OpWrite:
		return validRun(m.Volume, m.Off, m.Len, MaxIO)
	}
	return validRun(m.Volume, m.Off, m.Len, MaxZeroIO)
}

func (m *IOReply) append(b []byte) []byte {
	return appendSum(append(putU64(b, m.ID), byte(m.Code)), m.Digest, m.Sum)
}

func (m *IOReply) tail() []byte { return m.Data }

func (m *IOReply) decode(r *reader) {
	m.ID, m.Code, m.Digest = r.u64(), IOCode(r.u8()), r.u8()
	m.Sum = r.take(int(r.u8()))
	m.Data = r.remainder()
}

func (m *IOReply) validate() error {
	if m.Code > IONoSpace {
		return fmt.Errorf("code %d", m.Code)
	}
	if m.Code != IODone && len(m.Data) > 0 {
		return fmt.Errorf("code %d with data", m.Code)
	}
	return validData(m.Digest, m.Sum, m.Data, min(len(m.Data), MaxIO))
}

func appendSum(b []byte, alg uint8, sum []byte) []byte {
	return append(append(b, alg, byte(len(sum))), sum...)
}

// validData checks data of n bytes and its digest; what carries none has none.
func validData(alg uint8, sum, data []byte, n int) error {
	a := digest.Alg(alg)
	size := a.Size()
	if len(data) == 0 {
		size = 0
	}
	switch {
	case !a.Valid():
		return fmt.Errorf("digest %d", alg)
	case len(data) != n:
		return fmt.Errorf("%d bytes of data for %d", len(data), n)
	case len(sum) != size:
		return fmt.Errorf("a digest of %d bytes instead of %d", len(sum), size)
	}
	return nil
}
