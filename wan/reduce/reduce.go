// Package reduce packs consecutive records into a batch and blocks of a resync into a chunk, as small as they go:
// what a later record of the batch overwrites is left out (folding), blocks of zeroes travel as a range, and the
// rest is digested and compressed. It unpacks them again, believing nothing.
//
// # Payload of a batch
//
// Unpacked, a payload is RawLen bytes; S is the size of the batch's digest:
//
//	0         1       2                6               6+S                  6+S+table length
//	| version | flags | table length   | table digest  | table: one entry   | data of the writes,
//	| = 1     | = 0   | 32 bits        | S bytes       | for each record    | in the order of the table
//
// The table digest covers Prev, Last (epoch and number, 64 bits each), Records (32 bits) and the table, so that with
// the digests in the table everything that says what goes where is covered. Flags are for deltas and references.
//
//	entry:  | tag      | volume  | offset         | length | digest of the data |
//	        | 1 byte   | 1 byte  | varint, signed | varint | S bytes, writes    |
//
//	tag:    bits 0–1 the kind of record; bit 2 a volume follows (else it is the one of the entry before, at first 0);
//	        bits 3–7 are zero
//	offset: relative to the end of the entry before; to 0 where the volume is given
//
// Records come out in the order of the table. A folded batch has no two records that overlap; one that is not
// folded keeps the write order. Either way they may be applied one after another.
package reduce

import (
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

var (
	// ErrDigest is returned for a batch or a chunk whose contents are not what the sender packed: a digest differs or
	// it does not unpack. Nothing of it may be used; it can be asked for again.
	ErrDigest = errors.New("data does not match its digest")
	// ErrMalformed is returned for a payload that no sender of this version makes.
	ErrMalformed = errors.New("malformed payload")
	// ErrTooLarge is returned for more records or data than one batch or chunk may hold.
	ErrTooLarge = errors.New("too much for one batch")
)

// What one batch may be made of. Together with the table they stay within frame.MaxRaw whatever the records are.
const (
	MaxRecords = 8192    // records, before folding
	MaxData    = 8 << 20 // bytes of data, before folding
)

const (
	payloadVersion = 1
	prefixSize     = 1 + 1 + 4
	digestedHead   = 4*8 + 4 // Prev, Last, Records: digested with the table, not repeated in it

	tagKind   = 0x03
	tagVolume = 0x04
	tagKnown  = tagKind | tagVolume
	minEntry  = 3 // tag, offset, length

	maxZeroEntry = 1 << 30 // a longer range of zeroes becomes several entries
)

// Options say how an Encoder packs.
type Options struct {
	Codec  frame.Codec
	Level  int        // as zstd counts; 0 is 1, the fastest. S2 knows two: 1, and everything above it
	Digest digest.Alg // of each record; None sends none
	Fold   bool       // leave out what a later record of the batch overwrites
	Delta  bool       // send blocks as differences to recent ones, once the receiver has offered to keep those
	Dedupe bool       // send blocks that the receiver has on its disks as references, likewise
	Cache  int64      // bytes for recent blocks and for finding them, at most
}

func (o Options) validate() error {
	switch {
	case o.Codec > frame.CodecS2:
		return fmt.Errorf("unknown codec %v", o.Codec)
	case o.Level < 0 || o.Level > 22:
		return fmt.Errorf("compression level %d is not in 0…22", o.Level)
	case !o.Digest.Valid():
		return fmt.Errorf("unknown %v", o.Digest)
	}
	return nil
}

// Stats count what an Encoder has done since it was made.
type Stats struct {
	Records      uint64 // records put in
	Folded       uint64 // records that a later one had overwritten entirely
	BytesIn      uint64 // data of the records
	BytesFolded  uint64 // of these, left out by folding
	BytesZero    uint64 // of the rest, elided as blocks of zeroes
	BytesPacked  uint64 // payload before compression: table and data, or table, operations and literal bytes
	BytesOut     uint64 // payload as sent
	Incompressed uint64 // payloads sent raw because compression did not pay

	BytesDelta    uint64 // data taken from the cache
	BytesReferred uint64 // data taken from the receiver's disks
}

func validRecord(r *block.Record) error {
	switch {
	case r.Kind < block.Write || r.Kind > block.Trim:
		return fmt.Errorf("record %v: %v", r.Seq, r.Kind)
	case r.Off < 0 || r.Off+int64(r.Len) < 0 || int(r.Volume) >= block.MaxVolumes:
		return fmt.Errorf("record %v: %v of volume %d", r.Seq, r.Range(), r.Volume)
	case r.Kind == block.Write && (len(r.Data) != int(r.Len) || r.Len > block.MaxRecord):
		return fmt.Errorf("record %v: a write of %d bytes with %d bytes of data", r.Seq, r.Len, len(r.Data))
	}
	return nil
}
