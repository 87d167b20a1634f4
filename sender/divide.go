package sender

import "drship/wan/frame"

// A resync is of the volumes that have blocks marked as it begins. The others are brought up to date by journal, as outside of a resync, so that
// they stay consistent at the peer: a volume that was added and is filled for the first time takes nothing from those beside it.

// divide tells the peer how many blocks are to come for each volume, and returns which of them the resync leaves alone. Where nothing is
// marked at all, the resync only has an end to tell, and concerns every volume.
func (s *Stream) divide(m *frame.StreamStart) []bool {
	p := s.peer
	leaves := make([]bool, len(p.bitmaps))
	m.Blocks = 0
	for i, b := range p.bitmaps {
		n := b.Count()
		m.Volume = append(m.Volume, frame.VolumeState{Volume: p.group.volumes[i].number, OOS: n})
		m.Blocks += n
		leaves[i] = n == 0
	}
	if m.Blocks == 0 {
		return nil
	}
	return leaves
}

func (rs *resync) leavesOut(volume int) bool { return volume < len(rs.leaves) && rs.leaves[volume] }

// marked is how many blocks of the volumes that the resync concerns are out of sync.
func (rs *resync) marked(p *Peer) (n uint64) {
	for i, b := range p.bitmaps {
		if !rs.leavesOut(i) {
			n += b.Count()
		}
	}
	return n
}
