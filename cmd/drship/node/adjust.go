package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/setup"
	"drship/internal/state"
)

// fromFile are the verbs that do what the configuration says: it is read again before, as drbdadm does.
var fromFile = map[string]bool{"up": true, "attach": true, "connect": true, "create-md": true, "adjust": true, "syncer": true, "rename-resource": true}

// refresh reads the configuration again for a verb that follows it.
func (n *Node) refresh(ctx context.Context, q *control.Request) error {
	if !fromFile[q.Verb] {
		return nil
	}
	if file := q.Options["follow"]; file != "" && !sameFile(file, n.env.ConfigFile) {
		return &control.Error{What: file, Text: "the daemon follows " + n.env.ConfigFile, Exit: control.ExitRefused,
			Hint: "a file of its own goes with commands that only look: dump, sh-*, and anything with --dry-run"}
	}
	return n.reload(ctx)
}

func verbAdjust(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer r.backInSight(ctx, r.inSight())
	defer release()
	want := r.asked()
	steps := setup.Plan(r.running(), want)
	if err := r.possible(steps); err != nil {
		return nil, err
	}
	for i := range steps {
		if err := r.carryOut(ctx, &steps[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", steps[i].Kind, err)
		}
		r.log.Info("adjusted", "step", steps[i].Kind, "changed", strings.Join(steps[i].Changed, " "))
	}
	r.mu.Lock()
	r.takeLocked(partAll)
	r.mu.Unlock()
	r.node.changed()
	return nil, nil
}

// possible refuses a plan that would break off in the middle.
func (r *Resource) possible(steps []setup.Step) error {
	a := r.attachment()
	if a == nil {
		return nil
	}
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Kind == setup.Attach && !a.holds(s.Volume.Number):
			if a.kept(s.Volume.Number) == nil {
				return state.Refused(state.ErrNoMetaData, "write it once: drship create-md %s/%d", r.name, s.Volume.Number)
			}
			if err := r.probeDisk(s.Volume.Number); err != nil {
				return err
			}
		case s.Kind == setup.Connect && a.group.Peer(s.Peer.Name) == nil:
			return &refused{exit: control.ExitRefused, text: "peer " + s.Peer.Name + " is new, and has no bitmap here yet",
				hint: fmt.Sprintf("it gets one when the disks are attached: drship down %s, drship up %s", r.name, r.name)}
		}
	}
	return nil
}

// probeDisk opens the disk of a volume that is to come for a moment: what cannot be had is better known before anything is let go of.
func (r *Resource) probeDisk(number uint16) error {
	vc, err := volumeOf(r.fileHost.Volumes, int(number))
	if err != nil {
		return err
	}
	d, err := r.node.env.OpenDisk(vc.Disk)
	if err != nil {
		return fmt.Errorf("open disk of %s/%d: %w", r.name, number, err)
	}
	return d.Close()
}

// takesReopening reports whether a step is done by letting go of the disks and taking them again: volumes that come or go, and options that count
// from an attach on.
func (r *Resource) takesReopening(s *setup.Step) bool {
	a := r.attachment()
	if a == nil {
		return false
	}
	switch s.Kind {
	case setup.Detach, setup.DelMinor:
		return a.holds(s.Volume.Number) && !hasVolume(r.fileHost.Volumes, s.Volume.Number)
	case setup.NewMinor:
		return !a.holds(s.Volume.Number) && a.kept(s.Volume.Number) != nil
	case setup.Attach:
		return !a.holds(s.Volume.Number)
	case setup.DiskOptions:
		now, want := r.running(), r.asked()
		changed := setup.Differing("journal", now.Journal, want.Journal)
		if v := now.Volume(s.Volume.Number); v != nil {
			changed = append(changed, setup.Differing("disk", v.Options, s.Volume.Options)...)
		}
		return slices.ContainsFunc(changed, countsFromAttach)
	}
	return false
}

// countsFromAttach reports whether an option of a disk or the journal takes effect when the disks are attached.
func countsFromAttach(option string) bool {
	return slices.Contains([]string{"al-extents", "max-size", "max-staged", "max-history", "on-full", "rs-discard-granularity"}, option)
}

// carryOut makes one step. Called with the token held.
func (r *Resource) carryOut(ctx context.Context, s *setup.Step) error {
	if r.takesReopening(s) {
		return r.reopen(ctx)
	}
	switch s.Kind {
	case setup.Detach:
		return r.detachFor(ctx, s.Volume)
	case setup.Attach:
		return r.attachAgain(ctx)
	case setup.ResourceOptions:
		r.take(partOptions)
	case setup.Resize:
		return r.resizeToFile(ctx, s.Volume.Number)
	case setup.DiskOptions:
		r.take(partDisk)
		r.wakeResyncs()
	case setup.Disconnect:
		r.disconnect([]string{s.Peer.Name})
	case setup.Connect:
		if err := r.refreshNet(); err != nil {
			return err
		}
		return r.connect(ctx, []string{s.Peer.Name}, connectOptions{})
	case setup.NetOptions:
		return r.changeNet(ctx, s.Peer.Name, s.Changed, func() error { r.takeLocked(partNet); return nil })
	case setup.PeerDeviceOptions:
		r.mu.Lock()
		r.peerLocked(s.Peer.Name).steered = nil
		r.mu.Unlock()
		r.wakeResyncs()
	case setup.NewResource, setup.NewMinor, setup.DelMinor: // nothing to do but to take the file's names over, which comes last
	}
	return nil
}

func (r *Resource) take(p part) {
	r.mu.Lock()
	r.takeLocked(p)
	r.mu.Unlock()
}

// detachFor lets go of the disks where one of them is another now. A volume that only has another minor keeps its disk.
func (r *Resource) detachFor(ctx context.Context, v *setup.Volume) error {
	want := r.asked()
	if now := want.Volume(v.Number); now != nil && now.Disk == v.Disk {
		return nil
	}
	if a := r.attachment(); a == nil || !a.holds(v.Number) {
		return nil
	}
	return r.detachDisks(ctx)
}

// attachAgain attaches as the file has it; nil where that is done.
func (r *Resource) attachAgain(ctx context.Context) error {
	if r.attachment() != nil {
		return nil
	}
	r.take(partDisk)
	if err := r.attach(ctx); err != nil {
		return err
	}
	r.renegotiate(nil)
	return nil
}

// resizeToFile grows a volume to the size that the file gives it. The Primary's side does so for both.
func (r *Resource) resizeToFile(ctx context.Context, number uint16) error {
	r.take(partDisk)
	if r.currentRole() != state.Primary {
		r.log.Info("the size is changed from the Primary", "volume", number)
		return nil
	}
	return r.resizeVolumes(ctx, int(number), 0, false)
}
