package journal

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"drship/internal/block"
	"drship/internal/state"
)

// HistorySlots is the number of history identifiers kept for a volume.
const HistorySlots = 8

// Meta is the metadata of a resource on this node: what survives restarts.
type Meta struct {
	Version  int    // of the encoding; SetMeta fills it in
	Resource string // at most MaxName bytes
	Node     string // at most MaxName bytes
	Created  bool   // create-md was run
	Primary  bool   // set before the first write of a primary, cleared by an orderly demotion
	Epoch    uint64 // highest epoch ever seen here, from a peer or from Log.Begin
	Flags    uint32 // of the owner
	Volumes  []VolumeMeta
}

// VolumeMeta is what is kept of one volume.
type VolumeMeta struct {
	Volume  uint16
	Size    int64 // bytes
	Disk    state.Disk
	Flags   uint32               // of the owner
	Current uint64               // generation identifier
	History [HistorySlots]uint64 // newest first, zero where empty
	Peers   []PeerMeta
}

// PeerMeta is what is kept of one volume for one peer.
type PeerMeta struct {
	Name   string     // at most MaxName bytes
	Bitmap uint64     // generation identifier of the bitmap slot
	Disk   state.Disk // the peer's, as last heard
	Flags  uint32     // of the owner
	Mark   block.Seq  // a journal mark of the peer, as last stored
}

// clone copies m, so that neither side sees the other's changes.
func (m *Meta) clone() Meta {
	c := *m
	c.Volumes = slices.Clone(m.Volumes)
	for i := range c.Volumes {
		c.Volumes[i].Peers = slices.Clone(c.Volumes[i].Peers)
	}
	return c
}

// Meta returns the metadata, or ErrNoMeta.
func (s *Store) Meta() (Meta, error) {
	if err := s.usable(); err != nil {
		return Meta{}, err
	}
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	if s.meta == nil {
		return Meta{}, ErrNoMeta
	}
	return s.meta.clone(), nil
}

// SetMeta replaces the metadata, durably.
func (s *Store) SetMeta(m Meta) error {
	m.Version = metaVersion
	raw, err := encodeMeta(&m)
	if err != nil {
		return fmt.Errorf("store metadata: %w", err)
	}
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	if err := s.update(true, func(b *pebble.Batch) error { return b.Set([]byte{keyMeta}, raw, nil) }); err != nil {
		return fmt.Errorf("store metadata: %w", err)
	}
	c := m.clone()
	s.meta = &c
	return nil
}

func (s *Store) loadMeta() error {
	raw, err := s.get([]byte{keyMeta})
	if err != nil || raw == nil {
		return err
	}
	m, err := decodeMeta(raw)
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	s.meta = &m
	return nil
}
