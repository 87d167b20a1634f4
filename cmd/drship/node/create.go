package node

import (
	"context"
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/state"
	"drship/journal"
)

// metaOwnOrder in Meta.Flags: the data here is the end of this node's own write order, not of what it staged for a peer.
const metaOwnOrder uint32 = 1

// exitMetadataExists is what drbdmeta exits with when it is asked to overwrite metadata and is not told to.
const exitMetadataExists = 40

// createMD writes fresh metadata into the state directory. The disk is opened to learn its size and that nobody else uses
// it; not a byte of it changes.
func (r *Resource) createMD(ctx context.Context, force bool, size int64) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if r.isUp() {
		return nil, state.Refused(state.ErrDiskConfigured, "take the resource down first: drship down %s", r.name)
	}
	sizes, err := r.probeDisks(size)
	if err != nil {
		return nil, err
	}
	store, err := r.openStore()
	if err != nil {
		return nil, err
	}
	_, err = store.Meta()
	switch {
	case err == nil && !force:
		return nil, errors.Join(&refused{exit: exitMetadataExists, text: fmt.Sprintf("resource %s has metadata already", r.name),
			hint: "create-md --force forgets which data is here and who has it"}, store.Close())
	case err != nil && !errors.Is(err, journal.ErrNoMeta):
		return nil, errors.Join(fmt.Errorf("read metadata of %s: %w", r.name, err), store.Close())
	}
	if err == nil {
		if err := r.wipe(store); err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	meta := journal.Meta{Resource: r.name, Node: r.node.env.Node, Created: true}
	for i, v := range r.host.Volumes {
		meta.Volumes = append(meta.Volumes, journal.VolumeMeta{Volume: v.Number, Size: sizes[i], Disk: state.Inconsistent, Current: state.JustCreated})
	}
	if err := errors.Join(store.SetMeta(meta), store.Close()); err != nil {
		return nil, fmt.Errorf("write metadata of %s: %w", r.name, err)
	}
	return []string{"initializing activity log", "initializing bitmap", "Writing meta data...", "New drbd meta data block successfully created."}, nil
}

// probeDisks opens each disk for a moment and returns the sizes to use.
func (r *Resource) probeDisks(limit int64) ([]int64, error) {
	var sizes []int64
	for _, v := range r.host.Volumes {
		d, err := r.node.env.OpenDisk(v.Disk)
		if err != nil {
			return nil, fmt.Errorf("open disk of %s/%d: %w", r.name, v.Number, err)
		}
		size := d.Size()
		if err := d.Close(); err != nil {
			return nil, fmt.Errorf("close disk of %s/%d: %w", r.name, v.Number, err)
		}
		for _, want := range []int64{v.DiskOptions.Size, limit} {
			if want > size {
				return nil, fmt.Errorf("disk %s of %s/%d has %d bytes, %d are asked for", v.Disk, r.name, v.Number, size, want)
			}
			if want > 0 {
				size = want
			}
		}
		if size == 0 {
			return nil, fmt.Errorf("disk %s of %s/%d is empty", v.Disk, r.name, v.Number)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
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
