package frame

import (
	"errors"
	"fmt"
	"math"

	"drship/internal/block"
	"drship/internal/digest"
)

// The bodies of the data lane, in the order of their types. docs/format.md draws them.

func (m *StreamStart) append(b []byte) []byte {
	b = putBool(append(b, byte(m.Mode)), m.Keep)
	b = putU64(putSeq(b, m.From), m.Blocks)
	b = appendVolumes(b, m.Volume)
	for i := range m.UUIDs {
		b = m.UUIDs[i].append(b)
	}
	return b
}

func (m *StreamStart) decode(r *reader) {
	m.Mode, m.Keep = Mode(r.u8()), r.bool()
	m.From, m.Blocks = r.seq(), r.u64()
	m.Volume = decodeVolumes(r)
	if len(m.Volume)*uuidsSize > len(r.rest) {
		r.fail(errShort)
		return
	}
	if len(m.Volume) == 0 {
		return
	}
	m.UUIDs = make([]UUIDs, len(m.Volume))
	for i := range m.UUIDs {
		m.UUIDs[i].decode(r)
	}
}

func (m *StreamStart) validate() error {
	if m.Mode < ModeJournal || m.Mode > ModeAhead {
		return fmt.Errorf("mode %d", m.Mode)
	}
	if len(m.UUIDs) != len(m.Volume) {
		return fmt.Errorf("identifiers for %d of %d volumes", len(m.UUIDs), len(m.Volume))
	}
	return validateVolumes(m.Volume)
}

func (m *Batch) append(b []byte) []byte {
	b = putU64(putSeq(putSeq(b, m.Prev), m.Last), uint64(m.Time))
	b = putU32(putU32(b, m.Records), m.Folded)
	return putU32(append(b, byte(m.Codec), m.Digest), m.RawLen)
}

func (m *Batch) tail() []byte { return m.Payload }

func (m *Batch) decode(r *reader) {
	m.Prev, m.Last, m.Time = r.seq(), r.seq(), int64(r.u64())
	m.Records, m.Folded = r.u32(), r.u32()
	m.Codec, m.Digest, m.RawLen = Codec(r.u8()), r.u8(), r.u32()
	m.Payload = r.remainder()
}

func (m *Batch) validate() error {
	switch {
	case !m.Prev.Less(m.Last):
		return fmt.Errorf("it leads from %v to %v", m.Prev, m.Last)
	case m.RawLen > MaxRaw:
		return fmt.Errorf("%d bytes once unpacked, the limit is %d", m.RawLen, MaxRaw)
	}
	if m.Codec == CodecReduced {
		if len(m.Payload) > int(m.RawLen)+ReducedSlack {
			return fmt.Errorf("%d bytes for %d unpacked, codec %v", len(m.Payload), m.RawLen, m.Codec)
		}
		return validPacking(CodecRaw, m.Digest)
	}
	if err := validPacking(m.Codec, m.Digest); err != nil {
		return err
	}
	return validPacked(m.Codec, len(m.Payload), int64(m.RawLen))
}

func validPacking(c Codec, d uint8) error {
	if c > CodecS2 {
		return fmt.Errorf("codec %d", c)
	}
	if !digest.Alg(d).Valid() {
		return fmt.Errorf("digest %d", d)
	}
	return nil
}

// validPacked holds the packed length against the unpacked one: a packed payload is sent only where it is shorter.
func validPacked(c Codec, packed int, raw int64) error {
	if c == CodecRaw && int64(packed) != raw || int64(packed) > raw {
		return fmt.Errorf("%d bytes for %d unpacked, codec %v", packed, raw, c)
	}
	return nil
}

func (m *Chunk) append(b []byte) []byte {
	b = putU64(putU16(putU64(b, m.ID), m.Volume), uint64(m.Off))
	b = append(putBool(putU32(b, m.Len), m.Zero), byte(m.Codec), m.Digest)
	return append(append(b, byte(len(m.Sum))), m.Sum...)
}

