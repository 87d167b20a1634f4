package node

import (
	"context"
	"errors"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/disk"
	"drship/internal/state"
	"drship/wan/frame"
)

// A volume may lose its disk while the resource goes on: another volume keeps its own, or a peer keeps what this node cannot. What the disk lacks
// is noted block by block (disk.Partial) and is fetched once there is a disk again: by the target of a stream as a resync, by its source
// from a peer (heal).

// volumePartial in VolumeMeta.Flags: the disk was given up alone; what it lacks is noted from then on. What was hot then, or in a crash since,
// counts as lacking.
const volumePartial uint32 = 1 << 4

// disk is the state of volume i as it is shown, and as peers hear it. Called with Resource.mu held, as the next two are.
func (a *attachment) disk(i int) state.Disk {
	d := a.meta.Volumes[i].Disk
	switch p := a.parts[i]; {
	case p.Gone():
		return state.Diskless
	case p.Missing() > 0:
		return min(d, state.Inconsistent)
	}
	return d
}

// worstShown is worstDisk of what is shown.
func (a *attachment) worstShown() state.Disk {
	worst := a.worstDisk()
	for i := range a.meta.Volumes {
		if d := a.disk(i); d < a.meta.Volumes[i].Disk {
			worst = min(worst, d)
		}
	}
	return worst
}

// good reports whether every volume is UpToDate, and every disk has all of it.
func (a *attachment) good() bool { return a.upToDate() && !a.lacking() }

// lacking reports whether a disk lacks something, or is gone.
func (a *attachment) lacking() bool {
	for _, p := range a.parts {
		if p.Gone() || p.Missing() > 0 {
			return true
		}
	}
	return false
}

func (a *attachment) index(volume uint16) int {
	for i, v := range a.meta.Volumes {
		if v.Volume == volume {
			return i
		}
	}
	return -1
}

// alone reports whether another volume than i has a disk.
func (a *attachment) alone(i int) bool {
	for k, p := range a.parts {
		if k != i && !p.Gone() {
			return true
		}
	}
	return false
}

// fetchesLocked reports whether this node's data is the newest although disks lack some of it: it fetches that, and is no target for it. Called with
// mu held.
func (r *Resource) fetchesLocked() bool {
	a := r.att
	return a.lacking() && a.worstDisk() == state.UpToDate && (r.role == state.Primary && r.remote == nil || a.crashed)
}

// noteKeeperLocked tells the sender which volumes a peer has a good disk for. Called with mu held.
func (r *Resource) noteKeeperLocked(p *peer) {
	if r.att == nil {
		return
	}
	gp := r.att.group.Peer(p.name)
	if gp == nil {
		return
	}
	for _, v := range p.view.Volumes {
		gp.Keeps(v.Volume, state.Disk(v.Disk) == state.UpToDate)
	}
}

// noDisk reports whether every disk is gone, and what they lack is noted. Called with Resource.mu held.
func (a *attachment) noDisk() bool {
	for _, p := range a.parts {
		if !p.Gone() {
			return false
		}
	}
	return true
}

// keeperLocked is the session of a peer that has the newest of volume i, or would get it: a target that is followed by journal. Called with mu held.
func (r *Resource) keeperLocked(i int, ok func(p *peer) bool) *session {
	for _, p := range r.peers {
		s := p.session
		if s == nil || !s.ready || s.source == nil || s.source.stream.Mode() != frame.ModeJournal || !p.cfg.Net.AllowRemoteRead {
			continue
		}
		if i < len(p.view.Volumes) && state.Disk(p.view.Volumes[i].Disk) == state.UpToDate && (ok == nil || ok(p)) {
			return s
		}
	}
	return nil
}

// losesAloneLocked reports whether volume i can lose its disk with the resource going on. Called with mu held.
func (r *Resource) losesAloneLocked(a *attachment, i int) bool {
	if i < 0 {
		return false
	}
	if r.role != state.Primary || r.remote != nil {
		return (a.alone(i) || len(r.peers) > 1) && !r.serving
	}
	return (a.alone(i) || len(r.peers) > 1) && r.keeperLocked(i, nil) != nil
}

