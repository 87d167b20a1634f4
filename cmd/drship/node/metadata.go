package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/cmd/drship/control"
	"drship/internal/block"
	"drship/internal/face"
	"drship/internal/state"
	"drship/journal"
	"drship/sender"
)

// maxBitmapRun is how many blocks are asked for at a time when a bitmap is dumped.
const maxBitmapRun = 1 << 30

// verbDumpMD prints the metadata as text. Like drbdmeta it does so for what is down: what is in use changes meanwhile.
func verbDumpMD(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	var b strings.Builder
	err := r.withStore(ctx, func(s *journal.Store) error {
		meta, err := s.Meta()
		if err != nil {
			return err
		}
		l := &look{meta: meta, crashed: meta.Primary}
		r.eachGI(l, q, func(v *journal.VolumeMeta, peer string) {
			if err == nil {
				err = r.dumpVolume(&b, s, l, v, peer)
			}
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), nil
}

func (r *Resource) dumpVolume(b *strings.Builder, s *journal.Store, l *look, v *journal.VolumeMeta, peer string) error {
	bm, err := s.Bitmap(peer, v.Volume, v.Size)
	if err != nil {
		return fmt.Errorf("open bitmap of volume %d for %s: %w", v.Volume, peer, err)
	}
	g := l.gi(v, peer)
	return face.MetaDump{Time: r.node.env.Now(), Node: r.node.env.Node, Command: fmt.Sprintf("drship dump-md %s:%s/%d", r.name, peer, v.Volume),
		Where: r.node.storeDir(r.name), IDs: g.IDs, Flags: g.Flags(), ALExtents: r.cfg.Disk.ALExtents, Size: v.Size, Blocks: bm.Count(),
		Words: func(fn func(word, times uint64)) { words(bm, uint64(v.Size+block.Size-1)/block.Size, fn) },
	}.Dump(b)
}

// words turns a bitmap of so many blocks into words of 64 bits, those that repeat as one call.
func words(bm *journal.Bitmap, blocks uint64, fn func(word, times uint64)) {
	total := (blocks + 63) / 64
	var at, word uint64 // words that fn has, and the one being filled
	fill := func(upTo, value uint64) {
		if upTo > at {
			fn(value, upTo-at)
			at = upTo
		}
	}
	for from := uint64(0); ; {
		first, n, ok := bm.Next(from, maxBitmapRun)
		if !ok {
			break
		}
		end := first + n
		if first/64 > at && word != 0 {
			fill(at+1, word)
			word = 0
		}
		fill(first/64, 0)
		for first < end {
			if first%64 == 0 && end-first >= 64 {
				fill(end/64, ^uint64(0))
				first = end &^ 63
				continue
			}
			stop := min(end, first|63+1)
			word |= ^uint64(0) >> (64 - (stop - first)) << (first % 64)
			if first = stop; first%64 == 0 {
				fill(at+1, word)
				word = 0
			}
		}
		from = end
	}
	if word != 0 {
		fill(at+1, word)
	}
	fill(total, 0)
}

// verbWipeMD removes the metadata, and with it all that the node remembers of the resource. The disks stay as they are.
func verbWipeMD(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	err := r.withStore(ctx, func(s *journal.Store) error {
		_, err := s.Meta()
		return err
	})
	if f, ok := errors.AsType[*refused](err); ok && f.exit == control.ExitUsage {
		return []string{"There appears to be no drbd meta data to wipe out?"}, r.removeStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !q.Yes("force") {
		return nil, &refused{exit: control.ExitUsage, text: "Do you really want to wipe out the DRBD meta data?\nOperation cancelled.", hint: "say so: wipe-md --force " + r.name}
	}
	if err := r.removeStore(ctx); err != nil {
		return nil, err
	}
	return []string{"Wiping meta data...", "DRBD meta data block successfully wiped out."}, nil
}

func (r *Resource) removeStore(ctx context.Context) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.attachment() != nil {
		return state.Refused(state.ErrDiskConfigured, "take the resource down first: drship down %s", r.name)
	}
	fs := r.node.env.FS
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.RemoveAll(r.node.storeDir(r.name)); err != nil {
		return fmt.Errorf("remove metadata of %s: %w", r.name, err)
	}
	return nil
}

// markOffline outdates, or invalidates, the data of a resource that is down, as drbdmeta does: only the metadata is told.
func (r *Resource) markOffline(ctx context.Context, to state.Disk) error {
	return r.withStore(ctx, func(s *journal.Store) error {
		meta, err := s.Meta()
		if err != nil {
			return err
		}
		meta.Volumes = slices.Clone(meta.Volumes)
		for i := range meta.Volumes {
			v := &meta.Volumes[i]
			if to == state.Outdated && v.Disk < state.Outdated {
				return state.Refused(state.SSLowerThanOutdated, "")
			}
			v.Disk = min(v.Disk, to)
		}
		return s.SetMeta(meta)
	})
}

// verbSetGI writes identifiers and flags, in get-gi's form: CURRENT:BITMAP:HISTORY:HISTORY[:CONSISTENT[:UPTODATE[:PRIMARY…]]].
func verbSetGI(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	ids, disk, crashed, err := parseGI(q.Options["gi"])
	if err != nil {
		return nil, &refused{exit: control.ExitUsage, text: err.Error()}
	}
	if !q.Yes("force") {
		return nil, &refused{exit: control.ExitUsage, text: "Write new GI to disk?\nOperation cancelled.", hint: "say so: --force"}
	}
	var out []string
	err = r.withStore(ctx, func(s *journal.Store) error {
		meta, err := s.Meta()
		if err != nil {
			return err
		}
		l := &look{meta: meta, crashed: meta.Primary}
		a := &attachment{meta: meta}
		r.eachGI(l, q, func(v *journal.VolumeMeta, peer string) {
			for i := range a.meta.Volumes {
				if vm := &a.meta.Volumes[i]; vm.Volume == v.Volume {
					out = append(out, "previously "+l.gi(v, peer).Line())
					a.setIDs(i, peer, ids)
					vm.Disk, a.meta.Primary = disk, crashed
					after := look{meta: a.meta, crashed: crashed}
					out = append(out, "set GI to  "+after.gi(vm, peer).Line())
				}
			}
		})
		return s.SetMeta(a.meta)
	})
	return out, err
}

// parseGI reads what get-gi prints. Flags that are left out are 0.
func parseGI(text string) (ids state.IDs, disk state.Disk, crashed bool, err error) {
	fields := strings.Split(text, ":")
	if len(fields) < 4 || len(fields) > 11 {
		return ids, 0, false, fmt.Errorf("%q: want CURRENT:BITMAP:HISTORY:HISTORY and up to seven flags", text)
	}
	for i, into := range []*uint64{&ids.Current, &ids.Bitmap, &ids.History[0], &ids.History[1]} {
		if *into, err = strconv.ParseUint(strings.TrimPrefix(fields[i], "0x"), 16, 64); err != nil {
			return ids, 0, false, fmt.Errorf("%q is not an identifier of 16 hexadecimal digits", fields[i])
		}
	}
	var flags [7]bool
	for i, f := range fields[4:] {
		if f != "0" && f != "1" {
			return ids, 0, false, fmt.Errorf("flag %q: want 0 or 1", f)
		}
		flags[i] = f == "1"
	}
	disk = state.Inconsistent
	if flags[0] {
		disk = state.Outdated
		if flags[1] {
			disk = state.UpToDate
		}
	}
	return ids, disk, flags[2] || flags[6], nil
}

// applyAL turns what the activity log holds after a crash into bits of the bitmap, as attaching does.
func (r *Resource) applyAL(ctx context.Context) (lines []string, err error) {
	err = r.withStore(ctx, func(s *journal.Store) (err error) {
		a := &attachment{store: s}
		defer func() {
			for _, d := range a.disks {
				err = errors.Join(err, d.Close())
			}
		}()
		if a.meta, err = s.Meta(); err != nil {
			return err
		}
		if !a.meta.Primary {
			return nil // nothing crashed
		}
		if err := r.openDisks(a); err != nil {
			return err
		}
		if a.group, err = sender.New(r.senderConfig(a)); err != nil {
			return err
		}
		before := outOfSync(a.group)
		err = errors.Join(a.group.HotToBitmaps(), a.group.Close(ctx))
		if more := outOfSync(a.group) - before; more > 0 {
			lines = append(lines, fmt.Sprintf("Marked additional %d MB as out-of-sync based on AL.", (more*block.Size+1<<19)>>20))
		}
		return err
	})
	return lines, err
}

func outOfSync(g *sender.Group) (blocks uint64) {
	for _, p := range g.Peers() {
		blocks += p.OutOfSync()
	}
	return blocks
}
