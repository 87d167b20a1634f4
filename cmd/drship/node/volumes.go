package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drship/internal/block"
	"drship/internal/config"
	"drship/internal/state"
	"drship/journal"
)

// Volumes come and go while a resource is up: the disks are let go of and taken again, with another set of volumes. The clients of a Primary are
// held meanwhile, and peers shake hands anew. Metadata of a volume that is not in the configuration is kept aside: should the volume come back, it is known
// what it holds.

const (
	// volumeFirst in VolumeMeta.Flags: its first synchronisation runs, so that there is nothing to go back to.
	volumeFirst uint32 = 1 << 2

	reopenTimeout = 30 * time.Second // for the disks to be let go of and taken again
	applyPatience = 5 * time.Second  // for peers to apply what they have, before they do not see this side for a moment
)

// untouched reports whether nothing has happened to a volume since create-md.
func untouched(v *journal.VolumeMeta) bool { return v.Current == state.JustCreated }

// empty reports whether a volume never had any data, or gets its first now.
func empty(v *journal.VolumeMeta) bool { return untouched(v) || v.Flags&volumeFirst != 0 }

// eldest is the first volume that has data, or the first one.
func (a *attachment) eldest() *journal.VolumeMeta {
	if i := slices.IndexFunc(a.meta.Volumes, func(v journal.VolumeMeta) bool { return !empty(&v) }); i >= 0 {
		return &a.meta.Volumes[i]
	}
	return &a.meta.Volumes[0]
}

// whole is the metadata with what is kept aside.
func (a *attachment) whole() journal.Meta {
	m := a.meta
	if len(a.aside) > 0 {
		m.Volumes = slices.Concat(a.meta.Volumes, a.aside)
	}
	return m
}

// divide takes metadata as it is stored: the volumes that are configured, in that order, and those that are kept aside.
func (a *attachment) divide(m journal.Meta, configured []*config.Volume) error {
	stored := m.Volumes
	m.Volumes, a.aside = nil, nil
	for _, vc := range configured {
		i := slices.IndexFunc(stored, func(v journal.VolumeMeta) bool { return v.Volume == vc.Number })
		if i < 0 {
			return state.Refused(state.ErrNoMetaData, "write it once: drship create-md %s/%d", m.Resource, vc.Number)
		}
		m.Volumes = append(m.Volumes, stored[i])
	}
	for _, v := range stored {
		if !slices.ContainsFunc(configured, func(vc *config.Volume) bool { return vc.Number == v.Volume }) {
			a.aside = append(a.aside, v)
		}
	}
	a.meta = m
	return nil
}

// kept is the metadata of a volume that is aside, nil where there is none.
func (a *attachment) kept(number uint16) *journal.VolumeMeta {
	for i := range a.aside {
		if a.aside[i].Volume == number {
			return &a.aside[i]
		}
	}
	return nil
}

// settleAside sees to it that the journal speaks of no volume that is aside: what it holds becomes bits, for every volume and peer. So does what was
// hot in a crash. Called before anything is written.
func (r *Resource) settleAside(a *attachment) error {
	if len(a.aside) == 0 {
		return nil
	}
	err := a.journalOfAside(func(*journal.VolumeMeta, block.Range) error { return errFound })
	speaks := errors.Is(err, errFound)
	if err != nil && !speaks {
		return fmt.Errorf("look for volumes that are gone in the journal of %s: %w", r.name, err)
	}
	if !speaks && !a.meta.Primary {
		return nil
	}
	for _, p := range a.group.Peers() {
		if speaks {
			if err := p.JournalToBitmap(); err != nil {
				return err
			}
		}
		if err := a.markAside(p.Name()); err != nil {
			return fmt.Errorf("mark for %s what the volumes that are gone differ in: %w", p.Name(), err)
		}
	}
	if !speaks {
		return nil
	}
	return a.group.DropJournal("")
}

var errFound = errors.New("found")

// journalOfAside calls fn for what the journal holds of volumes that are aside.
func (a *attachment) journalOfAside(fn func(v *journal.VolumeMeta, rg block.Range) error) error {
	log := a.store.Log()
	if log.Start() == log.End() {
		return nil
	}
	return log.Ranges(log.Start(), func(number uint16, rg block.Range) error {
		if v := a.kept(number); v != nil {
			return fn(v, rg)
		}
		return nil
	})
}

