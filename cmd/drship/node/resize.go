package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/state"
	"drship/wan/frame"
)

// volumeGrew in VolumeMeta.Flags: grown on a peer's word, and the peer has not been seen with the new size yet.
const volumeGrew uint32 = 1

const sectorSize = 512

// A volume grows in four steps, the Primary's clients at work meanwhile: the peers are asked how much room they have; they grow; the
// Primary grows, and only then lets requests go beyond the old end; what is new is resynced, unless it is known to be equal. A crash in between
// leaves the Primary's side smaller: it follows at the next handshake.

// verbResize grows the volumes that the request means.
func verbResize(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	wanted, err := number(q, "size")
	if err != nil {
		return nil, err
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return nil, r.resizeVolumes(ctx, q.Volume, wanted, q.Yes("assume-clean"))
}

// resizeVolumes grows one volume, or all, to a size, or to what their disks offer. Called with the token held.
func (r *Resource) resizeVolumes(ctx context.Context, volume int, wanted int64, clean bool) error {
	r.mu.Lock()
	local, peers := r.viewsLocked()
	a := r.att
	r.mu.Unlock()
	if f := state.MayResize(local, peers); f != nil {
		return f
	}
	grown := false
	for i, v := range a.meta.Volumes {
		if volume != control.AnyVolume && int(v.Volume) != volume {
			continue
		}
		changed, err := r.resizeVolume(ctx, a, i, wanted, clean)
		if err != nil {
			return err
		}
		grown = grown || changed
	}
	if !grown {
		return nil
	}
	if clean {
		r.broadcastState()
		return nil
	}
	return r.resyncGrown(a)
}

// resizeVolume grows volume i everywhere. It reports whether there was something to do.
func (r *Resource) resizeVolume(ctx context.Context, a *attachment, i int, wanted int64, clean bool) (bool, error) {
	number, current := a.meta.Volumes[i].Volume, a.meta.Volumes[i].Size
	room, err := r.room(a, i)
	if err != nil {
		return false, err
	}
	rooms := []int64{room}
	for _, s := range r.sessions() {
		reply, err := s.require(ctx, frame.RequestRoom, uint64(number))
		if err != nil {
			return false, err
		}
		theirs, err := strconv.ParseInt(reply.Text, 10, 64)
		if err != nil {
			return false, fmt.Errorf("%s does not say how large its disk is: %w", s.peer.name, err)
		}
		rooms = append(rooms, theirs)
	}
	size, f := state.ResizeTo(current, wanted, rooms)
	if f != nil {
		return false, f
	}
	if size == current {
		return false, nil
	}
	arg := uint64(number)<<48 | uint64(size/sectorSize)
	if clean {
		arg |= frame.GrowClean
	}
	for _, s := range r.sessions() {
		if _, err := s.require(ctx, frame.RequestGrow, arg); err != nil {
			return false, err
		}
	}
	return true, r.grow(a, i, size, !clean, 0)
}

// room is what the disk of volume i offers, in whole blocks, as far as the configuration lets it be used.
func (r *Resource) room(a *attachment, i int) (int64, error) {
	room, err := a.sized[i].room()
	if err != nil {
		return 0, err
	}
	current := a.meta.Volumes[i].Size
	if vc := r.volumeConfig(a.meta.Volumes[i].Volume); vc != nil && vc.DiskOptions.Size > 0 {
		room = min(room, vc.DiskOptions.Size)
	}
	return max(room&^(block.Size-1), current), nil
}

// grow makes volume i larger here, durably, before anybody can see it.
func (r *Resource) grow(a *attachment, i int, size int64, differs bool, flags uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &a.meta.Volumes[i]
	if err := a.group.Grow(v.Volume, v.Size, size, differs); err != nil {
		return err
	}
	before := v.Size
	v.Size, v.Flags = size, v.Flags|flags
	if err := a.save(); err != nil {
		return err
	}
	if err := a.missing[i].Resize(size); err != nil {
		return err
	}
	a.sized[i].size.Store(size)
	r.log.Info("volume grew", "volume", v.Volume, "from", before, "to", size, "resync", differs)
	return nil
}

// resyncGrown begins a new generation against every peer: their data lacks what is new here. The handshake then makes them targets.
func (r *Resource) resyncGrown(a *attachment) error {
	r.mu.Lock()
	for i := range a.meta.Volumes {
		if untouched(&a.meta.Volumes[i]) {
			continue
		}
		id := random()
		r.changeIDsLocked(a, i, func(ids state.IDs) state.IDs { return ids.LoseSight(id) })
	}
	err := a.save()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.renegotiate(nil)
	return nil
}

// require asks a peer, and turns its refusal into an error.
func (s *session) require(ctx context.Context, verb uint8, arg uint64) (frame.Reply, error) {
	reply, err := s.ask(ctx, verb, arg)
	if err == nil && reply.Code != 0 {
		err = refusalOf(reply)
	}
	return reply, err
}

// grantRoom tells the Primary how large a volume may become here.
func (r *Resource) grantRoom(number uint64) frame.Reply {
	a, i, err := r.volumeAt(number)
	if err != nil {
		return refusal(err)
	}
	room, err := r.room(a, i)
	if err != nil {
		return refusal(err)
	}
	return frame.Reply{Text: strconv.FormatInt(room, 10)}
}

// grantGrow grows a volume on the Primary's word.
func (r *Resource) grantGrow(ctx context.Context, arg uint64) frame.Reply {
	release, err := r.acquire(ctx)
	if err != nil {
		return refusal(err)
	}
	defer release()
	a, i, err := r.volumeAt(arg >> 48)
	if err != nil {
		return refusal(err)
	}
	size := int64(arg&(frame.GrowClean-1)) * sectorSize
	room, err := r.room(a, i)
	switch current := a.meta.Volumes[i].Size; {
	case err != nil:
		return refusal(err)
	case r.currentRole() == state.Primary:
		return reply(state.Refused(state.SSTwoPrimaries, "%s is Primary", r.node.env.Node))
	case size > room:
		return reply(state.Refused(state.ErrDiskTooSmall, "%s has room for %d bytes", r.node.env.Node, room))
	case size <= current:
		return frame.Reply{}
	}
	err = r.grow(a, i, size, arg&frame.GrowClean == 0, volumeGrew)
	r.node.changed()
	return refusal(err)
}

func (r *Resource) volumeAt(number uint64) (*attachment, int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil {
		return nil, 0, state.Refused(state.SSNoLocalDisk, "%s has no disk", r.node.env.Node)
	}
	for i, v := range r.att.meta.Volumes {
		if uint64(v.Volume) == number {
			return r.att, i, nil
		}
	}
	return nil, 0, state.Refused(state.ErrMinorInvalid, "%s has no volume %d", r.node.env.Node, number)
}

// errGrown ends a handshake that begins again with another size.
var errGrown = errors.New("the sides differ in size because a resize was cut short; they grow now")

// followGrowth settles what a resize that was cut short left behind: the smaller side grows, the larger waits for it. It returns nil where no
// size differs. Called with the token held.
func (r *Resource) followGrowth(mine, theirs *frame.State) error {
	a := r.attachment()
	if a == nil || len(mine.Volumes) != len(theirs.Volumes) {
		return nil
	}
	for i := range a.meta.Volumes {
		m, t := mine.Volumes[i], theirs.Volumes[i]
		switch grew := a.meta.Volumes[i].Flags&volumeGrew != 0; {
		case m.Volume != t.Volume || state.Disk(t.Disk) <= state.Negotiating:
			return nil
		case m.Size < t.Size && theirs.Flags&frame.FlagGrew != 0:
			room, err := r.room(a, i)
			if err != nil || room < t.Size {
				return err
			}
			if err := r.grow(a, i, t.Size, true, 0); err != nil {
				return err
			}
			return errGrown
		case m.Size > t.Size && grew:
			return errGrown
		}
	}
	return r.sizesAgree(a)
}

// sizesAgree forgets that volumes grew: the peer has the same size.
func (r *Resource) sizesAgree(a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for i := range a.meta.Volumes {
		changed = changed || a.meta.Volumes[i].Flags&volumeGrew != 0
		a.meta.Volumes[i].Flags &^= volumeGrew
	}
	if !changed {
		return nil
	}
	return a.save()
}
