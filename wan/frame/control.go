package frame

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"drship/internal/block"
)

// The bodies of the control lane, in the order of their types. docs/format.md draws them.

const (
	volumeStateSize = 2 + 1 + 8 + uuidsSize + 8
	uuidsSize       = 4 * 8
	knownFlags      = FlagNoDisk<<1 - 1 | FlagCarried
	maxDiskState    = 8 // state.UpToDate
	maxRole         = 2 // state.Secondary
)

func (u *UUIDs) append(b []byte) []byte {
	return putU64(putU64(putU64(putU64(b, u.Current), u.Bitmap), u.History[0]), u.History[1])
}

func (u *UUIDs) decode(r *reader) {
	u.Current, u.Bitmap, u.History[0], u.History[1] = r.u64(), r.u64(), r.u64(), r.u64()
}

func appendVolumes(b []byte, vs []VolumeState) []byte {
	b = putU32(b, uint32(len(vs)))
	for i := range vs {
		v := &vs[i]
		b = putU64(append(putU16(b, v.Volume), v.Disk), uint64(v.Size))
		b = putU64(v.UUIDs.append(b), v.OOS)
	}
	return b
}

func decodeVolumes(r *reader) []VolumeState {
	n := r.count(block.MaxVolumes, volumeStateSize)
	if n == 0 {
		return nil
	}
	vs := make([]VolumeState, n)
	for i := range vs {
		v := &vs[i]
		v.Volume, v.Disk, v.Size = r.u16(), r.u8(), int64(r.u64())
		v.UUIDs.decode(r)
		v.OOS = r.u64()
	}
	return vs
}

func validateVolumes(vs []VolumeState) error {
	if len(vs) > block.MaxVolumes {
		return fmt.Errorf("%d volumes, the limit is %d", len(vs), block.MaxVolumes)
	}
	var seen [block.MaxVolumes]bool
	for _, v := range vs {
		switch {
		case int(v.Volume) >= block.MaxVolumes:
			return fmt.Errorf("volume %d, the highest is %d", v.Volume, block.MaxVolumes-1)
		case seen[v.Volume]:
			return fmt.Errorf("volume %d twice", v.Volume)
		case v.Disk > maxDiskState:
			return fmt.Errorf("volume %d: disk state %d", v.Volume, v.Disk)
		case v.Size < 0:
			return fmt.Errorf("volume %d: size %d", v.Volume, v.Size)
		}
		seen[v.Volume] = true
	}
	return nil
}

func validVolume(v uint16) error {
	if int(v) >= block.MaxVolumes {
		return fmt.Errorf("volume %d, the highest is %d", v, block.MaxVolumes-1)
	}
	return nil
}

func (m *State) append(b []byte) []byte {
	b = putU32(append(b, m.Role, m.Protocol), m.Flags)
	b = putU64(putSeq(b, m.Position), m.Serial)
	b = putU64(putU64(putU64(b, m.Policies), uint64(m.Written)), uint64(m.DiskRate))
	return appendOlder(appendVolumes(b, m.Volumes), m.Older)
}

func (m *State) decode(r *reader) {
	m.Role, m.Protocol, m.Flags = r.u8(), r.u8(), r.u32()
	m.Position, m.Serial = r.seq(), r.u64()
	m.Policies, m.Written, m.DiskRate = r.u64(), int64(r.u64()), int64(r.u64())
	m.Volumes = decodeVolumes(r)
	if m.Flags&FlagOlder != 0 {
		m.Older = decodeOlder(r, len(m.Volumes))
	}
}