// loseLocked gives the disk of volume i up. Where it failed, what was under way to it may be lost. Called with mu held, of a target without a run.
func (r *Resource) loseLocked(a *attachment, i int, failed bool) error {
	v := &a.meta.Volumes[i]
	v.Flags |= volumePartial
	if err := a.save(); err != nil {
		return err
	}
	hot := func() error {
		if !failed {
			return nil
		}
		return a.group.LackHot(v.Volume)
	}
	if err := hot(); err != nil {
		return err
	}
	gone := a.parts[i].Remove()
	err := hot() // what became hot in between
	r.passDiskLocked(i, state.Failed)
	if gone != nil && !r.node.helpers.goDo(func() { r.closeLost(v.Volume, gone) }) {
		err = errors.Join(err, gone.Close())
	}
	r.log.Error("volume has no disk here any more; the others go on. When it is mended: drship attach "+r.name, "volume", v.Volume, "failed", failed)
	return err
}

func (r *Resource) closeLost(volume uint16, d disk.Disk) {
	if err := d.Close(); err != nil {
		r.log.Warn("a disk that was given up did not close", "volume", volume, "err", err)
	}
}

// giveVolumeUp is giveDiskUp for one volume of several.
func (r *Resource) giveVolumeUp(a *attachment, i int, policy string) {
	ctx, volume := r.node.helpers.ctx, a.meta.Volumes[i].Volume
	if policy == ioCallHandler {
		r.helper(ctx, "local-io-error", nil, failedVolume(volume)...)
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return // the node stops
	}
	defer release()
	r.mu.Lock()
	still := r.att == a && !a.parts[i].Gone()
	r.mu.Unlock()
	if !still {
		return
	}
	if err := r.detachVolume(ctx, a, i, true); err != nil {
		r.log.Error("a disk that failed was not given up", "volume", volume, "err", err)
	}
}

