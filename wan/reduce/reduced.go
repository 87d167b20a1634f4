package reduce

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/blake3"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
)

// A reduced payload says how to make the plain one from what the receiver has. Numbers without a size are varints.
//
//	0         1       2
//	| version | flags | generation | index | slots | digest   | length  | body …
//	| = 1     |       |            |       | index | 16 bytes | of the  | packed where flags say so
//	                                       | 0 only           | body    |
//
//	body:  | length of the table | length of the operations | table | operations | literal bytes |
//
// The table is that of the plain payload without digests. The digest is the first half of BLAKE3 over the digested head (see
// the package's text) and the whole plain payload: it covers every byte that comes out, whatever it was made of.
//
// Generation and index say which batches the caches have seen: index counts the reduced batches of a generation, and index 0
// begins one, with empty caches of so many slots. A batch whose place is not the next one is not unpacked.
//
// Where flagPacked is set the body is a piece of a zstd frame that goes on from batch to batch, so that each may refer to the ones
// before; with flagBegins a new frame begins.
const (
	reducedVersion = 2
	flagPacked     = 1 << 0
	flagBegins     = 1 << 1
	flagDense      = 1 << 2

	reducedDigest = 16
	minReduced    = 2 + 2 + reducedDigest + 1
)

// ErrCache is returned for a batch that builds on what this side does not have: its place is not the next one, or what it refers
// to is not here. It can be asked for again.
var ErrCache = errors.New("batch builds on what is not here")

// SlotsFor is how many blocks a cache of that many bytes holds, 0 where it is too small to be of use. The rest goes to
// finding them, and to what is known of the receiver's disks.
func SlotsFor(bytes int64) int {
	slots := min(bytes/8*3/block.Size, maxSlots)
	if slots < minSlots {
		return 0
	}
	return int(slots)
}

// reducing is the state of an Encoder that reduces.
type reducing struct {
	*reducer
	slots      int
	generation uint64
	index      uint64
	begins     bool // the next batch begins a generation
	hash       *blake3.Hasher
	body       []byte
	made       int // bytes before packing
	stream     streamPacker
	rivals     rivals
}

// fill appends the reduced form of a plain payload to dst. table is e.table: digested head, then entries.
func (r *reducing) fill(dst []byte, e *Encoder, b *frame.Batch, plain []byte) []byte {
	if r.begins {
		r.reset()
		r.stream.end()
		r.state.ready = false
		r.begins, r.index = false, 0
		r.generation++
	}
	r.dense = nil
	var flags byte
	if e.gear.Dense && r.state.promising(plain) && r.rivals.now() == 0 {
		r.dense, flags = &r.state, flagDense
		if r.dense.begin(r.slots) {
			flags |= flagBegins
		}
	}
	literal := r.stats.literal
	r.reduce(e, b, plain)
	r.makeBody(e)
	r.made = len(r.body)

	flagsAt := len(dst) + 1
	dst = append(dst, reducedVersion, 0)
	dst = binary.AppendUvarint(dst, r.generation)
	dst = binary.AppendUvarint(dst, r.index)
	if r.index == 0 {
		dst = binary.AppendUvarint(dst, uint64(r.slots))
	}
	r.index++
	dst = reducedSum(dst, r.hash, e.table[:digestedHead], plain)
	dst = binary.AppendUvarint(dst, uint64(len(r.body)))
	if r.dense != nil {
		at := len(dst)
		dst = r.dense.end(dst, r.body)
		r.made += int(r.stats.literal - literal)
		r.dense.skipped, r.dense.hopeless = 0, !pays(len(dst)-at, len(r.body)+r.dense.data.added)
	} else {
		dst, flags = r.stream.pack(dst, r.body)
	}
	dst[flagsAt] = flags
	if e.gear.Dense && !r.state.hopeless {
		r.rivals.took(len(plain), len(dst)-flagsAt)
	}
	return dst
}

// reducedSum appends the digest of a plain payload and of what stands beside it.
func reducedSum(dst []byte, h *blake3.Hasher, head, plain []byte) []byte {
	h.Reset()
	h.Write(head) // a hash never fails to be written
	h.Write(plain)
	at := len(dst)
	return h.Sum(dst)[:at+reducedDigest]
}

// reduce makes operations of the data of a batch.
func (r *reducing) reduce(e *Encoder, b *frame.Batch, plain []byte) {
	r.begin()
	at := prefixSize + e.opt.Digest.Size() + len(e.table) - digestedHead
	for i := range e.entries {
		en := &e.entries[i]
		if en.kind == block.Write {
			r.write(en.volume, en.off, plain[at:at+int(en.len)], b.Last.Num, e.applied)
			at += int(en.len)
		} else {
			r.disk.cleared(en.volume, block.Range{Off: en.off, Len: en.len})
		}
	}
	r.end()
}

