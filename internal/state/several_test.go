package state

import "testing"

func TestBystanders(t *testing.T) {
	follows := func(s *Side) { s.Follows = true }
	none := ids(idA, 0, 0, 0)
	for _, c := range []struct {
		name       string
		self, peer Side
		want       bool
	}{
		{"nobody has a source", side(none), side(none), false},
		{"self has", side(none, follows), side(none), true},
		{"both have", side(none, follows), side(none, follows), true},
		{"the peer is Primary", side(none, follows), side(none, primary), false},
		{"self is Primary", side(none, primary), side(none, follows), false},
	} {
		if got := Bystanders(c.self, c.peer); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if got := Bystanders(c.peer, c.self); got != c.want {
			t.Errorf("%s, seen from the peer: %v", c.name, got)
		}
	}
}

func TestRotate(t *testing.T) {
	const random = 0x7777_0000_0000_0777
	const next = random &^ 1
	out := func(bitmap uint64) Slot { return Slot{Bitmap: bitmap} }
	in := func(bitmap, has uint64) Slot { return Slot{Bitmap: bitmap, Has: has, InSight: true} }
	for _, c := range []struct {
		name    string
		from    Generation
		changed bool
		want    Generation
	}{
		{"nobody is out of sight", Generation{ids(idA, 0, idC, 0), []Slot{in(0, idA), in(0, idA)}}, false, Generation{}},
		{"who is out of sight has an older one", Generation{ids(idA, 0, idC, 0), []Slot{out(idB), in(0, idA)}}, false, Generation{}},
		{"one is lost, one goes along", Generation{ids(idA, 0, idC, 0), []Slot{out(0), in(0, idA)}}, true,
			Generation{ids(next, 0, idC, 0), []Slot{out(idA), in(idA, idA)}}},
		{"the other is lost as well", Generation{ids(idA, 0, idC, 0), []Slot{out(idB), out(0)}}, true,
			Generation{ids(next, 0, idC, 0), []Slot{out(idB), out(idA)}}},
		{"what is said of a peer in sight is out of date", Generation{ids(idA, 0, idC, 0), []Slot{out(0), in(idB, idA)}}, true,
			Generation{ids(next, 0, idC, 0), []Slot{out(idA), in(idA, idA)}}},
		{"a peer in sight is amid a resync", Generation{ids(idA, 0, idC, 0), []Slot{out(0), in(idB, idB)}}, true,
			Generation{ids(next, 0, idA, idC), []Slot{out(idA), in(idB, idB)}}},
		{"the end of a resync was not heard of", Generation{ids(idA, 0, idC, 0), []Slot{{Bitmap: idB, Sharing: true}, in(0, idA)}}, true,
			Generation{ids(next, 0, idA, idC), []Slot{out(idB), in(idA, idA)}}},
		{"the same in a pair's words", Generation{ids(idA, 0, idB, 0), []Slot{out(idB + off)}}, true,
			Generation{ids(next, 0, idA, idB), []Slot{out(idB + off)}}},
		{"the mark of a Primary stays", Generation{ids(idA|1, 0, 0, 0), []Slot{out(0)}}, true,
			Generation{ids(random, 0, 0, 0), []Slot{out(idA | 1)}}},
	} {
		got, changed := c.from.Rotate(random)
		if changed != c.changed {
			t.Errorf("%s: changed: %v", c.name, changed)
		}
		if !changed {
			continue
		}
		if got.IDs != c.want.IDs {
			t.Errorf("%s: %v, want %v", c.name, got.IDs, c.want.IDs)
		}
		for i := range got.Slots {
			if got.Slots[i] != c.want.Slots[i] {
				t.Errorf("%s: slot %d: %+v, want %+v", c.name, i, got.Slots[i], c.want.Slots[i])
			}
		}
	}
}

// A pair's rotation is what losing sight of the peer is.
func TestRotatePair(t *testing.T) {
	for _, i := range []IDs{ids(idA, 0, 0, 0), ids(idA|1, 0, idC, idD), ids(idA, idB, idC, 0), ids(idA, idB+off, idB, idC)} {
		g, changed := Generation{i, []Slot{{Bitmap: i.Bitmap}}}.Rotate(idE)
		got := g.IDs
		got.Bitmap = g.Slots[0].Bitmap
		if want := i.LoseSight(idE); got != want || changed != (want != i) {
			t.Errorf("%v: rotates to %v (%v), loses sight to %v", i, got, changed, want)
		}
	}
}

// Eight generations are remembered, the youngest first.
func TestOlder(t *testing.T) {
	var i IDs
	for n := range uint64(10) {
		i = i.push(0x100 * (n + 1))
	}
	if want := (IDs{History: [2]uint64{0xA00, 0x900}, Older: [6]uint64{0x800, 0x700, 0x600, 0x500, 0x400, 0x300}}); i != want {
		t.Errorf("%x, want %x", i, want)
	}
	if again := i.push(0xA00); again != i {
		t.Errorf("the same twice: %x", again)
	}
}

// Rows that only several peers meet. Each is held against its mirror image too.
func TestCompareSeveral(t *testing.T) {
	received := func(s *Side) { s.Received = true }
	old := ids(idA, idB, idC, idD)
	old.Older[3] = idE
	fixed := ids(idA, idE, idC, idD)
	fixed.Older[3] = idB
	for _, c := range []struct {
		name       string
		self, peer Side
		rule       Rule
		result     int
		fixSelf    *IDs
	}{
		{"two receivers, whatever was said of them", side(ids(idA, idB, 0, 0), received), side(ids(idA, 0, 0, 0), received), 40, 0, nil},
		{"a receiver's word does not count against a source's", side(ids(idA, 0, idB, 0)), side(ids(idA, idC, 0, 0), received), 40, 0, nil},
		{"a source knows better", side(ids(idA, idB, idC, 0)), side(ids(idA, idC, 0, 0), received), 36, 1, nil},
		{"a generation from long ago", side(old), side(ids(idE, 0, 0, 0)), 80, 2, nil},
		{"it took over what ended long ago", side(old), side(ids(idE, 0, idB, 0)), 72, 1, &fixed},
	} {
		got := Compare(c.self, c.peer)
		if got.Rule != c.rule || got.Result != c.result {
			t.Errorf("%s: %d by rule %d, want %d by rule %d", c.name, got.Result, got.Rule, c.result, c.rule)
		}
		if (got.FixSelf == nil) != (c.fixSelf == nil) || c.fixSelf != nil && *got.FixSelf != *c.fixSelf {
			t.Errorf("%s: corrected to %v, want %v", c.name, got.FixSelf, c.fixSelf)
		}
		if back := Compare(c.peer, c.self); back.Result != -c.result {
			t.Errorf("%s: mirrored %d", c.name, back.Result)
		}
	}
}

// A resync from a third node that was not finished may be finished by another, in full where the identifiers say nothing.
func TestUnfinishedResync(t *testing.T) {
	received := func(s *Side) { s.Received = true }
	self, peer := side(ids(idA, 0, 0, 0)), side(ids(idB, 0, 0, 0), received, inconsistent)
	if d := Handshake(self, peer, Policies{}); d.Action != BecomeSource || !d.Full {
		t.Errorf("%v, full %v", d.Action, d.Full)
	}
	if d := Handshake(peer, self, Policies{}); d.Action != BecomeTarget || !d.Full {
		t.Errorf("mirrored: %v, full %v", d.Action, d.Full)
	}
	if d := Handshake(self, side(ids(idB, 0, 0, 0), inconsistent), Policies{}); d.Action != Unrelated {
		t.Errorf("a pair's peer that is Inconsistent: %v", d.Action)
	}
}