func (m *State) validate() error {
	older := 0
	if m.Flags&FlagOlder != 0 {
		older = len(m.Volumes)
	}
	switch {
	case len(m.Older) != older:
		return fmt.Errorf("older history of %d volumes, not of %d", len(m.Older), older)
	case m.DiskRate < 0:
		return fmt.Errorf("disk rate %d", m.DiskRate)
	case m.Role > maxRole:
		return fmt.Errorf("role %d", m.Role)
	case m.Protocol < 'A' || m.Protocol > 'C':
		return fmt.Errorf("protocol %q", m.Protocol)
	case m.Flags&^knownFlags != 0:
		return fmt.Errorf("unknown flags %#x", m.Flags&^knownFlags)
	}
	return validateVolumes(m.Volumes)
}

func (m *Bitmap) append(b []byte) []byte {
	return putBytes(putU32(putU16(b, m.Volume), m.Page), m.Bits)
}

func (m *Bitmap) decode(r *reader) {
	m.Volume, m.Page, m.Bits = r.u16(), r.u32(), r.bytes(MaxBitmapPage)
}

func (m *Bitmap) validate() error {
	if len(m.Bits) > MaxBitmapPage {
		return fmt.Errorf("a page of %d bytes, the limit is %d", len(m.Bits), MaxBitmapPage)
	}
	return validVolume(m.Volume)
}

func (m *BitmapEnd) append(b []byte) []byte { return putU64(b, m.Blocks) }
func (m *BitmapEnd) decode(r *reader)       { m.Blocks = r.u64() }
func (m *BitmapEnd) validate() error        { return nil }

func (m *Ack) append(b []byte) []byte {
	return putSeq(putSeq(putSeq(b, m.Received), m.Staged), m.Applied)
}

func (m *Ack) decode(r *reader) { m.Received, m.Staged, m.Applied = r.seq(), r.seq(), r.seq() }

func (m *Ack) validate() error {
	if m.Staged.Less(m.Applied) || m.Received.Less(m.Staged) {
		return fmt.Errorf("marks out of order: applied %v, staged %v, received %v", m.Applied, m.Staged, m.Received)
	}
	return nil
}

func appendIDs(b []byte, ids []uint64) []byte {
	b = putU32(b, uint32(len(ids)))
	for _, id := range ids {
		b = putU64(b, id)
	}
	return b
}

func decodeIDs(r *reader) []uint64 {
	n := r.count(MaxChunkIDs, 8)
	if n == 0 {
		return nil
	}
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = r.u64()
	}
	return ids
}

func (m *ChunkAck) append(b []byte) []byte { return appendIDs(appendIDs(b, m.IDs), m.Bad) }
func (m *ChunkAck) decode(r *reader)       { m.IDs, m.Bad = decodeIDs(r), decodeIDs(r) }

func (m *ChunkAck) validate() error {
	if len(m.IDs) > MaxChunkIDs || len(m.Bad) > MaxChunkIDs {
		return fmt.Errorf("%d and %d chunks, the limit is %d", len(m.IDs), len(m.Bad), MaxChunkIDs)
	}
	return nil
}

func appendDiffer(b []byte, id uint64, differ []byte) []byte { return putBytes(putU64(b, id), differ) }

func decodeDiffer(r *reader) (uint64, []byte) { return r.u64(), r.bytes(maxRunBlocks / 8) }

func validateDiffer(differ []byte) error {
	if len(differ) > maxRunBlocks/8 {
		return fmt.Errorf("an answer of %d bytes, the limit is %d", len(differ), maxRunBlocks/8)
	}
	return nil
}

func (m *QueryReply) append(b []byte) []byte { return appendDiffer(b, m.ID, m.Differ) }
func (m *QueryReply) decode(r *reader)       { m.ID, m.Differ = decodeDiffer(r) }
func (m *QueryReply) validate() error        { return validateDiffer(m.Differ) }

func (m *VerifyReply) append(b []byte) []byte { return appendDiffer(b, m.ID, m.Differ) }
func (m *VerifyReply) decode(r *reader)       { m.ID, m.Differ = decodeDiffer(r) }
func (m *VerifyReply) validate() error        { return validateDiffer(m.Differ) }

