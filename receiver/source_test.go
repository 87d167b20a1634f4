package receiver

import (
	"bytes"
	"slices"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// The half of the world that plays the source.

const volumeBlocks = (volumeSize + block.Size - 1) / block.Size

// blockRange is where a block of the world lies: volume, offset, length.
func blockRange(b int) (vol uint16, off int64, n int64) {
	off = int64(b%volumeBlocks) * block.Size
	return uint16(b / volumeBlocks), off, min(block.Size, volumeSize-off)
}

func blocksOf(vol uint16, r block.Range) (blocks []int) {
	first, end := r.Blocks()
	for b := first; b < end; b++ {
		blocks = append(blocks, int(vol)*volumeBlocks+int(b))
	}
	return blocks
}

// append makes one write, zero or trim on the source.
func (w *world) append() {
	if w.rnd.IntN(40) == 0 {
		w.epoch++
	}
	off := int64(w.rnd.IntN(volumeUnits)) * 512
	n := int64(1+w.rnd.IntN(24)) * 512
	if w.rnd.IntN(2) == 0 {
		off, n = off/block.Size*block.Size, block.Size
	}
	n = min(n, volumeSize-off)
	r := block.Record{
		Seq: block.Seq{Epoch: w.epoch, Num: uint64(len(w.recs) + 1)}, Time: int64(len(w.recs)),
		Volume: uint16(w.rnd.IntN(volumeCount)), Kind: block.Write, Off: off, Len: uint32(n),
	}
	switch w.rnd.IntN(10) {
	case 0:
		r.Kind = block.Zero
	case 1:
		r.Kind = block.Trim
	default:
		r.Data = w.content(int(n))
	}
	w.recs = append(w.recs, r)
	applyTo(w.image, &r)
}

// sendBatch sends the next few records, sometimes wrongly.
func (w *world) sendBatch(faults bool) {
	n := min(1+w.rnd.IntN(12), len(w.recs)-w.sent)
	if n == 0 {
		return
	}
	recs := w.recs[w.sent : w.sent+n]
	w.enc.Applied(w.acked.Applied.Num)
	b, err := w.enc.Batch(w.seq(w.sent), recs, nil)
	w.must(err)
	if b.Codec == frame.CodecReduced {
		w.reduced++
	}
	w.sent += n
	if faults {
		switch w.rnd.IntN(12) {
		case 0: // one bit of the content
			i := 6 + w.rnd.IntN(len(b.Payload)-6)
			b.Payload[i] ^= 1 << w.rnd.IntN(8)
		case 1: // it never arrives
			w.lost = true
			return
		}
	}
	w.handle(b)
}

func (w *world) setDirty(from, to int) {
	for i := from; i < to; i++ {
		for _, b := range blocksOf(w.recs[i].Volume, w.recs[i].Range()) {
			w.dirty[b] = true
		}
	}
}

// pick chooses a run of dirty blocks of one volume that nothing is under way for.
func (w *world) pick() []int {
	busy := make(map[int]bool)
	for _, under := range []map[uint64][]int{w.chunks, w.queries} {
		for _, blocks := range under {
			for _, b := range blocks {
				busy[b] = true
			}
		}
	}
	var free []int
	for b := range w.dirty {
		if !busy[b] {
			free = append(free, b)
		}
	}
	if len(free) == 0 {
		return nil
	}
	slices.Sort(free)
	at := w.rnd.IntN(len(free))
	run := free[at : at+1]
	for len(run) < 8 && at+len(run) < len(free) && free[at+len(run)] == run[len(run)-1]+1 &&
		free[at+len(run)]/volumeBlocks == run[0]/volumeBlocks {
		run = free[at : at+len(run)+1]
	}
	return slices.Clone(run)
}

// content of a run of blocks on the source, now.
func (w *world) runOf(blocks []int) (vol uint16, off int64, data []byte) {
	vol, off, _ = blockRange(blocks[0])
	_, last, n := blockRange(blocks[len(blocks)-1])
	at := int64(vol) * volumeSize
	return vol, off, bytes.Clone(w.image[at+off : at+last+n])
}

func (w *world) sendChunk() bool {
	blocks := w.pick()
	if blocks == nil {
		return false
	}
	vol, off, data := w.runOf(blocks)
	w.nextID++
	c, err := w.enc.Chunk(w.nextID, vol, off, data, nil)
	w.must(err)
	if !c.Zero && w.rnd.IntN(10) == 0 {
		c.Sum[0] ^= 1
	}
	w.chunks[c.ID] = blocks
	w.handle(c)
	return true
}

func sumsOf(alg digest.Alg, data []byte) (sums []byte) {
	for i := 0; i < len(data); i += block.Size {
		sums = alg.Sum(sums, data[i:min(i+block.Size, len(data))])
	}
	return sums
}

func (w *world) sendQuery() {
	blocks := w.pick()
	if blocks == nil {
		return
	}
	vol, off, data := w.runOf(blocks)
	w.nextID++
	w.queries[w.nextID] = blocks
	w.handle(&frame.Query{ID: w.nextID, Volume: vol, Off: off, Len: uint32(len(data)), Digest: uint8(digest.SHA1), Sums: sumsOf(digest.SHA1, data)})
}

type verify struct {
	blocks []int // negative: known to differ when it was asked
	at     int
}

// sendVerify compares a run that is not known to differ.
func (w *world) sendVerify() {
	vol := w.rnd.IntN(volumeCount)
	first := w.rnd.IntN(volumeBlocks)
	var blocks []int
	for b := first; b < min(first+8, volumeBlocks); b++ {
		blocks = append(blocks, vol*volumeBlocks+b)
	}
	v, off, data := w.runOf(blocks)
	w.nextID++
	for i, b := range blocks {
		if w.dirty[b] {
			blocks[i] = -1
		}
	}
	w.verifies[w.nextID] = verify{blocks: blocks, at: len(w.recs)}
	w.handle(&frame.Verify{ID: w.nextID, Volume: v, Off: off, Len: uint32(len(data)), At: w.seq(len(w.recs)),
		Digest: uint8(digest.XXH3), Sums: sumsOf(digest.XXH3, data)})
}

func (w *world) maybeEnd() {
	if w.resync && !w.ended && len(w.dirty) == 0 && len(w.chunks) == 0 && len(w.queries) == 0 {
		w.ended = true
		w.handle(&frame.ResyncEnd{At: w.seq(len(w.recs))})
	}
}

// pullAhead drops the journal: what was not acknowledged goes to the bitmap, and a resync starts in this session.
func (w *world) pullAhead() {
	w.answers()
	w.setDirty(w.known(), len(w.recs))
	w.covered, w.from = len(w.recs), len(w.recs)
	clear(w.chunks)
	clear(w.queries)
	clear(w.verifies)
	w.sent, w.resync, w.ended, w.lost = len(w.recs), true, false, false
	w.handle(&frame.StreamStart{Mode: frame.ModeResync, From: w.seq(w.sent), Keep: true})
}

// known is the number of records that the target is known to have staged.
func (w *world) known() int {
	if w.acked.Staged.IsZero() {
		return w.from
	}
	return max(w.from, w.index(w.acked.Staged))
}

// answers takes what the target has said.
func (w *world) answers() {
	for _, m := range w.link.take() {
		w.answer(m)
	}
}

func (w *world) answer(m frame.Message) {
	switch m := m.(type) {
	case *frame.Ack:
		now := Marks{Received: m.Received, Staged: m.Staged, Applied: m.Applied}
		if m.Staged.Less(m.Applied) || m.Received.Less(m.Staged) {
			w.t.Fatalf("marks out of order: %+v", now)
		}
		if w.acked != (Marks{}) && (m.Applied.Less(w.acked.Applied) || m.Staged.Less(w.acked.Staged) || m.Received.Less(w.acked.Received)) {
			w.t.Fatalf("marks went back: %+v, then %+v", w.acked, now)
		}
		w.acked = now
	case *frame.Offer:
		w.enc.Offered(int64(m.Cache))
		w.must(w.enc.SetGear(reduce.Gear{Codec: frame.CodecZstd, Level: 1, Reduce: true, Dense: w.resends%2 == 0}))
	case *frame.Resend:
		w.resends++
		w.enc.Forget()
		if at := w.index(m.From); at >= w.from { // else it is from before the stream was started anew
			w.sent, w.lost = at, false
		}
	case *frame.ChunkAck:
		for _, id := range m.IDs {
			for _, b := range w.chunks[id] {
				delete(w.dirty, b)
			}
			delete(w.chunks, id)
		}
		for _, id := range m.Bad {
			delete(w.chunks, id)
		}
	case *frame.QueryReply:
		for i, b := range w.queries[m.ID] {
			if m.Differ[i/8]>>(i%8)&1 == 0 {
				delete(w.dirty, b)
			}
		}
		delete(w.queries, m.ID)
	case *frame.VerifyReply:
		v, ok := w.verifies[m.ID]
		if !ok {
			return
		}
		delete(w.verifies, m.ID)
		w.verified++
		for i, b := range v.blocks {
			if m.Differ[i/8]>>(i%8)&1 == 1 && b >= 0 && !w.touched(b, v.at) {
				w.t.Fatalf("verify finds a difference in block %d that is none", b)
			}
		}
	case *frame.ResyncDone:
		if w.ended {
			w.resync, w.ended = false, false
		}
	}
}

// touched reports whether a record behind the first n touches a block.
func (w *world) touched(b, n int) bool {
	for i := n; i < len(w.recs); i++ {
		if slices.Contains(blocksOf(w.recs[i].Volume, w.recs[i].Range()), b) {
			return true
		}
	}
	return false
}
