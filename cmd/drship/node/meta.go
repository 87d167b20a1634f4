package node

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"drship/internal/state"
	"drship/journal"
	"drship/wan/frame"
)

// ids returns the generation identifiers of volume i against a peer.
func (a *attachment) ids(i int, peer string) state.IDs {
	v := &a.meta.Volumes[i]
	ids := state.IDs{Current: v.Current}
	copy(ids.Older[:], v.History[copy(ids.History[:], v.History[:]):])
	for _, p := range v.Peers {
		if p.Name == peer {
			ids.Bitmap = p.Bitmap
		}
	}
	return ids
}

// setIDs stores the identifiers in memory; save makes them durable.
func (a *attachment) setIDs(i int, peer string, ids state.IDs) {
	v := &a.meta.Volumes[i]
	v.Current = ids.Current
	copy(v.History[copy(v.History[:], ids.History[:]):], ids.Older[:])
	for k := range v.Peers {
		if v.Peers[k].Name == peer {
			v.Peers[k].Bitmap = ids.Bitmap
			return
		}
	}
	if a.keepsFor(peer) {
		v.Peers = append(v.Peers, journal.PeerMeta{Name: peer, Bitmap: ids.Bitmap})
	}
}

// keepsFor reports whether there are bitmaps against a peer. One that came into the configuration since the disks were attached, or was
// forgotten, gets no slot: that it has none is what tells the next attach that nothing is known to be equal.
func (a *attachment) keepsFor(peer string) bool { return a.group.Peer(peer) != nil }

// setPeerDisk stores what is known of a peer's disk while it is out of sight; save makes it durable.
func (a *attachment) setPeerDisk(i int, peer string, d state.Disk) {
	v := &a.meta.Volumes[i]
	for k := range v.Peers {
		if v.Peers[k].Name == peer {
			v.Peers[k].Disk = d
			return
		}
	}
	if a.keepsFor(peer) {
		v.Peers = append(v.Peers, journal.PeerMeta{Name: peer, Disk: d})
	}
}

// peerDisks is what was known of a peer's disks when the metadata was last written; nil where nothing was.
func (a *attachment) peerDisks(peer string) []state.Disk {
	var disks []state.Disk
	for _, v := range a.meta.Volumes {
		for _, p := range v.Peers {
			if p.Name == peer && (p.Disk == state.Inconsistent || p.Disk == state.Outdated) {
				disks = append(disks, p.Disk)
			}
		}
	}
	if len(disks) != len(a.meta.Volumes) {
		return nil
	}
	return disks
}

// save makes the metadata durable. Called with Resource.mu held: what a peer or a client is told never goes before it.
func (a *attachment) save() error {
	if err := a.store.SetMeta(a.whole()); err != nil {
		return fmt.Errorf("save metadata: %w", err)
	}
	return nil
}

// worstDisk is the worst state of the resource's volumes. One that never had any data beside others that have does not count.
func (a *attachment) worstDisk() state.Disk {
	all, filled, some := state.UpToDate, state.UpToDate, false
	for i := range a.meta.Volumes {
		v := &a.meta.Volumes[i]
		all = min(all, v.Disk)
		if !empty(v) {
			filled, some = min(filled, v.Disk), true
		}
	}
	if !some {
		return all
	}
	return filled
}

// upToDate reports whether every volume is.
func (a *attachment) upToDate() bool {
	return !slices.ContainsFunc(a.meta.Volumes, func(v journal.VolumeMeta) bool { return v.Disk != state.UpToDate })
}

func (a *attachment) setDisks(d state.Disk) {
	for i := range a.meta.Volumes {
		a.meta.Volumes[i].Disk = d
	}
}

// newGenerationLocked begins a generation of its own where a peer's data is out of sight. It reports whether there was one to begin.
// Called with mu held; the caller saves, and then tells.
func (r *Resource) newGenerationLocked(a *attachment) bool {
	changed := false
	for i := range a.meta.Volumes {
		if untouched(&a.meta.Volumes[i]) && !a.untouched() {
			continue
		}
		changed = r.rotateLocked(a, i) || changed
	}
	return changed
}

// markPrimary sets or clears the lowest bit of Current, which tells that a Primary wrote in this generation.
func (a *attachment) markPrimary(on bool) {
	for i := range a.meta.Volumes {
		v := &a.meta.Volumes[i]
		if untouched(v) {
			continue
		}
		ids := state.IDs{Current: v.Current}
		if on {
			ids = ids.Promote()
		} else {
			ids = ids.Demote()
		}
		v.Current = ids.Current
	}
}

// random is a new generation identifier's source.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, says the package
	return binary.BigEndian.Uint64(b[:])
}

func toWire(ids state.IDs) frame.UUIDs {
	return frame.UUIDs{Current: ids.Current, Bitmap: ids.Bitmap, History: ids.History}
}

func fromWire(u frame.UUIDs) state.IDs {
	return state.IDs{Current: u.Current, Bitmap: u.Bitmap, History: u.History}
}

// changeIDsLocked lets change begin something new with the identifiers of volume i against every peer, from the same Current. Called with mu held; the caller
// saves.
func (r *Resource) changeIDsLocked(a *attachment, i int, change func(state.IDs) state.IDs) {
	current := a.meta.Volumes[i].Current
	if len(r.peers) == 0 { // a resource of its own has generations too: before the first nobody may open it
		a.meta.Volumes[i].Current = change(state.IDs{Current: current}).Current
	}
	for _, p := range r.peers {
		ids := a.ids(i, p.name)
		ids.Current = current
		a.setIDs(i, p.name, change(ids))
	}
}
