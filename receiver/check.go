package receiver

import (
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/wan/frame"
	"drship/wan/reduce"
)

// maxTries is how often one position is asked for again because its digests fail; then the session is given up.
const maxTries = 16

// checker is the second stage. It alone decides what is received.
type checker struct {
	r        *Run
	t        *Target
	dec      *reduce.Decoder
	received block.Seq // the mark, as this stage sees it
	waiting  bool      // batches are dropped until one follows the mark: the peer was asked for it
	dropped  block.Seq // while waiting: where the batch that was dropped last leads to
	tries    int       // digest failures in a row at this mark

	complaints complaints
}

func newChecker(r *Run) (*checker, error) {
	dec, err := reduce.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	dec.Accept(r.t.cache, diskBlocks{r.t})
	return &checker{r: r, t: r.t, dec: dec, received: r.t.Marks().Received}, nil
}

func (c *checker) run() error {
	defer c.dec.Close()
	var items []*item
	var err error
	for {
		if items, err = c.r.checks.take(items); err != nil {
			return nil // stopped
		}
		for _, it := range items {
			pass, err := c.check(it)
			if err != nil {
				return err
			}
			if !pass {
				c.r.retire(it)
				continue
			}
			batch := it.batch != nil // asked now: once handed over, a batch may be dropped from memory
			if err := c.r.stages.put(c.r.ctx, it); err != nil {
				return err
			}
			switch {
			case !batch:
				if err := c.settle(it); err != nil {
					return err
				}
			case !c.t.later:
				c.r.out.ack()
			}
		}
	}
}

// check reports whether an item goes on, or was dropped.
func (c *checker) check(it *item) (bool, error) {
	switch m := it.msg.(type) {
	case *frame.Batch:
		return c.batch(it, m)
	case *frame.Chunk:
		return c.chunk(it, m)
	case *frame.Query:
		_, err := c.t.checkRange(m.Volume, m.Off, int64(m.Len))
		return true, errors.Join(err, checkSums(m.Off, m.Len, m.Digest, m.Sums))
	case *frame.Verify:
		_, err := c.t.checkRange(m.Volume, m.Off, int64(m.Len))
		return true, errors.Join(err, checkSums(m.Off, m.Len, m.Digest, m.Sums))
	case *frame.StreamStart:
		it.done = make(chan struct{})
	case *frame.Peers:
		if c.t.told == nil {
			return false, nil
		}
		return false, c.t.told(c.r.ctx, m)
	}
	return true, nil
}

// settle waits until a StreamStart has taken effect, and goes on from its position.
func (c *checker) settle(it *item) error {
	start, ok := it.msg.(*frame.StreamStart)
	if !ok {
		return nil
	}
	select {
	case <-it.done:
	case <-c.r.ctx.Done():
		return ErrStopped
	}
	c.received, c.waiting, c.tries = start.From, false, 0
	if start.Mode == frame.ModeAhead || reduce.SlotsFor(c.t.cache) == 0 || c.t.whole != nil && !c.t.whole() {
		return nil
	}
	return c.r.out.reply(c.r.ctx, &frame.Offer{Cache: uint64(c.t.cache)})
}

// batch accepts a batch that follows the received mark and is what its digests say.
func (c *checker) batch(it *item, b *frame.Batch) (bool, error) {
	if b.Prev != c.received {
		c.unchained(b)
		return false, nil
	}
	if !b.Prev.Less(b.Last) {
		return false, fmt.Errorf("%w: a batch leads from %v to %v", ErrProtocol, b.Prev, b.Last)
	}
	if err := c.digested(b.Digest); err != nil {
		return false, err
	}
	it.arena = c.r.arena(b.Codec, b.RawLen)
	wire := len(b.Payload)
	recs, err := c.unpack(it, b)
	if err != nil {
		return false, c.mismatch(b, err)
	}
	for i := range recs {
		if _, err := c.t.checkRange(recs[i].Volume, recs[i].Off, int64(recs[i].Len)); err != nil {
			return false, fmt.Errorf("batch %v to %v: %w", b.Prev, b.Last, err)
		}
	}
	it.recs, it.last = recs, b.Last
	c.received, c.waiting, c.tries = b.Last, false, 0
	stats := &c.t.stats
	stats.batches.Add(1)
	stats.records.Add(uint64(len(recs)))
	stats.folded.Add(uint64(b.Folded))
	stats.batchBytes.Add(uint64(wire))
	c.t.moveMarks(func(m *Marks) { m.Received = b.Last })
	return true, nil
}

