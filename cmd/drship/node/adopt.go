package node

import (
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/config"
	"drship/internal/disk"
	"drship/internal/drbdmd"
	"drship/internal/state"
	"drship/journal"
)

// foreign is the metadata that DRBD left on a disk, and the device that holds it while it is read.
type foreign struct {
	super *drbdmd.Super
	where string // the device's path
	meta  disk.Disk
	own   bool // meta was opened for this alone
}

// reader makes an io.ReaderAt of a disk.
type reader struct{ disk.Disk }

func (r reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > r.Size() {
		return 0, errors.New("read behind the end of the device")
	}
	if err := r.Disk.ReadAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// lookForDRBD looks where the configuration says that DRBD keeps its metadata. It returns nil where there is none, also where a
// meta-disk of its own cannot be opened: drship has no use for it.
func (r *Resource) lookForDRBD(vc *config.Volume, data disk.Disk) (*foreign, error) {
	f := &foreign{where: vc.Disk, meta: data}
	place := drbdmd.Place{Internal: true}
	if vc.MetaDisk != "" && vc.MetaDisk != "internal" {
		m, err := r.node.env.OpenDisk(vc.MetaDisk)
		if err != nil {
			return nil, nil //nolint:nilerr // see above
		}
		f.where, f.meta, f.own = vc.MetaDisk, m, true
		place = drbdmd.Place{Index: vc.MetaIndex}
	}
	super, err := drbdmd.Find(reader{f.meta}, f.meta.Size(), place)
	if errors.Is(err, drbdmd.ErrNone) {
		return nil, f.close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.where, err), f.close())
	}
	f.super = super
	return f, nil
}

func (f *foreign) close() error {
	if f == nil || !f.own {
		return nil
	}
	return f.meta.Close()
}

// refusal is what drbdmeta says before it asks whether to overwrite.
func (f *foreign) refusal() error {
	return &refused{exit: exitMetadataExists,
		text: fmt.Sprintf("There appears to be %s\nalready in place on %s at byte offset %d\nOperation refused.", f.super, f.where, f.super.Offset),
		hint: "create-md --adopt takes the disk over as DRBD left it; --force uses all of it and forgets what DRBD knew"}
}

// adopt fills in what DRBD knew of a volume. What is not clean says too little about the data: then only the size is taken.
func (r *Resource) adopt(f *foreign, d disk.Disk, vm *journal.VolumeMeta, store *journal.Store) (line string, err error) {
	s := f.super
	vm.Size = s.Usable(d.Size())
	if vm.Size > d.Size() {
		return "", fmt.Errorf("DRBD agreed on %d bytes for %s, which has %d", vm.Size, f.where, d.Size())
	}
	line = fmt.Sprintf("Found %s on %s at byte offset %d, taken over: %d bytes", s, f.where, s.Offset, vm.Size)
	if !s.Clean() {
		return line + ". It is not clean, so its identifiers are not taken: the first connection syncs in full", nil
	}
	vm.Disk, vm.Current = s.Disk(), s.Current
	if store == nil {
		return line, nil
	}
	copy(vm.History[:], s.History[:])
	var blocks uint64
	for _, p := range r.peers {
		id := p.cfg.Host.NodeID
		vm.Peers = append(vm.Peers, journal.PeerMeta{Name: p.name, Bitmap: s.IDs(id).Bitmap})
		b, err := store.Bitmap(p.name, vm.Volume, vm.Size)
		if err != nil {
			return "", fmt.Errorf("open bitmap for %s: %w", p.name, err)
		}
		if err := s.OutOfSync(reader{f.meta}, d.Size(), id, func(run block.Range) { b.Set(run) }); err != nil {
			return "", err
		}
		if err := b.Flush(); err != nil {
			return "", fmt.Errorf("store bitmap for %s: %w", p.name, err)
		}
		blocks += b.Count()
	}
	return fmt.Sprintf("%s, %s, %d KiB out of sync", line, vm.Disk, blocks*block.Size/1024), nil
}

// fresh is the metadata of a volume whose data nobody knows.
func fresh(number uint16, size int64) journal.VolumeMeta {
	return journal.VolumeMeta{Volume: number, Size: size, Disk: state.Inconsistent, Current: state.JustCreated}
}
