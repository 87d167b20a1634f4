// Package block holds the nouns that every floor shares: sequence numbers, records and byte ranges.
package block

import (
	"cmp"
	"fmt"
)

const (
	// Size is the granularity of the dirty bitmap and of folding, in bytes.
	Size = 4096
	// ExtentSize is the granularity of the activity log, in bytes.
	ExtentSize = 4 << 20
	// MaxRecord bounds the data of one record, in bytes; a longer write becomes several consecutive records.
	MaxRecord = 1 << 20
	// MaxVolumes bounds the volumes of one resource, as in DRBD.
	MaxVolumes = 256
)

// Kind says what a record does to its range.
type Kind uint8

// The kinds of record. Their values are stored and sent: never renumber them.
const (
	Write Kind = 1 // Data replaces the range
	Zero  Kind = 2 // the range reads as zeroes afterwards, space may stay allocated
	Trim  Kind = 3 // the range is given back; it reads as zeroes afterwards on every side
)

func (k Kind) String() string {
	switch k {
	case Write:
		return "write"
	case Zero:
		return "zero"
	case Trim:
		return "trim"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Seq is a position in a resource's write order: the journal epoch (new at each start of a primary) and the
// number in it. The order is lexicographic. A pair is never reused: a new epoch goes on counting from the last
// durable number of the one before, and carries 32 random bits in its low half, so that numbers lost in a crash
// come back under another epoch only.
type Seq struct {
	Epoch uint64
	Num   uint64
}

// Compare returns -1, 0 or +1 as s stands before, at or behind t.
func (s Seq) Compare(t Seq) int {
	if c := cmp.Compare(s.Epoch, t.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(s.Num, t.Num)
}

// Less reports whether s stands before t.
func (s Seq) Less(t Seq) bool { return s.Compare(t) < 0 }

// IsZero reports whether s is the position before any write.
func (s Seq) IsZero() bool { return s == Seq{} }

func (s Seq) String() string { return fmt.Sprintf("%x:%d", s.Epoch, s.Num) }

// Record is one write, write-zeroes or trim in the write order of a resource.
type Record struct {
	Seq    Seq
	Time   int64 // when the sender accepted it, Unix nanoseconds
	Volume uint16
	Kind   Kind
	Off    int64  // bytes from the start of the volume
	Len    uint32 // bytes; for a Write it equals len(Data) and is at most MaxRecord
	Data   []byte // Write only
}

// Range returns the bytes that the record touches.
func (r *Record) Range() Range { return Range{Off: r.Off, Len: int64(r.Len)} }

// Range is a run of bytes of one volume.
type Range struct {
	Off, Len int64
}

// End is the offset of the first byte behind the range.
func (r Range) End() int64 { return r.Off + r.Len }

// Overlaps reports whether r and q share a byte.
func (r Range) Overlaps(q Range) bool { return r.Off < q.End() && q.Off < r.End() }

// Blocks returns the first block that the range touches and the one behind the last, in units of Size.
func (r Range) Blocks() (first, end uint64) { return r.units(Size) }

// Extents returns the first activity-log extent that the range touches and the one behind the last.
func (r Range) Extents() (first, end uint64) { return r.units(ExtentSize) }

func (r Range) units(unit int64) (first, end uint64) {
	if r.Len <= 0 {
		return uint64(r.Off / unit), uint64(r.Off / unit)
	}
	return uint64(r.Off / unit), uint64((r.End()-1)/unit) + 1
}

func (r Range) String() string { return fmt.Sprintf("[%d,+%d)", r.Off, r.Len) }
