package node

import (
	"context"
	"errors"
	"fmt"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/config"
	"drship/internal/disk"
	"drship/internal/drbdmd"
	"drship/internal/state"
	"drship/journal"
)

// metaOwnOrder in Meta.Flags: the data here is the end of this node's own write order, not of what it staged for a peer.
const metaOwnOrder uint32 = 1

// What an administrator wanted to last, in Meta.Flags too.
const (
	metaPauseSync uint32 = 1 << 1 // pause-sync --keep
	metaHold      uint32 = 1 << 2 // pause --keep
	metaGivesUp   uint32 = 1 << 4 // this side is, or was when it crashed, a target that loses what it wrote on its own
	metaServed    uint32 = 1 << 3 // served a Primary without a disk, and nobody else wrote here since
)

// exitMetadataExists is what drbdmeta exits with when it is asked to overwrite metadata and is not told to.
const exitMetadataExists = 40

// createOptions of create-md.
type createOptions struct {
	force, adopt bool
	clean        bool  // the disk was carried over: the peer's holds the same, or nearly
	size         int64 // use only so many bytes of each disk; 0: all
	volume       int   // of this volume alone, or control.AnyVolume
}

// createMD writes fresh metadata into the state directory, or what DRBD left on the disks with adopt. The disks are opened
// to learn their sizes, what is on them and that nobody else uses them; not a byte of them changes.
func (r *Resource) createMD(ctx context.Context, o createOptions) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if a := r.attachment(); a != nil && o.volume != control.AnyVolume && !a.holds(uint16(o.volume)) {
		lines, err := r.createBeside(ctx, a, o)
		return append(lines, written...), err
	}
	if r.isUp() {
		return nil, state.Refused(state.ErrDiskConfigured, "take the resource down first: drship down %s", r.name)
	}
	store, err := r.openStore()
	if err != nil {
		return nil, err
	}
	lines, err := r.writeMD(ctx, store, o)
	if err := errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	return append(lines, written...), nil
}

var written = []string{"initializing activity log", "initializing bitmap", "Writing meta data...", "New drbd meta data block successfully created."}

// writeMD is createMD with the store open.
func (r *Resource) writeMD(ctx context.Context, store *journal.Store, o createOptions) ([]string, error) {
	meta, err := store.Meta()
	if o.volume != control.AnyVolume && len(r.host.Volumes) > 1 && (err == nil || errors.Is(err, journal.ErrNoMeta)) {
		return r.createAlone(ctx, store, meta, o)
	}
	switch {
	case err == nil && !o.force:
		return nil, r.metadataExists("")
	case err == nil:
		for _, v := range r.host.Volumes { // what fails must not cost the metadata that is there
			if _, _, err := r.probeVolume(ctx, nil, v, o); err != nil {
				return nil, err
			}
		}
		if err := r.wipe(store); err != nil {
			return nil, err
		}
	case !errors.Is(err, journal.ErrNoMeta):
		return nil, fmt.Errorf("read metadata of %s: %w", r.name, err)
	}
	meta = journal.Meta{Resource: r.name, Node: r.node.env.Node, Created: true}
	var lines []string
	for _, v := range r.host.Volumes {
		vm, said, err := r.probeVolume(ctx, store, v, o)
		if err != nil {
			return nil, err
		}
		if o.clean && vm.Current == state.JustCreated {
			vm.Flags |= volumeCarried
		}
		meta.Volumes = append(meta.Volumes, vm)
		lines = append(lines, said...)
	}
	if err := store.SetMeta(meta); err != nil {
		return nil, fmt.Errorf("write metadata of %s: %w", r.name, err)
	}
	return lines, nil
}

// probeVolume opens a disk for a moment and makes the metadata of its volume. Without a store nothing is written.
func (r *Resource) probeVolume(ctx context.Context, store *journal.Store, v *config.Volume, o createOptions) (vm journal.VolumeMeta, lines []string, err error) {
	d, err := r.node.env.OpenDisk(v.Disk)
	if errors.Is(err, disk.ErrInUse) {
		return vm, nil, &refused{exit: exitMetadataExists, text: err.Error() + "\nOperation refused.", hint: "unmount it, or stop what else uses it"}
	}
	if err != nil {
		return vm, nil, fmt.Errorf("open disk of %s/%d: %w", r.name, v.Number, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	f, err := r.lookForDRBD(v, d)
	if errors.Is(err, drbdmd.ErrBroken) && o.force {
		err = nil
	}
	if err != nil {
		return vm, nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if kind := filesystem(ctx, v.Disk); kind != "" {
		lines = append(lines, foundFilesystem(kind, v.Disk))
	}
	switch {
	case o.adopt && f == nil:
		return vm, nil, &refused{exit: control.ExitRefused, text: "No valid meta data found\n" + v.Disk + " holds none of DRBD's", hint: "without --adopt the disk is taken as it is, with all of its size"}
	case o.adopt:
		vm = fresh(v.Number, 0)
		line, err := r.adopt(f, d, &vm, store)
		return vm, append(lines, line), err
	case f != nil && !o.force:
		return vm, nil, f.refusal()
	}
	size, err := r.usable(v, d.Size(), o.size)
	return fresh(v.Number, size), lines, err
}

// usable is the size to use of a disk, which configuration and option may limit.
func (r *Resource) usable(v *config.Volume, size, limit int64) (int64, error) {
	have := size
	for _, want := range []int64{v.DiskOptions.Size, limit} {
		if want > have {
			return 0, fmt.Errorf("disk %s of %s/%d has %d bytes, %d are asked for", v.Disk, r.name, v.Number, have, want)
		}
		if want > 0 {
			size = want
		}
	}
	if size == 0 {
		return 0, fmt.Errorf("disk %s of %s/%d is empty", v.Disk, r.name, v.Number)
	}
	return size, nil
}

// wipe forgets what an older life of the resource left behind.
func (r *Resource) wipe(store *journal.Store) error {
	if _, err := store.Log().Drop(); err != nil {
		return err
	}
	if err := store.Staging().Reset(block.Seq{}); err != nil {
		return err
	}
	if err := store.History().End(); err != nil {
		return err
	}
	for _, p := range r.peers {
		if err := store.ForgetPeer(p.name); err != nil {
			return err
		}
	}
	return nil
}
