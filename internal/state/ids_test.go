package state

import (
	"math/rand/v2"
	"testing"
)

func TestIdentifierEvents(t *testing.T) {
	const random = 0x7777_0000_0000_0777
	const wrapping = ^uint64(0) - UUIDOffset + 1
	for _, c := range []struct {
		name      string
		got, want IDs
	}{
		{"create-md", Created(), ids(4, 0, 0, 0)},
		{"first primary --force", Created().ForceNew(0x4FDFDBE74A8BC653).Promote(), ids(0x4FDFDBE74A8BC653, 4, 0, 0)},
		{"first resync starts, source", ids(0x4FDFDBE74A8BC653, 4, 0, 0).StartSyncSource(0xD1BC54FFD963333B), ids(0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 0xD1BB54FFD963333B, 0)},
		{"first resync starts, target", Created().StartSyncTarget(0xD1BC54FFD963333B), ids(0xD1BC54FFD963333A, 0, 0, 0)},
		{"first resync ends, source", ids(0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 4, 0).FinishSyncSource(), ids(0x4FDFDBE74A8BC653, 0, 0xD1BC54FFD963333B, 4)},
		{"first resync ends, target", ids(0xD1BC54FFD963333A, 0, 0, 0).Adopt(ids(0x4FDFDBE74A8BC653, 0, 0xD1BC54FFD963333B, 4)), ids(0x4FDFDBE74A8BC652, 0, 0xD1BC54FFD963333B, 4)},
		{"target ends before the source does", ids(0xD1BC54FFD963333A, 0, 0, 0).Adopt(ids(0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 4, 0)), ids(0x4FDFDBE74A8BC652, 0, 0xD1BC54FFD963333B, 4)},
		{"a Primary loses sight", ids(0x4FDFDBE74A8BC653, 0, 0xD1BC54FFD963333B, 4).LoseSight(0x2CC41FDC765D6190), ids(0x2CC41FDC765D6191, 0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 4)},
		{"loses sight again", ids(idA, idB, 0, 0).LoseSight(random), ids(idA, idB, 0, 0)},
		{"promoted alone", ids(0x4FDFDBE74A8BC652, 0, 0, 0).LoseSight(0xB98A50467D9BF8DA).Promote(), ids(0xB98A50467D9BF8DB, 0x4FDFDBE74A8BC652, 0, 0)},
		{"demoted", ids(0xB98A50467D9BF8DB, 0x4FDFDBE74A8BC653, 0, 0).Demote(), ids(0xB98A50467D9BF8DA, 0x4FDFDBE74A8BC653, 0, 0)},
		{"forced, bitmap in use", ids(idA, idB, idC, idD).ForceNew(random), ids(random&^1, idB, idA, idC)},
		{"resync starts, bitmap in use", ids(0x45DBE526D83B8965, 0x043895DD4331E1E7, 0x4798D800456840B7, 4).StartSyncSource(random),
			ids(0x45DBE526D83B8965, 0x043995DD4331E1E7, 0x043895DD4331E1E7, 0x4798D800456840B7)},
		{"resync starts, no bitmap", ids(idA, 0, idC, 0).StartSyncSource(random), ids(idA, random, random-UUIDOffset, idC)},
		{"resync starts, sum wraps to nothing", ids(idA, wrapping, 0, 0).StartSyncSource(random), ids(idA, random, random-UUIDOffset, 0)},
		{"resync starts, random one wraps", ids(idA, 0, 0, 0).StartSyncSource(UUIDOffset), ids(idA, 3*UUIDOffset, 2*UUIDOffset, 0)},
		{"loses sight before the end of a resync is known", ids(idA, idB, idC, 0).StartSyncSource(random).LoseSight(random), ids(random&^1, idB+off, idA, idB)},
		{"and once more", ids(idA, idB, idC, 0).StartSyncSource(random).LoseSight(random).LoseSight(random + 2), ids(random&^1, idB+off, idA, idB)},
		{"ends without a start", ids(idA, 0, idC, 0).FinishSyncSource(), ids(idA, 0, idC, 0)},
		{"clear bitmap", ids(idA|1, idB, idC, 0).ClearBitmap(random), ids(random, 0, idC, 0)},
		{"random number 0", ids(idA, 0, 0, 0).LoseSight(1), ids(UUIDOffset, idA, 0, 0)},
		{"random number 4", ids(idA, 0, 0, 0).LoseSight(5), ids(UUIDOffset+4, idA, 0, 0)},
	} {
		c.got.Older = c.want.Older // see TestOlder
		if c.got != c.want {
			t.Errorf("%s:\n got %v\nwant %v", c.name, c.got, c.want)
		}
	}
}