func (m *Chunk) tail() []byte { return m.Data }

func (m *Chunk) decode(r *reader) {
	m.ID, m.Volume, m.Off = r.u64(), r.u16(), int64(r.u64())
	m.Len, m.Zero = r.u32(), r.bool()
	m.Codec, m.Digest = Codec(r.u8()), r.u8()
	m.Sum = r.take(int(r.u8()))
	m.Data = r.remainder()
}

func (m *Chunk) validate() error {
	if err := validPacking(m.Codec, m.Digest); err != nil {
		return err
	}
	if m.Zero {
		if len(m.Data) != 0 || len(m.Sum) != 0 || m.Codec != CodecRaw {
			return errors.New("zeroes that come with data")
		}
		return validRun(m.Volume, m.Off, m.Len, MaxZeroChunk)
	}
	if n := digest.Alg(m.Digest).Size(); len(m.Sum) != n {
		return fmt.Errorf("a digest of %d bytes instead of %d", len(m.Sum), n)
	}
	if err := validPacked(m.Codec, len(m.Data), int64(m.Len)); err != nil {
		return err
	}
	return validRun(m.Volume, m.Off, m.Len, MaxChunk)
}

func validRun(vol uint16, off int64, n uint32, limit int64) error {
	if off < 0 || n == 0 || int64(n) > limit || off > math.MaxInt64-int64(n) {
		return fmt.Errorf("a run of %d bytes at %d, the limit is %d", n, off, limit)
	}
	return validVolume(vol)
}

func (m *Query) append(b []byte) []byte {
	b = putU64(putU16(putU64(b, m.ID), m.Volume), uint64(m.Off))
	return putBytes(append(putU32(b, m.Len), m.Digest), m.Sums)
}

func (m *Query) tail() []byte { return nil }

func (m *Query) decode(r *reader) {
	m.ID, m.Volume, m.Off = r.u64(), r.u16(), int64(r.u64())
	m.Len, m.Digest = r.u32(), r.u8()
	m.Sums = r.bytes(maxRunBody)
}

func (m *Query) validate() error { return validSums(m.Volume, m.Off, m.Len, m.Digest, m.Sums) }

// validSums checks a run of blocks with one digest a block; the last block may be short.
func validSums(vol uint16, off int64, n uint32, alg uint8, sums []byte) error {
	if err := validRun(vol, off, n, MaxRun); err != nil {
		return err
	}
	a := digest.Alg(alg)
	if !a.Valid() || a == digest.None {
		return fmt.Errorf("digest %d", alg)
	}
	blocks := (int(n) + block.Size - 1) / block.Size
	if off%block.Size != 0 || len(sums) != blocks*a.Size() {
		return fmt.Errorf("%d bytes of %v for %d blocks at %d", len(sums), a, blocks, off)
	}
	return nil
}

func (m *ResyncEnd) append(b []byte) []byte { return putSeq(b, m.At) }
func (m *ResyncEnd) decode(r *reader)       { m.At = r.seq() }
func (m *ResyncEnd) validate() error        { return nil }

func (m *Verify) append(b []byte) []byte {
	b = putU64(putU16(putU64(b, m.ID), m.Volume), uint64(m.Off))
	b = append(putSeq(putU32(b, m.Len), m.At), m.Digest)
	return putBytes(b, m.Sums)
}

func (m *Verify) decode(r *reader) {
	m.ID, m.Volume, m.Off = r.u64(), r.u16(), int64(r.u64())
	m.Len, m.At, m.Digest = r.u32(), r.seq(), r.u8()
	m.Sums = r.bytes(maxRunBody)
}

func (m *Verify) validate() error { return validSums(m.Volume, m.Off, m.Len, m.Digest, m.Sums) }

func (*StreamStart) tail() []byte { return nil }
func (*ResyncEnd) tail() []byte   { return nil }
func (*Verify) tail() []byte      { return nil }
