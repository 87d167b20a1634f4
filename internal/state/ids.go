package state

import (
	"fmt"
	"slices"
)

const (
	// JustCreated is the Current identifier that create-md writes: no data yet.
	JustCreated uint64 = 4
	// UUIDOffset is added to the Bitmap identifier when a resync starts, so that a start whose message was lost shows.
	UUIDOffset uint64 = 0x0001_0000_0000_0000

	// wasPrimary is the lowest bit of an identifier: the node was Primary in that generation.
	wasPrimary uint64 = 1
)

// IDs are a side's generation identifiers against one peer: which data it has, which data the peer had when the bitmap
// of changed blocks was begun, and what came before. The lowest bit tells "was Primary" and is masked when comparing.
// 0 is an empty slot. All methods return the identifiers after an event; none changes its receiver.
type IDs struct {
	Current uint64
	Bitmap  uint64
	History [2]uint64 // younger, older
	Older   [6]uint64 // what fell out of History. A pair does not speak of it; several peers need a longer memory
}

// Created returns the identifiers that create-md writes.
func Created() IDs { return IDs{Current: JustCreated} }

// String prints the identifiers as DRBD's log and get-gi do.
func (i IDs) String() string {
	return fmt.Sprintf("%016X:%016X:%016X:%016X", i.Current, i.Bitmap, i.History[0], i.History[1])
}

func mask(id uint64) uint64 { return id &^ wasPrimary }

func (i IDs) masked() IDs {
	m := IDs{Current: mask(i.Current), Bitmap: mask(i.Bitmap), History: [2]uint64{mask(i.History[0]), mask(i.History[1])}}
	for k, id := range i.Older {
		m.Older[k] = mask(id)
	}
	return m
}

// fresh makes an identifier of a random number: never an empty slot, never JustCreated.
func fresh(random, bit uint64) uint64 {
	id := mask(random)
	if id == 0 || id == JustCreated {
		id += UUIDOffset
	}
	return id | bit&wasPrimary
}

// push moves id into the history unless it is an empty slot.
func (i IDs) push(id uint64) IDs {
	if mask(id) == 0 || mask(id) == mask(i.History[0]) {
		return i
	}
	if i.History[1] != 0 {
		copy(i.Older[1:], i.Older[:])
		i.Older[0] = i.History[1]
	}
	i.History = [2]uint64{id, i.History[0]}
	return i
}

// Keep returns i with a generation in sight that before told of and i, made of it, would not: the one that the peer has. A source
// whose starts of a resync never arrive would push it out of its history, and both sides would take each other for strangers.
func (i IDs) Keep(before IDs, peerHas uint64) IDs {
	id, was, is := mask(peerHas), before.masked(), i.masked()
	known := id == was.Current || id == was.Bitmap || was.past(id)
	if id == 0 || id == JustCreated || !known || id == is.Current || id == is.Bitmap || slices.Contains(is.History[:], id) {
		return i
	}
	if k := slices.Index(is.Older[:], id); k >= 0 {
		i.Older[k] = i.History[1]
	}
	i.History[1] = id
	return i
}

// shared reports whether a resync was begun as source and its end is not known: the peer may have Current by now. While it
// lasts, Bitmap is the youngest history plus UUIDOffset.
func (i IDs) shared() bool {
	return mask(i.Bitmap) != 0 && mask(i.Bitmap) == mask(i.History[0])+UUIDOffset
}

// NeedsNewGeneration reports whether losing sight of the peer's data, or becoming Primary without it, must begin a new
// generation: somebody writes, the peer's data is out of sight or not to be counted on, ours is UpToDate, and the peer may have
// our Current. What LoseSight then returns must be durable before the next write is acknowledged.
func (i IDs) NeedsNewGeneration(role, peerRole Role, disk, peerDisk Disk) bool {
	writing := role == Primary || peerRole == Primary
	gone := peerDisk < Inconsistent || peerDisk == Outdated || peerDisk == DUnknown
	return writing && gone && disk == UpToDate && (mask(i.Bitmap) == 0 || i.shared())
}

// LoseSight begins a new generation as the peer's data goes out of sight while somebody is Primary, or as a node
// becomes Primary without it: Bitmap ← Current, Current ← random. Where Bitmap is in use the bits are counted against an older
// generation already: it stays, and so does Current, unless the peer may have taken Current over at the end of a resync
// whose confirmation was lost. DRBD writes on under the same name then, and the split brain that follows goes unnoticed.
func (i IDs) LoseSight(random uint64) IDs {
	old := i.Current
	switch {
	case mask(i.Bitmap) == 0:
		i.Bitmap = old
		i.Current = fresh(random, old)
	case i.shared():
		return i.ForceNew(random)
	}
	return i
}

// ForceNew begins a new generation whatever was there before: a forced promotion. DRBD overwrites a Bitmap in use, and
// then no longer knows its peer's generation; here the bitmap stays counted against it, and the generation that ends goes to the history.
func (i IDs) ForceNew(random uint64) IDs {
	if mask(i.Bitmap) == 0 {
		return i.LoseSight(random)
	}
	old := i.Current
	i.Current = fresh(random, old)
	return i.push(old)
}

// Promote marks the current generation as written by a Primary.
func (i IDs) Promote() IDs {
	i.Current |= wasPrimary
	return i
}

// Demote takes the mark of Promote away.
func (i IDs) Demote() IDs {
	i.Current = mask(i.Current)
	return i
}

// StartSyncSource begins, as source, a resync or a catch-up by journal, before the target is told: the old Bitmap goes to the
// history, the new one is the old plus UUIDOffset. Without an old one both are made of random, so that the two always differ by the
// offset (DRBD leaves the history alone then). The new Bitmap is what the target of a resync takes as Current until the end.
func (i IDs) StartSyncSource(random uint64) IDs {
	old := i.Bitmap
	if m := mask(old); m == 0 || m == JustCreated || mask(old+UUIDOffset) == 0 || mask(old+UUIDOffset) == JustCreated {
		old = fresh(random, random) - UUIDOffset
		if mask(old) == 0 || mask(old) == JustCreated {
			old += 2 * UUIDOffset
		}
	}
	i.Bitmap = old + UUIDOffset
	return i.push(old)
}

// StartSyncTarget begins a resync as target: its data is neither the old nor the new generation, but one of its own,
// which the source knows as its Bitmap.
func (i IDs) StartSyncTarget(sync uint64) IDs {
	i.Current = mask(sync) | i.Current&wasPrimary
	i.Bitmap = 0
	return i
}

// FinishSyncSource ends a resync, or a catch-up by journal, as source: the peer has our generation, Bitmap goes to the history.
func (i IDs) FinishSyncSource() IDs {
	old := i.Bitmap
	i.Bitmap = 0
	return i.push(old)
}

// Adopt takes over the source's whole set as its resync, or its catch-up by journal, ends; the mark of Promote stays our own.
// It does not matter whether the source has finished on its own side yet.
func (i IDs) Adopt(source IDs) IDs {
	done := source.FinishSyncSource()
	return IDs{Current: mask(done.Current) | i.Current&wasPrimary, History: done.History, Older: done.Older}
}

// ClearBitmap begins a new generation that both sides are said to have already (new-current-uuid --clear-bitmap): both
// call it with the same number.
func (i IDs) ClearBitmap(random uint64) IDs {
	i.Current = fresh(random, i.Current)
	i.Bitmap = 0
	return i
}
