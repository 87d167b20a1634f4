// Package trace is the file format of a recorded journal: every record of a resource in its write order, with its data, so
// that what shipping makes of it can be measured again and again.
//
//	0           8
//	| DRSHTRC1 | one zstd frame, with its checksum: records, then the end |
//
//	record   0       1        3          11      19       27       35       39
//	        | kind  | volume | time     | epoch | number | offset | length | data: length bytes of a write |
//
// Integers are big-endian. Kind: 1 write, 2 zero, 3 trim; 0 is the end, and nothing follows it: a file without it was cut
// short. Time: Unix nanoseconds.
package trace

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"drship/internal/block"
)

const (
	magic      = "DRSHTRC1"
	headerSize = 1 + 2 + 8 + 8 + 8 + 8 + 4
	kindEnd    = 0
	window     = 8 << 20 // bytes; of the zstd frame
)

// ErrFormat is returned for a file that is not a trace, or not a whole one.
var ErrFormat = errors.New("not a whole trace")

// Writer writes a trace.
type Writer struct {
	zstd *zstd.Encoder
	head [headerSize]byte
}

// NewWriter begins a trace on w; best takes much longer, for a file that is to be kept.
func NewWriter(w io.Writer, best bool) (*Writer, error) {
	if _, err := io.WriteString(w, magic); err != nil {
		return nil, fmt.Errorf("begin trace: %w", err)
	}
	level := zstd.SpeedFastest
	if best {
		level = zstd.SpeedBestCompression
	}
	enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level), zstd.WithWindowSize(window), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("begin trace: %w", err)
	}
	return &Writer{zstd: enc}, nil
}

// Write appends a record.
func (w *Writer) Write(r *block.Record) error {
	be := binary.BigEndian
	h := w.head[:]
	h[0] = byte(r.Kind)
	be.PutUint16(h[1:], r.Volume)
	be.PutUint64(h[3:], uint64(r.Time))
	be.PutUint64(h[11:], r.Seq.Epoch)
	be.PutUint64(h[19:], r.Seq.Num)
	be.PutUint64(h[27:], uint64(r.Off))
	be.PutUint32(h[35:], r.Len)
	if _, err := w.zstd.Write(h); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	if _, err := w.zstd.Write(r.Data); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}

// Close ends the trace; without it the file does not count as whole. It does not close what lies below.
func (w *Writer) Close() error {
	_, err := w.zstd.Write([]byte{kindEnd})
	if err = errors.Join(err, w.zstd.Close()); err != nil {
		return fmt.Errorf("end trace: %w", err)
	}
	return nil
}

// Reader reads a trace, believing nothing of it.
type Reader struct {
	zstd *zstd.Decoder
	in   *bufio.Reader
	head [headerSize]byte
	last block.Seq
	done bool
}

// NewReader begins to read a trace.
func NewReader(r io.Reader) (*Reader, error) {
	var m [len(magic)]byte
	if _, err := io.ReadFull(r, m[:]); err != nil || string(m[:]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &Reader{zstd: d, in: bufio.NewReaderSize(d, 1<<16)}, nil
}

// Close gives the reader's memory back.
func (r *Reader) Close() { r.zstd.Close() }

// Read returns the next record, its data appended to arena, and the arena; io.EOF behind the last one.
func (r *Reader) Read(arena []byte) (block.Record, []byte, error) {
	if r.done {
		return block.Record{}, arena, io.EOF
	}
	kind, err := r.in.ReadByte()
	if err == nil && kind == kindEnd {
		if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
			return block.Record{}, arena, fmt.Errorf("%w: something follows its end: %w", ErrFormat, err)
		}
		r.done = true
		return block.Record{}, arena, io.EOF
	}
	if err == nil {
		_, err = io.ReadFull(r.in, r.head[1:])
	}
	if err != nil {
		return block.Record{}, arena, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	rec, err := r.header(block.Kind(kind))
	if err != nil || rec.Kind != block.Write {
		return rec, arena, err
	}
	at := len(arena)
	arena = append(arena, make([]byte, rec.Len)...)
	rec.Data = arena[at:len(arena):len(arena)]
	if _, err := io.ReadFull(r.in, rec.Data); err != nil {
		return block.Record{}, arena[:at], fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return rec, arena, nil
}

// header checks and returns the record whose header was read, without its data.
func (r *Reader) header(kind block.Kind) (block.Record, error) {
	be, h := binary.BigEndian, r.head[:]
	rec := block.Record{Kind: kind, Volume: be.Uint16(h[1:]), Time: int64(be.Uint64(h[3:])),
		Seq: block.Seq{Epoch: be.Uint64(h[11:]), Num: be.Uint64(h[19:])}, Off: int64(be.Uint64(h[27:])), Len: be.Uint32(h[35:])}
	switch {
	case kind > block.Trim, int(rec.Volume) >= block.MaxVolumes, !r.last.Less(rec.Seq),
		rec.Off < 0, rec.Off > math.MaxInt64-int64(rec.Len), kind == block.Write && rec.Len > block.MaxRecord:
		return block.Record{}, fmt.Errorf("%w: record %v behind %v: %v of %v in volume %d", ErrFormat, rec.Seq, r.last, kind, rec.Range(), rec.Volume)
	}
	r.last = rec.Seq
	return rec, nil
}
