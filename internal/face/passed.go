package face

import (
	"slices"

	"drship/internal/state"
)

// A snapshot tells what is; Passed tells of what was between two of them: states that last for a moment, which a reader of snapshots would miss. Each
// has a number; those beyond Resource.PassedSeq of the snapshot before are new.

// PassedConn is a state that a connection, or the replication over it, was in for a moment.
type PassedConn struct {
	Seq  uint64
	Conn state.Conn
}

// PassedDisk is a state that a disk was in for a moment.
type PassedDisk struct {
	Seq  uint64
	Disk state.Disk
}

// between returns what lay between two snapshots of a resource, in order, each as a snapshot.
func between(old, now *Resource) []*Resource {
	var moments []moment
	for i := range now.Peers {
		for _, c := range now.Peers[i].Passed {
			moments = append(moments, moment{seq: c.Seq, peer: &now.Peers[i], conn: c.Conn})
		}
	}
	for i := range now.Volumes {
		for _, d := range now.Volumes[i].Passed {
			moments = append(moments, moment{seq: d.Seq, volume: &now.Volumes[i], disk: d.Disk})
		}
	}
	moments = slices.DeleteFunc(moments, func(m moment) bool { return m.seq <= old.PassedSeq })
	slices.SortStableFunc(moments, func(a, b moment) int { return int(a.seq) - int(b.seq) })
	var out []*Resource
	last := old
	for _, m := range moments {
		next := m.in(last)
		out = append(out, next)
		last = next
	}
	return out
}

// moment is one state that passed: of a peer or of a volume.
type moment struct {
	seq    uint64
	peer   *Peer
	conn   state.Conn
	volume *Volume
	disk   state.Disk
}

// in is the resource as it was at the moment; r is as it was just before.
func (m moment) in(r *Resource) *Resource {
	out := *r
	out.Peers, out.Volumes = slices.Clone(r.Peers), slices.Clone(r.Volumes)
	if m.volume != nil {
		if v := findVolume(&out, m.volume.Number); v != nil {
			v.Disk = m.disk
		}
		return &out
	}
	p := findPeer(&out, m.peer)
	if p == nil {
		return &out
	}
	p.Volumes = slices.Clone(p.Volumes)
	p.Conn = min(m.conn, state.Connected)
	switch {
	case m.conn < state.Connected:
		p.Role = state.RoleUnknown
	case p.Role == state.RoleUnknown:
		p.Role = m.peer.Role // it has told by then
	}
	for i := range p.Volumes {
		v := &p.Volumes[i]
		v.Conn, v.Sync = m.conn, nil
		if m.conn < state.Connected && v.Disk > state.DUnknown {
			v.Disk = state.DUnknown
		} else if told := m.peer.Volume(v.Number); m.conn >= state.Connected && v.Disk == state.DUnknown && told != nil {
			v.Disk = told.Disk
		}
	}
	return &out
}