func TestNeedsNewGeneration(t *testing.T) {
	for _, c := range []struct {
		ids        IDs
		role, peer Role
		disk, pd   Disk
		want       bool
	}{
		{ids(idA, 0, 0, 0), Primary, RoleUnknown, UpToDate, DUnknown, true},
		{ids(idA, 0, 0, 0), Secondary, Primary, UpToDate, Diskless, true},
		{ids(idA, 0, 0, 0), Primary, Secondary, UpToDate, Outdated, true},
		{ids(idA, 0, 0, 0), Primary, Secondary, UpToDate, Inconsistent, false},
		{ids(idA, 0, 0, 0), Primary, Secondary, UpToDate, UpToDate, false},
		{ids(idA, idB, 0, 0), Primary, RoleUnknown, UpToDate, DUnknown, false},
		{ids(idA, idB+off, idB, 0), Primary, RoleUnknown, UpToDate, DUnknown, true},
		{ids(idA, 0, 0, 0), Secondary, RoleUnknown, UpToDate, DUnknown, false},
		{ids(idA, 0, 0, 0), Primary, RoleUnknown, Inconsistent, DUnknown, false},
	} {
		if got := c.ids.NeedsNewGeneration(c.role, c.peer, c.disk, c.pd); got != c.want {
			t.Errorf("%v %v/%v %v/%v: %v", c.ids, c.role, c.peer, c.disk, c.pd, got)
		}
	}
}

// pair is a model of two nodes that write whole generations: what each has on its disk is the set of writes it has seen.
type pair struct {
	node [2]modelNode
	link bool
	sync int // source of the running resync, -1 for none
	next int
}

type modelNode struct {
	ids    IDs
	role   Role
	disk   Disk
	writes map[int]bool // what is on the disk
	marked map[int]bool // what is marked as different
}