// overwritten takes note of a batch that was not reduced.
func (r *reducing) overwritten(entries []entry) {
	for i := range entries {
		r.disk.cleared(entries[i].volume, block.Range{Off: entries[i].off, Len: entries[i].len})
	}
}

func (r *reducing) makeBody(e *Encoder) {
	size := e.opt.Digest.Size()
	table := len(e.table) - digestedHead
	for i := range e.entries {
		if e.entries[i].kind == block.Write {
			table -= size
		}
	}
	body := binary.AppendUvarint(r.body[:0], uint64(table))
	body = binary.AppendUvarint(body, uint64(len(r.ops)))
	from := digestedHead
	for i := range e.entries {
		if en := &e.entries[i]; en.kind == block.Write {
			body = append(body, e.table[from:en.sum]...)
			from = en.sum + size
		}
	}
	body = append(body, e.table[from:]...)
	body = append(body, r.ops...)
	r.body = append(body, r.lits...)
}

// restoring is the state of a Decoder that takes reduced batches.
type restoring struct {
	limit      int // slots at most
	disks      Blocks
	cache      *cache
	generation uint64
	index      uint64
	hash       *blake3.Hasher
	body       []byte
	sum        []byte
	stream     streamUnpacker
	dense      denseRestorer
}

// Accept makes the decoder take reduced batches with a cache of up to that many bytes, and references that disks resolves (nil:
// none).
func (d *Decoder) Accept(cacheBytes int64, disks Blocks) {
	if slots := SlotsFor(cacheBytes); slots > 0 {
		d.restore = &restoring{limit: slots, disks: disks, hash: blake3.New()}
	}
}

// Plain unpacks a reduced batch into the plain one that it stands for, not compressed, and its records, as Batch does. The
// payload lies in arena where that has room for b.RawLen bytes. The error is ErrCache or ErrDigest where b may be asked for again;
// then nothing reduced is accepted until a generation begins.
func (d *Decoder) Plain(b *frame.Batch, arena []byte) (*frame.Batch, []block.Record, error) {
	plain, recs, err := d.plain(b, arena)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack batch %v…%v: %w", b.Prev, b.Last, err)
	}
	return plain, recs, nil
}

func (d *Decoder) plain(b *frame.Batch, arena []byte) (*frame.Batch, []block.Record, error) {
	if err := frame.Validate(b); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := d.restore
	if r == nil || b.Codec != frame.CodecReduced {
		return nil, nil, fmt.Errorf("%w: codec %v", ErrMalformed, b.Codec)
	}
	if cap(arena) < int(b.RawLen) {
		arena = make([]byte, 0, b.RawLen)
	}
	raw, err := r.unpack(b, arena[:b.RawLen])
	if err != nil {
		r.index = 0 // what was done to the cache cannot be undone: only a new generation helps
		return nil, nil, err
	}
	plain := *b
	plain.Codec, plain.Payload = frame.CodecRaw, raw
	recs, err := d.records(&plain, raw, true)
	return &plain, recs, err
}

// Repack makes a plain batch shorter, fast, for the store, where that pays. Its payload then lies in room, which is returned, grown as
// needed; else room comes back as it was.
func Repack(b *frame.Batch, room []byte) []byte {
	if len(b.Payload) < minRepacked {
		return room
	}
	if n := s2.MaxEncodedLen(len(b.Payload)); cap(room) < n {
		room = make([]byte, n)
	}
	if packed := s2.Encode(room[:cap(room)], b.Payload); pays(len(packed), len(b.Payload)) {
		b.Codec, b.Payload = frame.CodecS2, packed
	}
	return room
}

// minRepacked is what a commit costs anyway, in bytes.
const minRepacked = 16 << 10

// unpack fills raw with the plain payload.
func (r *restoring) unpack(b *frame.Batch, raw []byte) ([]byte, error) {
	rest, flags, length, err := r.begin(b.Payload)
	if err != nil {
		return nil, err
	}
	if length > uint64(len(raw))+frame.ReducedSlack {
		return nil, fmt.Errorf("%w: %d bytes of operations for %d", ErrMalformed, length, len(raw))
	}
	if flags&flagDense != 0 {
		r.body, err = r.dense.begin(r.body, rest, flags, int(length))
	} else {
		r.body, err = r.stream.unpack(r.body, rest, flags, int(length))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", ErrDigest, err)
	}
	alg := digest.Alg(b.Digest)
	head := appendDigestedHead(nil, b)
	if err := r.rebuild(raw, alg, head, b.Records, flags&flagDense != 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCache, err)
	}
	var sum [32]byte
	if got := reducedSum(sum[:0], r.hash, head, raw); string(got) != string(r.sum) {
		return nil, fmt.Errorf("%w: %w", ErrCache, ErrDigest)
	}
	r.index++
	return raw, nil
}

