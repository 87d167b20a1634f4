package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"drship/internal/block"
	"drship/internal/digest"
)

// ErrFrame is returned, wrapped with what is wrong, for bytes that are not a frame of this version.
var ErrFrame = errors.New("bad frame")

// HeaderSize is the length of a frame's header in bytes:
//
//	0        1        2         3          4              8                    12
//	| type   | flags  | version | reserved | body length  | CRC-32C of 0…7      |
//
// All integers on the wire are big-endian. Flags and reserved are zero in this version.
const HeaderSize = 12

// Bounds of what travels, in bytes. They hold before anything is allocated.
const (
	MaxRaw        = 10 << 20 // a batch's payload once unpacked: 8 MiB of data and room for its table
	MaxChunk      = 8 << 20  // data of one chunk
	MaxZeroChunk  = 1 << 30  // a chunk of zeroes carries no data and may be longer
	MaxRun        = 64 << 20 // blocks compared by one Query or Verify
	MaxIO         = 1 << 20  // data of one IO or IOReply
	MaxZeroIO     = 64 << 20 // of an IO without data
	MaxBitmapPage = 16 << 10 // one page of a bitmap in roaring's form
	MaxReplyText  = 4 << 10  // text of a Reply
	MaxChunkIDs   = 32 << 10 // entries in one list of a ChunkAck
	ReducedSlack  = 128      // by how much a reduced payload may be longer than the plain one

	slack          = 1 << 10 // the fields beside the long one
	maxBatchBody   = MaxRaw + slack
	maxChunkBody   = MaxChunk + slack
	maxControlBody = 1 << 20
	maxRunBlocks   = MaxRun / block.Size
	maxRunBody     = maxRunBlocks*digest.MaxSize + slack
	maxIOBody      = MaxIO + slack
)

// Lane says which of a session's two ordered ways a message takes. Control never waits behind data.
type Lane uint8

// The lanes.
const (
	Control Lane = 0
	Data    Lane = 1
)

func (l Lane) String() string {
	if l == Data {
		return "data"
	}
	return "control"
}

// Lane returns the lane that messages of this type take.
func (t Type) Lane() Lane {
	switch t {
	case TypeStreamStart, TypeBatch, TypeChunk, TypeQuery, TypeResyncEnd, TypeVerify, TypeIO, TypeIOReply, TypePeers, TypeSwitch:
		return Data
	}
	return Control
}

// LaneOf returns the lane that m takes.
func LaneOf(m Message) Lane { return m.Type().Lane() }

// MaxBody bounds the body of a message of type t in bytes; it is 0 for a type that this version does not know.
func MaxBody(t Type) uint32 {
	switch t {
	case TypeBatch:
		return maxBatchBody
	case TypeChunk:
		return maxChunkBody
	case TypeQuery, TypeVerify:
		return maxRunBody
	case TypeIO, TypeIOReply:
		return maxIOBody
	}
	if t.known() {
		return maxControlBody
	}
	return 0
}

func (t Type) known() bool { return int(t) < len(typeNames) && typeNames[t] != "" }

// storedVersion is an older version whose frames a store may still hold: batches look the same in both.
const storedVersion = 1

// Header stands before each body.
type Header struct {
	Type   Type
	Length uint32 // bytes of the body, at most MaxBody(Type)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ReadHeader decodes the header at the start of b, which holds at least HeaderSize bytes. The length it returns is
// within MaxBody, so that the caller may allocate it.
func ReadHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes of a header of %d", ErrFrame, len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if sum := crc32.Checksum(b[:8], castagnoli); sum != binary.BigEndian.Uint32(b[8:]) {
		return Header{}, fmt.Errorf("%w: header checksum does not match", ErrFrame)
	}
	h := Header{Type: Type(b[0]), Length: binary.BigEndian.Uint32(b[4:])}
	switch {
	case b[2] != Version && (b[2] != storedVersion || h.Type != TypeBatch):
		return Header{}, fmt.Errorf("%w: wire version %d, this side speaks %d", ErrFrame, b[2], Version)
	case !h.Type.known():
		return Header{}, fmt.Errorf("%w: unknown message type %d", ErrFrame, b[0])
	case b[1] != 0 || b[3] != 0:
		return Header{}, fmt.Errorf("%w: unknown flags %#x, %#x", ErrFrame, b[1], b[3])
	case h.Length > MaxBody(h.Type):
		return Header{}, fmt.Errorf("%w: %v of %d bytes, the limit is %d", ErrFrame, h.Type, h.Length, MaxBody(h.Type))
	}
	return h, nil
}

// putHeader fills in the header at the start of b.
func putHeader(b []byte, t Type, length int) {
	b[0], b[1], b[2], b[3] = byte(t), 0, Version, 0
	binary.BigEndian.PutUint32(b[4:], uint32(length))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
}

func (c Codec) String() string {
	switch c {
	case CodecRaw:
		return "raw"
	case CodecZstd:
		return "zstd"
	case CodecS2:
		return "s2"
	case CodecReduced:
		return "reduced"
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

var typeNames = [...]string{"", "State", "Bitmap", "BitmapEnd", "StreamStart", "Batch", "Chunk", "Query", "ResyncEnd", "Ack", "ChunkAck",
	"QueryReply", "Resend", "ResyncDone", "Request", "Reply", "Ping", "Pong", "Verify", "VerifyReply", "IO", "IOReply", "Peers",
	TypeSwitch: "Switch", TypeStripes: "Stripes", TypeOffer: "Offer"}

func (t Type) String() string {
	if t.known() {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}