// TestIdentifiersNeverLoseAWriteUnseen walks over promotions, cuts, resyncs and lost messages, and checks at each
// handshake that the verdict fits what is really on the disks: an "equal" means equal disks, a bitmap sync makes them so, and
// writes of both sides since the last common point are always called a split brain.
func TestIdentifiersNeverLoseAWriteUnseen(t *testing.T) {
	outcomes := map[Action]int{}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := &pair{sync: -1}
		for i := range p.node {
			p.node[i] = modelNode{ids: Created(), role: Secondary, disk: Inconsistent, writes: map[int]bool{}, marked: map[int]bool{}}
		}
		for range 60 {
			p.step(t, r, outcomes)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	t.Logf("%v", outcomes)
	for _, a := range []Action{Equal, BecomeSource, BecomeTarget, SplitBrain} {
		if outcomes[a] == 0 {
			t.Errorf("%v never happened", a)
		}
	}
}

func (p *pair) step(t *testing.T, r *rand.Rand, outcomes map[Action]int) {
	i := r.IntN(2)
	n, o := &p.node[i], &p.node[1-i]
	switch r.IntN(7) {
	case 0:
		p.promote(i, r)
	case 1:
		n.role, n.ids = Secondary, n.ids.Demote()
	case 2, 3:
		p.write(i)
	case 4:
		p.cut(r)
	case 5:
		if !p.link {
			p.connect(t, r, outcomes)
		}
	case 6:
		if p.sync >= 0 {
			p.finish(t, r.IntN(4), r) // 1 and 2: the message is lost with the link
		} else if p.link && n.disk == UpToDate && o.disk == UpToDate && len(n.marked)+len(o.marked) == 0 && !sameSet(n.writes, o.writes) {
			t.Errorf("connected and UpToDate, but unequal: %v and %v", n.writes, o.writes)
		}
	}
}

func (p *pair) promote(i int, r *rand.Rand) {
	n, o := &p.node[i], &p.node[1-i]
	if p.link && o.role == Primary || n.role == Primary || p.sync >= 0 && p.sync != i {
		return
	}
	switch {
	case n.disk < UpToDate && p.link && o.disk > Inconsistent:
		return
	case n.disk < UpToDate:
		n.ids, n.disk = n.ids.ForceNew(r.Uint64()), UpToDate
	case !p.link:
		n.ids = n.ids.LoseSight(r.Uint64())
	}
	n.role, n.ids = Primary, n.ids.Promote()
	if p.link && o.disk < UpToDate && p.sync < 0 {
		p.start(i, 1-i, true, r)
	}
}

func (p *pair) write(i int) {
	n, o := &p.node[i], &p.node[1-i]
	if n.role != Primary || n.disk != UpToDate {
		return
	}
	p.next++
	n.writes[p.next] = true
	if p.link {
		o.writes[p.next] = true
		return
	}
	n.marked[p.next] = true
}

func (p *pair) cut(r *rand.Rand) {
	if !p.link {
		return
	}
	p.link, p.sync = false, -1
	for i := range p.node {
		n := &p.node[i]
		if n.ids.NeedsNewGeneration(n.role, RoleUnknown, n.disk, DUnknown) {
			n.ids = n.ids.LoseSight(r.Uint64())
		}
	}
}

func (p *pair) connect(t *testing.T, r *rand.Rand, outcomes map[Action]int) {
	a, b := &p.node[0], &p.node[1]
	if a.role == Primary && b.role == Primary {
		return
	}
	self := Side{IDs: a.ids, Role: a.role, Disk: a.disk, Changed: uint64(len(a.marked)), Tie: true}
	peer := Side{IDs: b.ids, Role: b.role, Disk: b.disk, Changed: uint64(len(b.marked))}
	d := Handshake(self, peer, Policies{})
	outcomes[d.Action]++
	switch d.Action {
	case Equal:
		if a.disk == UpToDate && b.disk == UpToDate && len(a.marked)+len(b.marked) == 0 && !sameSet(a.writes, b.writes) {
			t.Errorf("called equal: %v %v and %v %v", a.ids, a.writes, b.ids, b.writes)
		}
		p.link = true
	case BecomeSource:
		p.checkVictim(t, 1, d)
		p.correct(d, 0, 1)
		p.start(0, 1, d.Full, r)
	case BecomeTarget:
		p.checkVictim(t, 0, d)
		p.correct(d, 0, 1)
		p.start(1, 0, d.Full, r)
	default:
		// An administrator settles it: node 1 gives up.
		p.node[1] = modelNode{ids: Created(), role: Secondary, disk: Inconsistent, writes: map[int]bool{}, marked: map[int]bool{}}
	}
}

// checkVictim holds a verdict against the disks: a write that the victim accepted as UpToDate and the source lacks is never
// discarded without a split brain being called.
func (p *pair) checkVictim(t *testing.T, victim int, d Decision) {
	v, s := &p.node[victim], &p.node[1-victim]
	if v.disk != UpToDate || s.disk != UpToDate {
		return
	}
	for w := range v.writes {
		if !s.writes[w] {
			t.Errorf("rule %d discards write %d unseen: victim %v, source %v", d.Comparison.Rule, w, v.ids, s.ids)
			return
		}
	}
}

func (p *pair) correct(d Decision, self, peer int) {
	if d.Comparison.FixSelf != nil {
		p.node[self].ids = *d.Comparison.FixSelf
	}
	if d.Comparison.FixPeer != nil {
		p.node[peer].ids = *d.Comparison.FixPeer
	}
}

// start begins a resync. A bitmap sync that does not cover the difference is a lost write, so it is checked at once.
func (p *pair) start(source, target int, full bool, r *rand.Rand) {
	s, d := &p.node[source], &p.node[target]
	p.link, p.sync = true, source
	s.ids = s.ids.StartSyncSource(r.Uint64())
	for w := range d.marked {
		s.marked[w] = true
	}
	d.marked = map[int]bool{}
	if r.IntN(5) == 0 { // the message with the sync identifier is lost with the link
		p.cut(r)
		return
	}
	d.ids, d.disk = d.ids.StartSyncTarget(s.ids.Bitmap), Inconsistent
	if full {
		for w := range s.writes {
			s.marked[w] = true
		}
		for w := range d.writes {
			s.marked[w] = true
		}
	}
}

func (p *pair) finish(t *testing.T, lost int, r *rand.Rand) {
	s, d := &p.node[p.sync], &p.node[1-p.sync]
	for w := range s.marked {
		if s.writes[w] {
			d.writes[w] = true
		} else {
			delete(d.writes, w)
		}
	}
	if lost != 1 {
		if !sameSet(s.writes, d.writes) {
			t.Errorf("the resync did not cover the difference: source %v target %v", s.ids, d.ids)
		}
		d.ids, d.disk = d.ids.Adopt(s.ids), UpToDate
	}
	if lost != 2 && lost != 1 {
		s.ids, s.marked = s.ids.FinishSyncSource(), map[int]bool{}
	}
	p.sync = -1
	if lost == 1 || lost == 2 {
		p.cut(r)
	}
}

func sameSet(a, b map[int]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}

// TestStartsThatNeverArrive: however often a Primary starts a resync and loses its peer before the peer hears of it, each knows the other's data, also
// where a start did arrive in between.
func TestStartsThatNeverArrive(t *testing.T) {
	for arrives := range 6 {
		r := rand.New(rand.NewPCG(uint64(arrives), 7))
		source := Side{IDs: ids(idA|1, 0, idC, idD), Role: Primary, Disk: UpToDate}
		target := Side{IDs: ids(idA, 0, idC, idD), Role: Secondary, Disk: UpToDate}
		for cycle := range 12 {
			has := target.IDs.Current
			source.IDs = source.IDs.StartSyncSource(r.Uint64()).Keep(source.IDs, has)
			if cycle == 2*arrives {
				target.IDs, target.Disk = target.IDs.StartSyncTarget(source.IDs.Bitmap), Inconsistent
			}
			source.IDs = source.IDs.LoseSight(r.Uint64()).Keep(source.IDs, has) // it did not hear of that
			if c := Compare(source, target); c.Result != ResultFull && c.Result != ResultBitmap {
				t.Fatalf("start %d arrived, cycle %d: %+v: %v and %v", 2*arrives, cycle, c, source.IDs, target.IDs)
			}
		}
	}
}