// markAside marks, against a peer, what was written to volumes that are aside.
func (a *attachment) markAside(peer string) error {
	bitmaps := map[uint16]*journal.Bitmap{}
	for i := range a.aside {
		v := &a.aside[i]
		b, err := a.store.Bitmap(peer, v.Volume, v.Size)
		if err != nil {
			return err
		}
		bitmaps[v.Volume] = b
		if a.meta.Primary { // it crashed: which extents were hot is forgotten now
			b.SetAll()
		}
	}
	err := a.journalOfAside(func(v *journal.VolumeMeta, rg block.Range) error {
		bitmaps[v.Volume].Set(rg)
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range bitmaps {
		if err := b.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// reopen lets go of the disks and takes them again as the file has them now. Called with the token held; where it fails, everything is as before.
func (r *Resource) reopen(ctx context.Context) error {
	return r.reopenWith(ctx, func() { r.take(partDisk) })
}

// reopenWith is reopen with what choose, called while nothing is attached, says is to be attached.
func (r *Resource) reopenWith(ctx context.Context, choose func()) error {
	a, err := r.mayReopen()
	if err != nil {
		return err
	}
	moving, err := r.holdStill(a)
	if err != nil {
		return err
	}
	defer r.letGo(moving)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reopenTimeout)
	defer cancel()
	primary := r.currentRole() == state.Primary
	if err := r.leaveOpen(ctx, a, primary); err != nil {
		return err
	}
	cfg, host := r.cfg, r.host
	choose()
	err = errors.Join(a.close(ctx), r.attach(ctx))
	if err != nil {
		r.mu.Lock()
		r.cfg, r.host = cfg, host
		r.mu.Unlock()
		r.log.Error("the disks are taken again as they were", "err", err)
		if again := r.attach(ctx); again != nil {
			return errors.Join(err, r.loseDisks(again))
		}
	}
	if !primary {
		return err
	}
	return errors.Join(err, r.serveAgain(ctx))
}

// mayReopen refuses what cannot be done now.
func (r *Resource) mayReopen() (*attachment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch serves := r.servesLocked(); {
	case r.att == nil:
		return nil, state.Refused(state.SSNoLocalDisk, "")
	case r.remote != nil:
		return nil, state.Refused(state.SSNoLocalDisk, "a peer serves the clients of %s: attach its disks first", r.name)
	case serves != "":
		return nil, state.Refused(state.SSNoUpToDateDisk, "%s has no good disk and uses the data here", serves)
	case r.fencing > 0 || r.moving != nil:
		return nil, state.Refused(state.SSTransientState, "I/O is held at the moment; try again")
	}
	for _, v := range r.att.meta.Volumes {
		if who := r.node.exports.clients(r.name, v.Volume); len(who) > 0 && !hasVolume(r.fileHost.Volumes, v.Volume) {
			return nil, state.MayDemote(who)
		}
	}
	return r.att, nil
}

func hasVolume(vs []*config.Volume, number uint16) bool {
	return slices.ContainsFunc(vs, func(v *config.Volume) bool { return v.Number == number })
}

// holdStill has clients that open a volume wait, and shows the resource as it is now, until letGo.
func (r *Resource) holdStill(a *attachment) (chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att != a || r.moving != nil {
		return nil, state.Refused(state.SSTransientState, "I/O is held at the moment; try again")
	}
	moving, still := make(chan struct{}), r.snapshotLocked()
	r.moving, r.still = moving, &still
	return moving, nil
}

func (r *Resource) letGo(moving chan struct{}) {
	r.mu.Lock()
	r.still = nil
	r.mu.Unlock()
	r.moved(moving)
	r.node.changed()
}

// leaveOpen leaves the disks as an orderly demotion does; the role stays. Nothing is lost of what the clients of a Primary were told is written.
func (r *Resource) leaveOpen(ctx context.Context, a *attachment, primary bool) error {
	resume := func(err error) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.suspend {
			a.group.Resume()
		}
		return err
	}
	if primary {
		if err := a.group.Suspend(ctx); err != nil {
			return resume(fmt.Errorf("wait for requests in flight: %w", err))
		}
		r.letPeersApply(ctx, a)
		if err := a.group.Settle(); err != nil {
			return resume(fmt.Errorf("bring the disks of %s in order: %w", r.name, err))
		}
	}
	r.renegotiate(nil)
	if err := drain(ctx, a); err != nil {
		return resume(fmt.Errorf("apply what is staged: %w", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := a.meta.Primary
	a.meta.Primary = a.crashed
	if err := a.save(); err != nil {
		a.meta.Primary = was
		if !r.suspend {
			a.group.Resume()
		}
		return err
	}
	r.att = nil
	return nil
}

// letPeersApply waits, for a while, until connected peers have everything on their disks: then the journal is empty, and stays so.
func (r *Resource) letPeersApply(ctx context.Context, a *attachment) {
	ctx, cancel := context.WithTimeout(ctx, applyPatience)
	defer cancel()
	for _, s := range r.sessions() {
		if s.currentSource() == nil {
			continue
		}
		if err := s.awaitApplied(ctx, a); err != nil {
			r.log.Info("a peer gets the rest later", "peer", s.peer.name, "err", err)
		}
	}
}

// serveAgain lets the clients of a Primary go on with the disks as they are now.
func (r *Resource) serveAgain(ctx context.Context) error {
	r.mu.Lock()
	a, held := r.att, r.suspend
	r.mu.Unlock()
	if held {
		if err := a.group.Suspend(ctx); err != nil {
			return fmt.Errorf("hold requests back as before: %w", err)
		}
	}
	if _, err := r.becomePrimary(a, false, false); err != nil {
		return errors.Join(err, r.loseDisks(err))
	}
	return nil
}

// loseDisks is for disks that could be let go of and not be taken again: a Primary is none any more.
func (r *Resource) loseDisks(why error) error {
	r.mu.Lock()
	r.role, r.suspend = state.Secondary, false
	r.front.Store(nil)
	r.mu.Unlock()
	r.log.Error("the disks could not be taken again; attach them once that is mended: drship attach "+r.name, "err", why)
	return why
}

// undeclaredLocked names a volume that was added and whose data counts nowhere yet: "" for any other. Called with mu held.
func (r *Resource) undeclaredLocked(number uint16) string {
	if r.att == nil || r.remote != nil {
		return ""
	}
	for i := range r.att.meta.Volumes {
		if v := &r.att.meta.Volumes[i]; v.Volume == number && untouched(v) {
			return fmt.Sprintf("%s/%d", r.name, number)
		}
	}
	return ""
}

// usedLocked is viewsLocked without volumes that were added and whose data counts nowhere yet: nobody can open them, so that they stand in no
// promotion's way. Called with mu held.
func (r *Resource) usedLocked() (state.Local, []state.PeerView) {
	l, peers := r.viewsLocked()
	if r.att == nil || r.att.untouched() {
		return l, peers
	}
	for i := len(r.att.meta.Volumes) - 1; i >= 0; i-- {
		if !untouched(&r.att.meta.Volumes[i]) {
			continue
		}
		l.Disks = slices.Delete(l.Disks, i, i+1)
		for k := range peers {
			peers[k].Disks = slices.Delete(peers[k].Disks, i, i+1)
		}
	}
	return l, peers
}

// withoutNewLocked names a peer in sight that does not have a volume that was added here: it would have to be left alone with the others until it has.
// Called with mu held.
func (r *Resource) withoutNewLocked(a *attachment) string {
	for _, p := range r.peers {
		for i, v := range p.view.Volumes {
			if p.inSight() && i < len(a.meta.Volumes) && untouched(&a.meta.Volumes[i]) && state.Disk(v.Disk) == state.Diskless {
				return p.name
			}
		}
	}
	return ""
}

// declareNew says that the data here of volumes that were added counts; it goes to the peers as a first synchronisation. This node is Primary already. Called
// with the token held.
func (r *Resource) declareNew(a *attachment) error {
	r.mu.Lock()
	if a == nil || r.remote != nil || a.upToDate() {
		r.mu.Unlock()
		return nil
	}
	if name := r.withoutNewLocked(a); name != "" {
		r.mu.Unlock()
		return state.Refused(state.SSNoRemoteDisk, "%s has no such volume yet: adjust it first, or disconnect it", name)
	}
	r.forceUpToDateLocked(a)
	r.newGenerationLocked(a)
	a.markPrimary(true)
	err := a.save()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.renegotiate(nil)
	return nil
}

// awaitMove waits while the volumes are just about to be served from elsewhere.
func (r *Resource) awaitMove(ctx context.Context) {
	r.mu.Lock()
	moving := r.moving
	r.mu.Unlock()
	if moving == nil {
		return
	}
	select {
	case <-moving:
	case <-ctx.Done():
	}
}
