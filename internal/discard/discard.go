// Package discard is the form in which a node keeps what it had written and gave up: the blocks of a split brain's victim, or of a Primary
// that came back after a failover, as they were before the other side's data replaced them. One file holds one such event.
package discard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"drship/internal/block"
)

// ErrFormat is returned, wrapped with what is wrong, for bytes that are not such a file, or end before their end.
var ErrFormat = errors.New("not a file of discarded blocks, or a damaged one")

const (
	// Suffix ends the names of the files.
	Suffix = ".discarded"

	magic     = "DRSHDISC"
	version   = 1
	maxHeader = 64 << 10 // bytes
	memory    = 32 << 20 // bytes that reading may take

	entryBlock byte = 1
	entryEnd   byte = 2
)

// Folder is where a node keeps the files of a resource.
func Folder(stateDir, resource string) string {
	return filepath.Join(stateDir, resource+".history")
}

// Header says what a file is about.
type Header struct {
	Resource string    `json:"resource"`
	Node     string    `json:"node"` // whose data it was
	Peer     string    `json:"peer"` // whose data replaced it
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Volumes  []Volume  `json:"volumes"`
}

// Volume is one volume of the resource.
type Volume struct {
	Number uint16 `json:"number"`
	Size   int64  `json:"size"` // bytes
}

// Image is what a block held.
type Image struct {
	Volume uint16
	Block  uint64 // in units of block.Size
	Data   []byte // at most block.Size bytes; none for zeroes. Valid until the next one is read
}

// Writer writes a file. Without Close it has no end, and is refused by a Reader.
type Writer struct {
	z      *zstd.Encoder
	blocks uint64
}

// NewWriter begins a file.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	head := binary.BigEndian.AppendUint16([]byte(magic), version)
	head = append(binary.BigEndian.AppendUint32(head, uint32(len(text))), text...)
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(head, crc32.MakeTable(crc32.Castagnoli)))
	if _, err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("make encoder: %w", err)
	}
	return &Writer{z: z}, nil
}

// Add writes one block; each only once.
func (w *Writer) Add(m Image) error {
	if len(m.Data) > block.Size {
		return fmt.Errorf("a block of %d bytes", len(m.Data))
	}
	e := binary.BigEndian.AppendUint16([]byte{entryBlock}, m.Volume)
	e = binary.BigEndian.AppendUint64(e, m.Block)
	e = binary.BigEndian.AppendUint16(e, uint16(len(m.Data)))
	if _, err := w.z.Write(append(e, m.Data...)); err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	w.blocks++
	return nil
}

// Close ends the file. What is below stays the caller's to sync and close.
func (w *Writer) Close() error {
	_, err := w.z.Write(binary.BigEndian.AppendUint64([]byte{entryEnd}, w.blocks))
	if err := errors.Join(err, w.z.Close()); err != nil {
		return fmt.Errorf("end the file: %w", err)
	}
	return nil
}

// Reader reads a file.
type Reader struct {
	Header Header

	z      *zstd.Decoder
	blocks uint64
	buf    [block.Size]byte
}

// NewReader reads the header. Close gives back what the Reader holds.
func NewReader(r io.Reader) (*Reader, error) {
	head := make([]byte, len(magic)+2+4)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: no header", ErrFormat)
	}
	if v := binary.BigEndian.Uint16(head[len(magic):]); v != version {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrFormat, v, version)
	}
	n := binary.BigEndian.Uint32(head[len(magic)+2:])
	if n > maxHeader {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrFormat, n)
	}
	rest := make([]byte, n+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, fmt.Errorf("%w: cut in the header", ErrFormat)
	}
	sum := crc32.Checksum(append(head, rest[:n]...), crc32.MakeTable(crc32.Castagnoli))
	if sum != binary.BigEndian.Uint32(rest[n:]) {
		return nil, fmt.Errorf("%w: checksum of the header", ErrFormat)
	}
	out := &Reader{}
	if err := json.Unmarshal(rest[:n], &out.Header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	var err error
	if out.z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(memory)); err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	return out, nil
}

// Next returns the next block, io.EOF behind the last.
func (r *Reader) Next() (Image, error) {
	var tag [1]byte
	if err := r.full(tag[:]); err != nil {
		return Image{}, err
	}
	switch tag[0] {
	case entryEnd:
		var n [8]byte
		if err := r.full(n[:]); err != nil {
			return Image{}, err
		}
		if binary.BigEndian.Uint64(n[:]) != r.blocks {
			return Image{}, fmt.Errorf("%w: blocks are missing", ErrFormat)
		}
		if _, err := r.z.Read(n[:1]); err != io.EOF {
			return Image{}, fmt.Errorf("%w: something behind the end", ErrFormat)
		}
		return Image{}, io.EOF
	case entryBlock:
	default:
		return Image{}, fmt.Errorf("%w: entry of kind %d", ErrFormat, tag[0])
	}
	var e [12]byte
	if err := r.full(e[:]); err != nil {
		return Image{}, err
	}
	m := Image{Volume: binary.BigEndian.Uint16(e[:]), Block: binary.BigEndian.Uint64(e[2:])}
	n := int(binary.BigEndian.Uint16(e[10:]))
	if n > block.Size || m.Block > 1<<50 {
		return Image{}, fmt.Errorf("%w: block %d of %d bytes", ErrFormat, m.Block, n)
	}
	m.Data = r.buf[:n]
	r.blocks++
	return m, r.full(m.Data)
}

func (r *Reader) full(p []byte) error {
	if _, err := io.ReadFull(r.z, p); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}

// Close gives back the decoder.
func (r *Reader) Close() { r.z.Close() }
