package node

import (
	"context"
	"fmt"
	"slices"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/state"
	"drship/journal"
)

// create-md of a single volume: of a resource that is up for one that is about to be added, and of one that is down beside those that have metadata.

func (r *Resource) metadataExists(volume string) error {
	return &refused{exit: exitMetadataExists,
		text: fmt.Sprintf("There appears to be meta data of %s%s\nalready in place in %s\nOperation refused.", r.name, volume, r.node.storeDir(r.name)),
		hint: "create-md --force forgets which data is here and who has it"}
}

// volumeOf finds a volume of the configuration.
func volumeOf(vs []*config.Volume, number int) (*config.Volume, error) {
	i := slices.IndexFunc(vs, func(v *config.Volume) bool { return int(v.Number) == number })
	if i < 0 {
		return nil, &refused{exit: control.ExitUsage, text: fmt.Sprintf("volume %d is not in the configuration of this host", number)}
	}
	return vs[i], nil
}

// createBeside writes metadata of a volume that the file has and the resource, which is up, does not use yet. Called with the token held.
func (r *Resource) createBeside(ctx context.Context, a *attachment, o createOptions) ([]string, error) {
	v, err := volumeOf(r.fileHost.Volumes, o.volume)
	if err != nil {
		return nil, err
	}
	if a.kept(v.Number) != nil && !o.force {
		return nil, r.metadataExists(fmt.Sprintf("/%d", v.Number))
	}
	vm, lines, err := r.freshVolume(ctx, a.store, v, o)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := a.aside
	a.aside = with(a.aside, vm)
	if err := a.save(); err != nil {
		a.aside = before
		return nil, err
	}
	return lines, nil
}

// createAlone is createBeside for a resource that is down; meta is what is stored already.
func (r *Resource) createAlone(ctx context.Context, store *journal.Store, meta journal.Meta, o createOptions) ([]string, error) {
	v, err := volumeOf(r.host.Volumes, o.volume)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(meta.Volumes, func(m journal.VolumeMeta) bool { return m.Volume == v.Number }) {
		if !o.force {
			return nil, r.metadataExists(fmt.Sprintf("/%d", v.Number))
		}
		if applied, staged := store.Staging().Marks(); applied != staged || store.Log().Start() != store.Log().End() {
			return nil, &refused{exit: control.ExitRefused, text: "the journal holds writes to the volume that a peer, or the disk here, still lacks",
				hint: fmt.Sprintf("bring the resource up until it is in sync, or forget all of it: drship create-md --force %s", r.name)}
		}
	}
	vm, lines, err := r.freshVolume(ctx, store, v, o)
	if err != nil {
		return nil, err
	}
	meta.Resource, meta.Node, meta.Created = r.name, r.node.env.Node, true
	meta.Volumes = with(meta.Volumes, vm)
	if err := store.SetMeta(meta); err != nil {
		return nil, fmt.Errorf("write metadata of %s/%d: %w", r.name, v.Number, err)
	}
	return lines, nil
}

// freshVolume probes the disk, and clears what bitmaps of an older life of the volume hold.
func (r *Resource) freshVolume(ctx context.Context, store *journal.Store, v *config.Volume, o createOptions) (vm journal.VolumeMeta, lines []string, err error) {
	if vm, lines, err = r.probeVolume(ctx, nil, v, createOptions{force: o.force, size: o.size}); err != nil {
		return vm, nil, err
	}
	for _, p := range r.peers {
		b, err := store.Bitmap(p.name, v.Number, vm.Size)
		if err != nil {
			return vm, nil, fmt.Errorf("open bitmap of volume %d for %s: %w", v.Number, p.name, err)
		}
		b.ClearAll()
		if err := b.Flush(); err != nil {
			return vm, nil, fmt.Errorf("clear bitmap of volume %d for %s: %w", v.Number, p.name, err)
		}
	}
	if o.adopt {
		vm, lines, err = r.probeVolume(ctx, store, v, o)
	}
	if o.clean && vm.Current == state.JustCreated {
		vm.Flags |= volumeCarried
	}
	return vm, lines, err
}

// with replaces a volume in a list, or adds it.
func with(list []journal.VolumeMeta, vm journal.VolumeMeta) []journal.VolumeMeta {
	out := slices.DeleteFunc(slices.Clone(list), func(v journal.VolumeMeta) bool { return v.Volume == vm.Volume })
	return append(out, vm)
}
