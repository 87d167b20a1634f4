package frame

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"drship/internal/block"
)

// Bounds of a Peers message.
const (
	MaxPeers    = 31  // as many peers as a resource may have
	maxPeerName = 255 // bytes
)

// Peers is what the source of a stream tells its target where the resource has more peers than these two: its own identifiers
// against the target, and of each other peer which generation it has and how far it has come. It stands on the data lane: what
// comes behind it was written in the generation that it names.
type Peers struct {
	UUIDs  []UUIDs     // by volume, in the order of State
	Older  [][6]uint64 // by volume: what fell out of the history
	Others []OtherPeer
}

// OtherPeer is what the source knows of a third node.
type OtherPeer struct {
	Name   string
	Bitmap []uint64 // by volume: the generation identifier of the source's bitmap slot for it
	InStep bool     // it has everything up to Staged, and nothing else is known to differ
	Staged block.Seq
}

func (m *Peers) append(b []byte) []byte {
	b = putU32(b, uint32(len(m.UUIDs)))
	for i := range m.UUIDs {
		b = m.UUIDs[i].append(b)
	}
	b = appendOlder(b, m.Older)
	b = putU32(b, uint32(len(m.Others)))
	for i := range m.Others {
		o := &m.Others[i]
		b = putBytes(b, []byte(o.Name))
		b = putSeq(putBool(b, o.InStep), o.Staged)
		b = putU32(b, uint32(len(o.Bitmap)))
		for _, id := range o.Bitmap {
			b = putU64(b, id)
		}
	}
	return b
}

func (m *Peers) decode(r *reader) {
	if n := r.count(block.MaxVolumes, uuidsSize); n > 0 {
		m.UUIDs = make([]UUIDs, n)
	}
	for i := range m.UUIDs {
		m.UUIDs[i].decode(r)
	}
	m.Older = decodeOlder(r, len(m.UUIDs))
	const least = 4 + 1 + 16 + 4 // of a peer: the length of its name, a flag, a position, the number of its identifiers
	if n := r.count(MaxPeers, least); n > 0 {
		m.Others = make([]OtherPeer, n)
	}
	for i := range m.Others {
		o := &m.Others[i]
		o.Name = string(r.bytes(maxPeerName))
		o.InStep, o.Staged = r.bool(), r.seq()
		if n := r.count(block.MaxVolumes, 8); n > 0 {
			o.Bitmap = make([]uint64, n)
		}
		for k := range o.Bitmap {
			o.Bitmap[k] = r.u64()
		}
	}
}

func (m *Peers) validate() error {
	if len(m.UUIDs) > block.MaxVolumes || len(m.Others) > MaxPeers {
		return fmt.Errorf("%d volumes and %d peers, the limits are %d and %d", len(m.UUIDs), len(m.Others), block.MaxVolumes, MaxPeers)
	}
	if len(m.Older) != len(m.UUIDs) {
		return fmt.Errorf("older history of %d volumes, not of %d", len(m.Older), len(m.UUIDs))
	}
	for i := range m.Others {
		o := &m.Others[i]
		switch {
		case o.Name == "" || len(o.Name) > maxPeerName || !utf8.ValidString(o.Name):
			return errors.New("a peer without a proper name")
		case len(o.Bitmap) != len(m.UUIDs):
			return fmt.Errorf("identifiers for %d of %d volumes of %s", len(o.Bitmap), len(m.UUIDs), o.Name)
		}
	}
	return nil
}

func (*Peers) tail() []byte { return nil }

// Type implements Message.
func (*Peers) Type() Type { return TypePeers }

func appendOlder(b []byte, older [][6]uint64) []byte {
	for i := range older {
		for _, id := range older[i] {
			b = putU64(b, id)
		}
	}
	return b
}

// decodeOlder reads as many entries as there are volumes: nothing is allocated for more than the body holds.
func decodeOlder(r *reader, volumes int) [][6]uint64 {
	const size = 6 * 8
	if volumes == 0 || volumes*size > len(r.rest) {
		if volumes > 0 {
			r.fail(errShort)
		}
		return nil
	}
	older := make([][6]uint64, volumes)
	for i := range older {
		for k := range older[i] {
			older[i][k] = r.u64()
		}
	}
	return older
}