// detachVolume lets go of the disk of one volume of several. Called with the token held.
func (r *Resource) detachVolume(ctx context.Context, a *attachment, i int, failed bool) error {
	r.mu.Lock()
	primary := r.role == state.Primary && r.remote == nil
	r.mu.Unlock()
	if primary {
		return r.detachServing(ctx, a, i)
	}
	r.renegotiate(nil) // runs end: what they did not sync they apply again
	if _, open := a.target.CanRollback(); open {
		r.log.Warn("the way back is dropped: a disk is gone")
		if err := a.target.EndHistory(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	err := r.loseLocked(a, i, failed)
	r.mu.Unlock()
	r.node.changed()
	return err
}

// detachServing does so under clients, who see a pause.
func (r *Resource) detachServing(ctx context.Context, a *attachment, i int) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	err := a.group.Suspend(ctx)
	if err == nil {
		err = a.group.Settle()
	}
	r.mu.Lock()
	if err == nil {
		err = r.loseLocked(a, i, false)
	}
	if !r.suspend && r.fencing == 0 {
		a.group.Resume()
	}
	r.mu.Unlock()
	r.broadcastState()
	return err
}

// detachSome detaches one volume of several, or all where there are several peers that keep what this node cannot. It reports whether that was what was asked for.
func (r *Resource) detachSome(ctx context.Context, a *attachment, volume int) (bool, error) {
	r.mu.Lock()
	var chosen []int
	for i, v := range a.meta.Volumes {
		if (volume == control.AnyVolume || int(v.Volume) == volume) && !a.parts[i].Gone() {
			chosen = append(chosen, i)
		}
	}
	left := false // a disk would
	for i := range a.parts {
		left = left || !a.parts[i].Gone() && volume != control.AnyVolume && int(a.meta.Volumes[i].Volume) != volume
	}
	several := len(r.peers) > 1
	r.mu.Unlock()
	if !left && !several {
		return false, nil
	}
	for _, i := range chosen {
		r.mu.Lock()
		local, peers := r.viewsLocked()
		f := state.MayDetach(local, peers, i, false)
		r.mu.Unlock()
		if f != nil {
			return true, f
		}
		if err := r.detachVolume(ctx, a, i, false); err != nil {
			return true, err
		}
	}
	return true, nil
}

// attachGone opens the disks of volumes that were given up. It reports whether there was one. Called with the token held.
func (r *Resource) attachGone(a *attachment, volume int) (some bool, err error) {
	for i, v := range a.meta.Volumes {
		if !a.parts[i].Gone() || volume != control.AnyVolume && int(v.Volume) != volume {
			continue
		}
		some = true
		if err := r.attachOne(a, i); err != nil {
			return some, err
		}
	}
	return some, nil
}

func (r *Resource) attachOne(a *attachment, i int) error {
	v := &a.meta.Volumes[i]
	d, err := r.openDisk(r.volumeConfig(v.Volume), *v)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.passDiskLocked(i, state.Attaching)
	a.parts[i].Put(d)
	a.failed = false
	r.mu.Unlock()
	r.log.Info("attached", "volume", v.Volume, "lacks", a.parts[i].Missing())
	return nil
}

// resumeVolumes goes on with disks that came back.
func (r *Resource) resumeVolumes(a *attachment) error {
	if err := r.wholeAgain(a); err != nil {
		return err
	}
	r.mu.Lock()
	ships := r.writesHereLocked()
	r.mu.Unlock()
	if !ships {
		r.renegotiate(nil)
		return nil
	}
	r.broadcastState()
	return nil
}

// wholeAgain forgets what disks lacked that lack nothing any more.
func (r *Resource) wholeAgain(a *attachment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for i := range a.meta.Volumes {
		v := &a.meta.Volumes[i]
		if v.Flags&volumePartial != 0 && !a.parts[i].Gone() && a.parts[i].Missing() == 0 {
			v.Flags &^= volumePartial
			changed = true
			r.log.Info("the disk has everything again", "volume", v.Volume)
		}
	}
	if !changed || r.att != a {
		return nil
	}
	return a.save()
}

// afterLoss notes what disks that had been given up may lack beyond what is noted, in a crash or where the store was lost.
func (a *attachment) afterLoss(lost bool) error {
	for i, v := range a.meta.Volumes {
		switch {
		case v.Flags&volumePartial == 0:
		case lost:
			a.parts[i].Lack(wholeVolume(v.Size))
		case a.crashed:
			if err := a.group.LackHot(v.Volume); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	healEvery = time.Second      // between two looks whether there is something to fetch
	healRetry = 10 * time.Second // after a failure
)

// healLoop fetches what disks here lack, while there is a stream to a peer. It is part of the session.
func (r *Resource) healLoop(ctx context.Context, a *attachment) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		wait := healEvery
		if a.healable() && a.healing.TryLock() {
			if err := r.heal(ctx, a); err != nil && ctx.Err() == nil {
				r.log.Warn("what the disk lacks is not fetched yet", "err", err)
				wait = healRetry
			}
			a.healing.Unlock()
		}
		t.Reset(wait)
	}
}

// healable reports whether there is something to fetch, and a disk to write it to.
func (a *attachment) healable() bool {
	for i, p := range a.parts {
		if !p.Gone() && (p.Missing() > 0 || a.group.Unreadable(a.meta.Volumes[i].Volume) > 0) {
			return true
		}
	}
	return false
}

func (r *Resource) heal(ctx context.Context, a *attachment) error {
	n, err := a.group.Heal(ctx)
	if n > 0 {
		r.log.Info("fetched from a peer what the disk lacked", "blocks", n)
	}
	if err != nil {
		return err
	}
	if err := r.wholeAgain(a); err != nil {
		return err
	}
	r.broadcastState()
	return nil
}