func (m *Resend) append(b []byte) []byte { return append(putSeq(b, m.From), m.Reason) }
func (m *Resend) decode(r *reader)       { m.From, m.Reason = r.seq(), r.u8() }

func (m *Resend) validate() error {
	if m.Reason < ResendDigest || m.Reason > ResendCache {
		return fmt.Errorf("reason %d", m.Reason)
	}
	return nil
}

func (m *ResyncDone) append(b []byte) []byte { return putSeq(b, m.At) }
func (m *ResyncDone) decode(r *reader)       { m.At = r.seq() }
func (m *ResyncDone) validate() error        { return nil }

func (m *Request) append(b []byte) []byte { return putU64(append(putU64(b, m.ID), m.Verb), m.Arg) }
func (m *Request) decode(r *reader)       { m.ID, m.Verb, m.Arg = r.u64(), r.u8(), r.u64() }

func (m *Request) validate() error {
	if m.Verb < RequestSyncFromMe || m.Verb > RequestHome {
		return fmt.Errorf("verb %d", m.Verb)
	}
	return nil
}

func (m *Reply) append(b []byte) []byte {
	return putBytes(putU32(putU64(b, m.ID), uint32(m.Code)), []byte(m.Text))
}

func (m *Reply) decode(r *reader) {
	m.ID, m.Code = r.u64(), int32(r.u32())
	m.Text = string(r.bytes(MaxReplyText))
}

func (m *Reply) validate() error {
	if len(m.Text) > MaxReplyText {
		return fmt.Errorf("a text of %d bytes, the limit is %d", len(m.Text), MaxReplyText)
	}
	if !utf8.ValidString(m.Text) {
		return errors.New("a text that is not UTF-8")
	}
	return nil
}

func (m *Ping) append(b []byte) []byte { return putU64(b, uint64(m.Sent)) }
func (m *Ping) decode(r *reader)       { m.Sent = int64(r.u64()) }
func (m *Ping) validate() error        { return nil }

func (m *Pong) append(b []byte) []byte { return putU64(b, uint64(m.Sent)) }
func (m *Pong) decode(r *reader)       { m.Sent = int64(r.u64()) }
func (m *Pong) validate() error        { return nil }

func (m *Switch) append(b []byte) []byte { return putU64(b, uint64(m.Place)) }
func (m *Switch) decode(r *reader)       { m.Place = int64(r.u64()) }

func (m *Switch) validate() error {
	if m.Place < 0 {
		return fmt.Errorf("a switch at %d", m.Place)
	}
	return nil
}

func (m *Stripes) append(b []byte) []byte { return putU16(b, m.Want) }
func (m *Stripes) decode(r *reader)       { m.Want = r.u16() }

func (m *Stripes) validate() error {
	if m.Want > MaxStripes {
		return fmt.Errorf("%d stripes, the limit is %d", m.Want, MaxStripes)
	}
	return nil
}

func (*State) tail() []byte       { return nil }
func (*Bitmap) tail() []byte      { return nil }
func (*BitmapEnd) tail() []byte   { return nil }
func (*Ack) tail() []byte         { return nil }
func (*ChunkAck) tail() []byte    { return nil }
func (*QueryReply) tail() []byte  { return nil }
func (*VerifyReply) tail() []byte { return nil }
func (*Resend) tail() []byte      { return nil }
func (*ResyncDone) tail() []byte  { return nil }
func (*Request) tail() []byte     { return nil }
func (*Reply) tail() []byte       { return nil }
func (*Ping) tail() []byte        { return nil }
func (*Pong) tail() []byte        { return nil }
func (*Switch) tail() []byte      { return nil }
func (*Stripes) tail() []byte     { return nil }

func (m *Offer) append(b []byte) []byte { return putU64(b, m.Cache) }
func (m *Offer) decode(r *reader)       { m.Cache = r.u64() }
func (m *Offer) validate() error        { return nil }
func (*Offer) tail() []byte             { return nil }