// unpack returns the records of a batch. One that builds on what this Run has seen is replaced by the plain one that it stands for:
// what is staged must stand alone.
func (c *checker) unpack(it *item, b *frame.Batch) ([]block.Record, error) {
	if b.Codec != frame.CodecReduced {
		return c.dec.Batch(b, it.arena)
	}
	plain, recs, err := c.dec.Plain(b, it.arena)
	if err != nil {
		return nil, err
	}
	it.spare = c.r.arena(frame.CodecS2, plain.RawLen)
	if it.spare = reduce.Repack(plain, it.spare); cap(it.spare) == 0 {
		it.spare = nil
	}
	it.msg, it.batch = plain, plain
	c.t.stats.reducedBatches.Add(1)
	return recs, nil
}

// diskBlocks is what references of the source are read from.
type diskBlocks struct{ t *Target }

// ReadBlocks implements reduce.Blocks.
func (d diskBlocks) ReadBlocks(volume uint16, blk uint64, p []byte) error {
	off := int64(blk) * block.Size
	v, err := d.t.checkRange(volume, off, int64(len(p)))
	if err != nil {
		return err
	}
	return v.disk.ReadAt(p, off)
}

// unchained drops a batch that does not follow the received mark, and asks for the right one: once, as long as what
// is dropped is the rest of what was under way, each batch behind the one before. What is there already is no break.
func (c *checker) unchained(b *frame.Batch) {
	rest := c.waiting && b.Prev == c.dropped
	c.dropped = b.Last
	if rest || !c.received.Less(b.Last) {
		c.t.stats.discarded.Add(1)
		return
	}
	c.t.stats.chainBreaks.Add(1)
	c.complain("a batch does not follow: asking again", "received", c.received, "prev", b.Prev, "last", b.Last)
	c.again(frame.ResendChain)
}

// mismatch counts a batch that is not what the source packed, however that shows (damage may hit what no digest
// covers, and then looks malformed), and asks for it again.
func (c *checker) mismatch(b *frame.Batch, why error) error {
	c.t.stats.digestFailures.Add(1)
	if c.tries++; c.tries >= maxTries {
		return fmt.Errorf("%w: batch %v to %v, asked for %d times: %w", ErrProtocol, b.Prev, b.Last, c.tries, why)
	}
	c.complain("a batch is not what its digests say: asking again", "prev", b.Prev, "last", b.Last, "try", c.tries, "error", why)
	c.dropped = b.Last
	reason := frame.ResendDigest
	if errors.Is(why, reduce.ErrCache) {
		reason = frame.ResendCache
	}
	c.again(reason)
	return nil
}

func (c *checker) again(reason uint8) {
	c.waiting = true
	c.t.stats.resends.Add(1)
	c.r.out.askAgain(&frame.Resend{From: c.received, Reason: reason})
}

// chunk accepts a chunk that matches its digest. It may pass while batches are being dropped: the batches that it has
// seen come behind it.
func (c *checker) chunk(it *item, m *frame.Chunk) (bool, error) {
	if _, err := c.t.checkRange(m.Volume, m.Off, int64(m.Len)); err != nil {
		return false, fmt.Errorf("chunk %d: %w", m.ID, err)
	}
	if m.Zero {
		return true, nil
	}
	if err := c.digested(m.Digest); err != nil {
		return false, err
	}
	it.arena = c.r.arena(m.Codec, m.Len)
	data, err := c.dec.Chunk(m, it.arena)
	if err != nil {
		c.t.stats.digestFailures.Add(1)
		c.complain("a chunk is not what its digest says: asking again", "volume", m.Volume, "offset", m.Off, "length", m.Len, "error", err)
		return false, c.r.out.chunks(c.r.ctx, nil, []uint64{m.ID})
	}
	it.chunk = data
	return true, nil
}

// digested refuses content without a digest where the configuration wants one.
func (c *checker) digested(alg uint8) error {
	if digest.Alg(alg) == digest.None && c.t.digest != digest.None {
		return fmt.Errorf("%w: content without a digest, %v is configured", ErrProtocol, c.t.digest)
	}
	return nil
}

// checkSums checks the digests of a run of blocks, whose last may be short.
func checkSums(off int64, n uint32, alg uint8, sums []byte) error {
	a := digest.Alg(alg)
	if !a.Valid() || a == digest.None {
		return fmt.Errorf("%w: digest %d in a comparison", ErrProtocol, alg)
	}
	blocks := (int64(n) + block.Size - 1) / block.Size
	if off%block.Size != 0 || int64(len(sums)) != blocks*int64(a.Size()) {
		return fmt.Errorf("%w: %d bytes of %v for %d bytes at %d", ErrProtocol, len(sums), a, n, off)
	}
	return nil
}
