package node

import (
	"errors"
	"fmt"
	"slices"

	"drship/internal/state"
	"drship/wan/frame"
)

// The two sides of a session may have different volumes for a while, because a volume comes or goes on one side first. What the peer says is
// put into the order of the volumes here: one that it lacks looks Diskless there, one that only it has is left out.

// errVolumesDiffer ends a session that has to wait until both sides have the same volumes.
var errVolumesDiffer = errors.New("the sides have different volumes, and data that only one of them would have: adjust the other side too, in the end the configurations have to agree")

// numbersLocked are the volumes here. Called with mu held.
func (r *Resource) numbersLocked() []uint16 {
	var numbers []uint16
	if r.att != nil {
		for i := range r.att.meta.Volumes {
			numbers = append(numbers, r.att.meta.Volumes[i].Volume)
		}
		return numbers
	}
	for _, v := range r.host.Volumes {
		numbers = append(numbers, v.Number)
	}
	return numbers
}

// aligned puts volumes of the peer, and what goes along with each of them, into the order of the numbers.
func aligned[T any](numbers []uint16, volumes []frame.VolumeState, along []T) ([]frame.VolumeState, []T) {
	same := len(numbers) == len(volumes)
	for i := 0; same && i < len(numbers); i++ {
		same = volumes[i].Volume == numbers[i]
	}
	if same {
		return volumes, along
	}
	out := make([]frame.VolumeState, len(numbers))
	var with []T
	if len(along) == len(volumes) && along != nil {
		with = make([]T, len(numbers))
	}
	for i, n := range numbers {
		out[i] = frame.VolumeState{Volume: n, Disk: uint8(state.Diskless)}
		at := slices.IndexFunc(volumes, func(v frame.VolumeState) bool { return v.Volume == n })
		if at < 0 {
			continue
		}
		out[i] = volumes[at]
		if with != nil {
			with[i] = along[at]
		}
	}
	return out, with
}

func (r *Resource) align(m *frame.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Volumes, m.Older = aligned(r.numbersLocked(), m.Volumes, m.Older)
}

func (r *Resource) alignStart(m *frame.StreamStart) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Volume, m.UUIDs = aligned(r.numbersLocked(), m.Volume, m.UUIDs)
}

// lacks names a volume of one side that the other does not have, and that has data; -1 if there is none.
func lacks(one, other *frame.State) int {
	for _, v := range one.Volumes {
		filled := state.Disk(v.Disk) > state.Negotiating && v.UUIDs.Current != state.JustCreated
		if filled && !slices.ContainsFunc(other.Volumes, func(o frame.VolumeState) bool { return o.Volume == v.Volume }) {
			return int(v.Volume)
		}
	}
	return -1
}

// volumesDiffer returns why the two sides have to wait for each other, nil where they can do without what only one of them has: a volume
// without data, or one that a Secondary still has and its Primary has given up. Both sides come to the same answer.
func (r *Resource) volumesDiffer(mine, theirs *frame.State) error {
	r.mu.Lock()
	several := len(r.peers) > 1
	r.mu.Unlock()
	for _, c := range []struct {
		number     int
		has, lacks string
		tolerated  bool
	}{
		{lacks(mine, theirs), "here", "at the peer", state.Role(theirs.Role) == state.Primary},
		{lacks(theirs, mine), "at the peer", "here", state.Role(mine.Role) == state.Primary},
	} {
		if c.number >= 0 && !c.tolerated {
			return fmt.Errorf("%w (volume %d is %s and not %s)", errVolumesDiffer, c.number, c.has, c.lacks)
		}
	}
	if several && !sameVolumes(mine, theirs) {
		return errVolumesDiffer
	}
	return nil
}

// fitUntouched makes volumes that have no data on either side as large as the smaller of the two disks.
func (r *Resource) fitUntouched(mine, theirs *frame.State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, changed := r.att, false
	for i := range mine.Volumes {
		m, t := &mine.Volumes[i], &theirs.Volumes[i]
		if a == nil || i >= len(a.meta.Volumes) || !untouched(&a.meta.Volumes[i]) || t.UUIDs.Current != state.JustCreated || t.Size <= 0 || m.Size == t.Size {
			continue
		}
		size := min(m.Size, t.Size)
		if size < m.Size {
			if err := a.group.Shrink(m.Volume, size); err != nil {
				return err
			}
			r.log.Info("the peer's disk is smaller", "volume", m.Volume, "from", m.Size, "to", size)
			a.meta.Volumes[i].Size, changed = size, true
			a.sized[i].size.Store(size)
		}
		m.Size, t.Size = size, size
	}
	if !changed {
		return nil
	}
	return a.save()
}

func sameVolumes(a, b *frame.State) bool {
	return slices.EqualFunc(a.Volumes, b.Volumes, func(x, y frame.VolumeState) bool { return x.Volume == y.Volume })
}

// partial reports whether a peer in sight lacks a volume that is here.
func (r *Resource) partial() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil {
		return false
	}
	for _, p := range r.peers {
		some, lacks := false, false
		for i, v := range p.view.Volumes {
			none := state.Disk(v.Disk) == state.Diskless
			some = some || !none
			lacks = lacks || none && i < len(r.att.meta.Volumes) && !untouched(&r.att.meta.Volumes[i])
		}
		if p.inSight() && some && lacks {
			return true
		}
	}
	return false
}

// aloneWithVolumes begins a generation of this side's own where it is Primary and its peer has to wait: what is written meanwhile the peer does not get.
func (r *Resource) aloneWithVolumes() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil || r.role != state.Primary || r.remote != nil || r.att.worstDisk() != state.UpToDate {
		return nil
	}
	return r.goOnAloneLocked(r.att)
}
