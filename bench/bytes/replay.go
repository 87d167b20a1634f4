package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/ship"
	"drship/internal/trace"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// tail copies what was written since a moment from one trace to another.
func tail(from, to string, since time.Time, best bool) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := trace.NewReader(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.Create(to + ".part")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err == nil {
			err = os.Rename(to+".part", to)
		}
	}()
	w, err := trace.NewWriter(out, best)
	if err != nil {
		return err
	}
	var arena []byte
	for {
		rec, a, err := r.Read(arena[:0])
		if arena = a; errors.Is(err, io.EOF) && !errors.Is(err, trace.ErrFormat) {
			return w.Close()
		}
		if err != nil {
			return err
		}
		if rec.Time < since.UnixNano() {
			continue
		}
		if err := w.Write(&rec); err != nil {
			return err
		}
	}
}

// way is how batches are cut and encoded.
type way struct {
	name    string
	backlog bool // the line is behind: large batches
	options reduce.Options
	gear    reduce.Gear
}

// taken is what a trace takes on the wire.
type taken struct {
	written, folded, reduced, wire int64
	batches                        int
	cpu                            time.Duration
}

const (
	gatherTime  = 5 * time.Millisecond   // as protocol A gathers
	appliedLate = 100 * time.Millisecond // after which the receiver has applied a record, and the sender knows
	backlogSize = 64 << 20
	cacheBytes  = 64 << 20
)

// replay sends a trace through an encoder and a decoder.
type replay struct {
	way   way
	enc   *reduce.Encoder
	dec   *reduce.Decoder
	disks sparse
	taken taken

	prev    block.Seq
	recs    []block.Record
	arena   []byte
	bytes   int
	arrived []arrival
	out     []byte
}

type arrival struct {
	time int64
	num  uint64
}

func newReplay(w way, scratch string) (*replay, error) {
	r := &replay{way: w, disks: sparse{dir: scratch, files: map[uint16]*os.File{}}}
	w.options.Digest, w.options.Cache = digest.CRC32C, cacheBytes
	var err error
	if r.enc, err = reduce.NewEncoder(w.options); err != nil {
		return nil, err
	}
	if r.dec, err = reduce.NewDecoder(); err != nil {
		return nil, err
	}
	r.dec.Accept(cacheBytes, &r.disks)
	r.enc.Offered(cacheBytes)
	return r, r.enc.SetGear(w.gear)
}

func (r *replay) close() error {
	r.dec.Close()
	return r.disks.close()
}

// add takes the next record and sends a batch when one is full.
func (r *replay) add(rec block.Record) error {
	limits := ship.PlanBatch(0)
	if r.way.backlog {
		limits = ship.PlanBatch(backlogSize)
	}
	if n := len(r.recs); n > 0 {
		late := !r.way.backlog && rec.Time-r.recs[0].Time > int64(gatherTime)
		if late || n >= limits.Records || r.bytes+len(rec.Data) > limits.Bytes {
			if err := r.send(); err != nil {
				return err
			}
		}
	}
	at := len(r.arena)
	r.arena = append(r.arena, rec.Data...)
	if rec.Kind == block.Write {
		rec.Data = r.arena[at:len(r.arena):len(r.arena)]
	}
	r.recs = append(r.recs, rec)
	r.bytes += len(rec.Data)
	return nil
}

// send is one batch from one end to the other.
func (r *replay) send() error {
	if len(r.recs) == 0 {
		return nil
	}
	now := r.recs[len(r.recs)-1].Time
	for len(r.arrived) > 0 && (r.arrived[0].time < now-int64(appliedLate) || r.way.backlog && len(r.arrived) > 8) {
		r.enc.Applied(r.arrived[0].num)
		r.arrived = r.arrived[1:]
	}
	start := time.Now()
	b, err := r.enc.Batch(r.prev, r.recs, r.out[:0])
	r.taken.cpu += time.Since(start)
	if err != nil {
		return err
	}
	r.out = b.Payload
	r.taken.wire += int64(len(frame.Append(nil, b)))
	r.taken.batches++
	var recs []block.Record
	if b.Codec == frame.CodecReduced {
		_, recs, err = r.dec.Plain(b, nil)
	} else {
		recs, err = r.dec.Batch(b, nil)
	}
	if err != nil {
		return err
	}
	r.prev = b.Last
	r.arrived = append(r.arrived, arrival{now, b.Last.Num})
	r.recs, r.arena, r.bytes = r.recs[:0], r.arena[:0], 0
	return r.disks.apply(recs)
}

func (r *replay) end() (taken, error) {
	err := r.send()
	st := r.enc.Stats()
	r.taken.written = int64(st.BytesIn)
	r.taken.folded = int64(st.BytesIn - st.BytesFolded - st.BytesZero)
	r.taken.reduced = int64(st.BytesPacked)
	return r.taken, err
}

// sparse is the receiver's disks.
type sparse struct {
	dir   string
	files map[uint16]*os.File
}

func (s *sparse) file(volume uint16) (*os.File, error) {
	if f := s.files[volume]; f != nil {
		return f, nil
	}
	f, err := os.CreateTemp(s.dir, "disk")
	if err != nil {
		return nil, err
	}
	s.files[volume] = f
	return f, os.Remove(f.Name())
}

func (s *sparse) close() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func (s *sparse) apply(recs []block.Record) error {
	for i := range recs {
		r := &recs[i]
		f, err := s.file(r.Volume)
		if err != nil {
			return err
		}
		data := r.Data
		if r.Kind != block.Write {
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Off, int64(r.Len)); err != nil {
				return fmt.Errorf("punch a hole: %w", err)
			}
			continue
		}
		if _, err := f.WriteAt(data, r.Off); err != nil {
			return err
		}
	}
	return nil
}

// ReadBlocks implements reduce.Blocks.
func (s *sparse) ReadBlocks(volume uint16, blk uint64, p []byte) error {
	f, err := s.file(volume)
	if err == nil {
		_, err = f.ReadAt(p, int64(blk)*block.Size)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// proxy is what a compressing proxy sends: zstd -3 over pieces of 1 MiB of the raw stream.
type proxy struct {
	enc   *zstd.Encoder
	piece []byte
	out   []byte
	raw   int64
	wire  int64
}

func newProxy() (*proxy, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(3)), zstd.WithEncoderConcurrency(1))
	return &proxy{enc: enc}, err
}

func (p *proxy) add(data []byte) {
	p.raw += int64(len(data))
	for len(data) > 0 {
		n := min(len(data), 1<<20-len(p.piece))
		p.piece, data = append(p.piece, data[:n]...), data[n:]
		if len(p.piece) == 1<<20 {
			p.end()
		}
	}
}

func (p *proxy) end() {
	p.out = p.enc.EncodeAll(p.piece, p.out[:0])
	p.wire += int64(len(p.out))
	p.piece = p.piece[:0]
}
