package receiver

import (
	"errors"
	"slices"
	"testing"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/journal"
	"drship/wan/frame"
)

// TestDamagedBatch: it is asked for once, what is under way behind it is dropped, nothing of it is stored.
func TestDamagedBatch(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	p.handle(p.batch(0, fill(1, 1)))
	from := p.at
	bad, behind := p.batch(1, fill(2, 1)), p.batch(2, fill(3, 1))
	bad.Payload[len(bad.Payload)-1] ^= 1
	p.handle(bad)
	p.handle(behind)
	p.handle(p.batch(3, fill(4, 1)))
	if r := said[*frame.Resend](p, nil); r.From != from || r.Reason != frame.ResendDigest {
		t.Fatalf("asked for %+v, want from %v", r, from)
	}
	p.handle(p.chunk(7, 9, fill(9, 1))) // passes: it is right
	said(p, func(a *frame.ChunkAck) bool { return slices.Equal(a.IDs, []uint64{7}) })
	if m := p.target.Marks(); m.Received != from || m.Staged != from {
		t.Fatalf("marks moved past the damage: %+v", m)
	}
	p.holds(1, fill(0, 3))
	p.at = from
	for i := range 3 {
		p.handle(p.batch(1+i, fill(byte(2+i), 1)))
	}
	p.applied()
	for i := range 4 {
		p.holds(i, fill(byte(1+i), 1))
	}
	if s := p.target.Stats(); s.Resends != 1 || s.DigestFailures != 1 || s.Discarded != 2 || s.ChainBreaks != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDamagedForGood: a batch that is never right ends the session instead of going round for ever.
func TestDamagedForGood(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	for range maxTries {
		p.at = block.Seq{}
		b := p.batch(0, fill(1, 1))
		b.Payload[0] ^= 0x40
		if err := p.run.Handle(t.Context(), b); err != nil {
			break
		}
	}
	if err := p.failed(); !errors.Is(err, ErrProtocol) {
		t.Fatalf("ended with %v", err)
	}
	p.holds(0, fill(0, 1))
}

// TestBrokenChain: a gap is asked for once, again when the resent batches have a gap too; what is there already is no gap.
func TestBrokenChain(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	var all []*frame.Batch
	for i := range 8 {
		all = append(all, p.batch(i, fill(byte(1+i), 1)))
	}
	chain := func(r *frame.Resend) bool { return r.Reason == frame.ResendChain && r.From == all[1].Last }
	for _, i := range []int{0, 0, 1, 3, 4} { // 0 twice, 2 missing
		p.handle(all[i])
	}
	said(p, chain)
	p.handle(all[5]) // was under way
	p.handle(all[7]) // 6 is missing: not what was under way
	said(p, chain)
	for _, b := range all[2:] {
		p.handle(b)
	}
	p.applied()
	for i := range 8 {
		p.holds(i, fill(byte(1+i), 1))
	}
	if s := p.target.Stats(); s.ChainBreaks != 2 || s.Resends != 2 || s.Batches != 8 || s.Discarded != 3 {
		t.Errorf("%+v", s)
	}
}

func TestDamagedChunk(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeResync)
	c := p.chunk(3, 5, fill(5, 2))
	c.Data[17] ^= 8
	p.handle(c)
	said(p, func(a *frame.ChunkAck) bool { return slices.Equal(a.Bad, []uint64{3}) && len(a.IDs) == 0 })
	p.holds(5, fill(0, 2))
	p.handle(p.chunk(4, 5, fill(5, 2)))
	said(p, func(a *frame.ChunkAck) bool { return slices.Equal(a.IDs, []uint64{4}) })
	p.holds(5, fill(5, 2))
}

// TestForbidden: what a peer must not send ends the run, and nothing of it is stored or written.
func TestForbidden(t *testing.T) {
	seq := block.Seq{Epoch: 1, Num: 1}
	zero := func(vol uint16, off int64, n uint32) func(*pair) frame.Message {
		return func(p *pair) frame.Message {
			return p.pack(block.Seq{}, block.Record{Seq: seq, Kind: block.Zero, Volume: vol, Off: off, Len: n})
		}
	}
	write := block.Record{Seq: seq, Kind: block.Write, Len: block.Size, Data: fill(1, 1)}
	for name, forbidden := range map[string]func(*pair) frame.Message{
		"a record of a volume that is not here": zero(1, 0, 4096),
		"zeroes beyond the end":                 zero(0, pairSize-4096, 8192),
		"a record half right": func(p *pair) frame.Message {
			bad := block.Record{Seq: block.Seq{Epoch: 1, Num: 2}, Kind: block.Write, Off: pairSize, Len: block.Size, Data: fill(2, 1)}
			return p.pack(block.Seq{}, write, bad)
		},
		"a batch without digests": func(p *pair) frame.Message {
			b := p.pack(block.Seq{}, write)
			b.Digest = uint8(digest.None)
			return b
		},
		"a batch of many records": func(p *pair) frame.Message {
			b := p.pack(block.Seq{}, write)
			b.Records = maxRecords + 1
			return b
		},
		"a chunk beyond the end":   func(p *pair) frame.Message { return p.chunk(1, 63, fill(1, 2)) },
		"zeroes of another volume": func(*pair) frame.Message { return &frame.Chunk{Volume: 9, Len: 4096, Zero: true} },
		"a query beyond the end": func(*pair) frame.Message {
			return &frame.Query{Off: pairSize, Len: 4096, Digest: uint8(digest.CRC32C), Sums: []byte{1, 2, 3, 4}}
		},
		"a query with too few digests": func(*pair) frame.Message {
			return &frame.Query{Len: 8192, Digest: uint8(digest.CRC32C), Sums: []byte{1, 2, 3, 4}}
		},
		"a verify without digests":      func(*pair) frame.Message { return &frame.Verify{Len: 8192} },
		"a message of the control lane": func(*pair) frame.Message { return &frame.Ack{} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, journal.Options{}, nil)
			p.start(frame.ModeJournal)
			err := p.run.Handle(t.Context(), forbidden(p))
			if stop := p.failed(); !errors.Is(stop, ErrProtocol) || err != nil && !errors.Is(err, ErrProtocol) {
				t.Errorf("handle: %v, stop: %v", err, stop)
			}
			if m := p.target.Marks(); m != (Marks{}) {
				t.Errorf("marks moved: %+v", m)
			}
			p.holds(0, fill(0, 64))
		})
	}
}

// TestTooManyVerifies: comparisons that wait for their position are bounded.
func TestTooManyVerifies(t *testing.T) {
	p := newPair(t, journal.Options{}, nil)
	p.start(frame.ModeJournal)
	for i := range maxParked + 1 {
		m := &frame.Verify{ID: uint64(i), Len: 4096, At: block.Seq{Epoch: 9}, Digest: uint8(digest.CRC32C), Sums: []byte{1, 2, 3, 4}}
		if err := p.run.Handle(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.failed(); !errors.Is(err, ErrProtocol) {
		t.Errorf("ended with %v", err)
	}
}