// begin reads the front of a payload and holds it against what came before.
func (r *restoring) begin(p []byte) (rest []byte, flags byte, length uint64, err error) {
	if len(p) < minReduced || p[0] != reducedVersion || p[1]&^(flagPacked|flagBegins|flagDense) != 0 {
		return nil, 0, 0, fmt.Errorf("%w: a reduced payload of %d bytes", ErrMalformed, len(p))
	}
	flags, rest = p[1], p[2:]
	var fields [3]uint64 // generation, index, slots
	for i := range fields {
		if i == 2 && fields[1] != 0 {
			break
		}
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, 0, 0, fmt.Errorf("%w: a front that ends early", ErrMalformed)
		}
		fields[i], rest = v, rest[n:]
	}
	if len(rest) < reducedDigest {
		return nil, 0, 0, fmt.Errorf("%w: a front that ends early", ErrMalformed)
	}
	r.sum, rest = rest[:reducedDigest], rest[reducedDigest:]
	length, n := binary.Uvarint(rest)
	if n <= 0 {
		return nil, 0, 0, fmt.Errorf("%w: a front that ends early", ErrMalformed)
	}
	rest = rest[n:]
	switch {
	case fields[1] == 0:
		if fields[2] < minSlots || fields[2] > uint64(r.limit) {
			return nil, 0, 0, fmt.Errorf("%w: a cache of %d blocks, %d were offered", ErrMalformed, fields[2], r.limit)
		}
		r.clear(int(fields[2]))
		r.generation, r.index = fields[0], 0
	case r.index == 0 || r.generation != fields[0] || r.index != fields[1]:
		return nil, 0, 0, fmt.Errorf("%w: batch %d of generation %d behind %d of %d", ErrCache, fields[1], fields[0], r.index, r.generation)
	}
	return rest, flags, length, nil
}

// clear empties the cache; one of another size is made anew.
func (r *restoring) clear(slots int) {
	if r.cache != nil && r.cache.limit == slots {
		r.cache.reset()
	} else {
		r.cache = newCache(slots)
	}
	r.stream.end()
	r.dense.ready = false
}

// rebuild fills raw with what the body says.
func (r *restoring) rebuild(raw []byte, alg digest.Alg, head []byte, records uint32, dense bool) error {
	rest := r.body
	var sizes [2]uint64
	for i := range sizes {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return errEntry
		}
		sizes[i], rest = v, rest[n:]
	}
	if sizes[0] > uint64(len(rest)) || sizes[1] > uint64(len(rest))-sizes[0] {
		return fmt.Errorf("a table of %d bytes and operations of %d in %d", sizes[0], sizes[1], len(rest))
	}
	table, rest := rest[:sizes[0]], rest[sizes[0]:]
	x := expander{cache: r.cache, disks: r.disks, ops: rest[:sizes[1]], lits: rest[sizes[1]:]}
	if dense {
		x.dense = &r.dense.data
	}
	size := alg.Size()
	writes, data, err := survey(table, records)
	tableLen := len(table) + writes*size
	if err != nil || prefixSize+size+tableLen+data != len(raw) {
		return fmt.Errorf("%d bytes of table and %d of data in a payload of %d: %w", tableLen, data, len(raw), err)
	}
	raw[0], raw[1] = payloadVersion, 0
	binary.BigEndian.PutUint32(raw[2:], uint32(tableLen))
	tableAt := prefixSize + size
	out, at := raw[tableAt:tableAt:tableAt+tableLen], tableAt+tableLen
	t := tableReader{rest: table}
	var rec block.Record
	for range records {
		before := t.rest
		if err := t.entry(&rec); err != nil {
			return err
		}
		out = append(out, before[:len(before)-len(t.rest)]...)
		if rec.Kind != block.Write {
			continue
		}
		to := raw[at : at+int(rec.Len)]
		if err := x.write(rec.Volume, rec.Off, to); err != nil {
			return err
		}
		out = alg.Sum(out, to)
		at += int(rec.Len)
	}
	alg.Sum(raw[prefixSize:prefixSize:prefixSize+size], append(head, out...))
	return x.end()
}

// survey counts the writes of a table without digests, and their data. It refuses what would not be a table.
func survey(table []byte, records uint32) (writes, data int, err error) {
	if int64(records) > int64(len(table)/minEntry) {
		return 0, 0, fmt.Errorf("%d records in a table of %d bytes", records, len(table))
	}
	t := tableReader{rest: table}
	var rec block.Record
	for range records {
		if err := t.entry(&rec); err != nil {
			return 0, 0, err
		}
		if rec.Kind != block.Write {
			continue
		}
		writes++
		if data += int(rec.Len); rec.Len > block.MaxRecord || data > frame.MaxRaw {
			return 0, 0, fmt.Errorf("a write of %d bytes, %d so far", rec.Len, data)
		}
	}
	if len(t.rest) > 0 {
		return 0, 0, fmt.Errorf("%d bytes of table too many", len(t.rest))
	}
	return writes, data, nil
}
