package receiver

import (
	"sync"

	"drship/internal/block"
	"drship/journal"
	"drship/wan/frame"
)

// Other is a peer and the bitmaps that this side keeps against it, by volume.
type Other struct {
	Name    string
	Bitmaps map[uint16]*journal.Bitmap
}

// others marks what comes from a source in the bitmaps against all other peers: they may lack it, and once the source is gone this side
// is perhaps the only one that can tell. The source says now and then how far the others have come; what lies before that is
// cleared again. A bit has no position of its own, so that bits are cleared in two ages:
//
//	     cut              pos
//	──────┼────────────────┼────────> write order
//	 old  │     recent     │            bits of records up to cut are old, those behind it in recent too
//
// Once a peer has everything up to cut, and this side as well, what is not in recent is cleared, and recent gets old.
type others struct {
	store *journal.Store

	mu     sync.Mutex
	source string    // ships to this side, or did last; "" where nobody knows
	pos    block.Seq // newest record marked
	peers  []*otherPeer
}

type otherPeer struct {
	Other
	recent map[uint16]*journal.Bitmap
	cut    block.Seq
	has    block.Seq // the peer has everything up to here
}

func newOthers(s *journal.Store, list []Other) *others {
	if len(list) < 2 {
		return nil
	}
	o := &others{store: s}
	for _, p := range list {
		q := &otherPeer{Other: p, recent: map[uint16]*journal.Bitmap{}}
		for number := range p.Bitmaps {
			q.recent[number] = journal.NewScratch()
		}
		o.peers = append(o.peers, q)
	}
	applied, _ := s.Staging().Marks()
	o.restart(applied)
	return o
}

// restart makes all bits old ones of records up to pos. Called with mu held, or before anybody else knows o.
func (o *others) restart(pos block.Seq) {
	o.pos = pos
	for _, p := range o.peers {
		p.age(pos)
		p.has = block.Seq{}
	}
}

func (p *otherPeer) age(pos block.Seq) {
	p.cut = pos
	for _, b := range p.recent {
		b.ClearAll()
	}
}

// SetSource says who ships to this side from now on, from which position. It does nothing where there is one peer.
func (t *Target) SetSource(name string, from block.Seq) {
	o := t.others
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.source = name
	o.restart(from)
}

// OtherHas is the source's word that a peer has everything up to has, and nothing else is known to differ from the source. It counts only
// while this side itself has all of the source's data, up to its own position.
func (t *Target) OtherHas(name string, has block.Seq) {
	o := t.others
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.peers {
		if p.Name != name || name == o.source {
			continue
		}
		if p.has.Less(has) {
			p.has = has
		}
		for range 2 { // what is old, and what is old by then
			if has.Less(p.cut) {
				return
			}
			for number, b := range p.Bitmaps {
				b.ClearExcept(p.recent[number])
			}
			p.age(o.pos)
		}
	}
}

// records marks the ranges of a batch that leads to last, before they are written.
func (o *others) records(last block.Seq, recs []block.Record) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pos.Less(last) {
		o.pos = last
	}
	for _, p := range o.peers {
		if p.Name == o.source || !p.has.Less(last) {
			continue
		}
		for i := range recs {
			p.set(recs[i].Volume, recs[i].Range())
		}
	}
}

// chunks marks, durably, what a resync is about to overwrite. A block that is on the disk when a crash comes is found equal afterwards, and is not
// sent again. The position of a chunk is not known before the resync ends, and until then nothing is cleared.
func (o *others) chunks(items []*item) error {
	if o == nil {
		return nil
	}
	some := false
	o.mu.Lock()
	for _, it := range items {
		m, ok := it.msg.(*frame.Chunk)
		if !ok {
			continue
		}
		some = true
		for _, p := range o.peers {
			if p.Name != o.source {
				p.set(m.Volume, block.Range{Off: m.Off, Len: int64(m.Len)})
			}
		}
	}
	o.mu.Unlock()
	if !some {
		return nil
	}
	return o.store.FlushBitmaps(o.bitmaps()...)
}

// reached says that a resync ended at a position.
func (o *others) reached(at block.Seq) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pos.Less(at) {
		o.pos = at
	}
	for _, p := range o.peers {
		if p.cut.Less(o.pos) {
			p.age(o.pos)
		}
	}
}

func (p *otherPeer) set(volume uint16, r block.Range) {
	if b := p.Bitmaps[volume]; b != nil {
		b.Set(r)
		p.recent[volume].Set(r)
	}
}

// write hands the bitmaps to the store before it forgets the staged batches that set them.
func (o *others) write() error {
	if o == nil {
		return nil
	}
	return o.store.WriteBitmaps(o.bitmaps()...)
}

func (o *others) bitmaps() (all []*journal.Bitmap) {
	for _, p := range o.peers {
		for _, b := range p.Bitmaps {
			all = append(all, b)
		}
	}
	return all
}
