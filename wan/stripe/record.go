// Package stripe spreads the data lane of a session over several connections and puts it together again. It does no I/O,
// reads no clock and starts no goroutine; the session around it does.
//
// The lane is a row of messages, each with a place: the number of bytes of all messages before it. A message travels in
// fragments, each over any stripe, more than once if need be. The receiver puts them into their places and hands over
// whole messages in their order. It tells on each stripe how much it took from that stripe, up to where everything is
// there, and up to where it has room: nothing behind that is sent.
//
//	fragment        0          8          12         16          20
//	                | place 64 | total 32 | start 32 | length 32 | length bytes
//	acknowledgement 0          8          16         24
//	                | taken 64 | done 64  | limit 64 |
//
// All integers are big-endian. Place is the message's, total its length, start the fragment's in it: a multiple of Cell.
// Length is a multiple of Cell, or ends with the message. Taken counts the bytes of all fragments that came over this stripe,
// headers included.
package stripe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes, in bytes.
const (
	Cell        = 16 << 10 // the grid that fragments lie on
	MaxFragment = 16 * Cell
	HeaderSize  = 20
	AckSize     = 24
	MaxWindow   = 1 << 30 // what either side may offer
	maxPlace    = 1 << 62
	maxScan     = 64 // fragments looked at for one that is late
)

// ErrRecord is returned, wrapped, for records that are not of this format or break its rules.
var ErrRecord = errors.New("bad record of a stripe")

// Header stands before the bytes of a fragment.
type Header struct {
	Place  int64  // of the message, in bytes
	Total  uint32 // bytes of the message
	Start  uint32 // of the fragment in the message
	Length uint32 // bytes of the fragment
}

// Append appends h to b.
func (h *Header) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(h.Place))
	b = binary.BigEndian.AppendUint32(b, h.Total)
	b = binary.BigEndian.AppendUint32(b, h.Start)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

// ReadHeader decodes the header at the start of b, which holds at least HeaderSize bytes, of a message of at most limit bytes.
func ReadHeader(b []byte, limit uint32) (Header, error) {
	h := Header{Place: int64(binary.BigEndian.Uint64(b)), Total: binary.BigEndian.Uint32(b[8:]),
		Start: binary.BigEndian.Uint32(b[12:]), Length: binary.BigEndian.Uint32(b[16:])}
	end := uint64(h.Start) + uint64(h.Length)
	switch {
	case h.Place < 0 || h.Place > maxPlace:
		return h, fmt.Errorf("%w: a fragment at %d", ErrRecord, h.Place)
	case h.Total == 0 || h.Total > limit:
		return h, fmt.Errorf("%w: a message of %d bytes, the limit is %d", ErrRecord, h.Total, limit)
	case h.Length == 0 || h.Length > MaxFragment || end > uint64(h.Total):
		return h, fmt.Errorf("%w: %d bytes at %d of a message of %d", ErrRecord, h.Length, h.Start, h.Total)
	case h.Start%Cell != 0 || h.Length%Cell != 0 && end != uint64(h.Total):
		return h, fmt.Errorf("%w: %d bytes at %d, off the grid", ErrRecord, h.Length, h.Start)
	}
	return h, nil
}

// Ack is what the receiver says on a stripe.
type Ack struct {
	Taken uint64 // bytes that came over this stripe, headers included
	Done  int64  // everything before this place has come, over whichever stripe
	Limit int64  // nothing behind this place may be sent
}

// Append appends a to b.
func (a *Ack) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, a.Taken)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Done))
	return binary.BigEndian.AppendUint64(b, uint64(a.Limit))
}

// ReadAck decodes the acknowledgement in b, which holds at least AckSize bytes.
func ReadAck(b []byte) (Ack, error) {
	a := Ack{Taken: binary.BigEndian.Uint64(b), Done: int64(binary.BigEndian.Uint64(b[8:])), Limit: int64(binary.BigEndian.Uint64(b[16:]))}
	if a.Done < 0 || a.Limit < a.Done || a.Limit > maxPlace+MaxWindow {
		return a, fmt.Errorf("%w: done to %d, room to %d", ErrRecord, a.Done, a.Limit)
	}
	return a, nil
}
