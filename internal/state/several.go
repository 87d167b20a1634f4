package state

// What a resource with several peers asks for beside what a pair does.

// Bystanders reports whether two sides leave each other alone: neither is Primary, and at least one of them has its data from a third
// node at the moment. That node brings both up to date; what they lack of each other is settled once it is gone. It is symmetrical.
func Bystanders(self, peer Side) bool {
	return self.Role != Primary && peer.Role != Primary && (self.Follows || peer.Follows)
}

// Slot is the bitmap slot that a volume keeps against one peer.
type Slot struct {
	Bitmap  uint64
	Sharing bool   // it was told of Current, and may have taken it over: an end that was not heard of
	InSight bool   // connected, and in use
	Has     uint64 // in sight: the peer's Current, as it said last
}

// Generation is what a volume has of identifiers: one Current and one history, and a slot for each peer. IDs.Bitmap is not used.
type Generation struct {
	IDs
	Slots []Slot
}

// Rotate begins a new generation where a peer out of sight may have the current one: somebody writes, and that peer does not hear of it.
// A peer in sight goes along, but until it says so it has the old one: its slot tells. What ends stays known: in a slot, or, where a slot
// names an older generation still, in the history. It reports whether anything changed; g is not changed.
func (g Generation) Rotate(random uint64) (Generation, bool) {
	need := false
	for _, s := range g.Slots {
		need = need || !s.InSight && (mask(s.Bitmap) == 0 || g.unsure(s))
	}
	if !need {
		return g, false
	}
	next := Generation{IDs: g.IDs, Slots: append([]Slot(nil), g.Slots...)}
	kept := false
	for i, s := range g.Slots {
		switch {
		case mask(s.Bitmap) == 0, s.InSight && mask(s.Has) == mask(g.Current):
			next.Slots[i].Bitmap, next.Slots[i].Sharing = g.Current, false
		default:
			kept = kept || s.InSight || g.unsure(s)
			next.Slots[i].Sharing = s.Sharing && s.InSight
		}
	}
	if kept {
		next.IDs = next.push(g.Current)
	}
	next.Current = fresh(random, g.Current)
	return next, true
}

// unsure reports whether the peer may have the current generation although its slot names another.
func (g Generation) unsure(s Slot) bool {
	return s.Sharing || IDs{Bitmap: s.Bitmap, History: g.History}.shared()
}
