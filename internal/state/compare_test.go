package state

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

const (
	idA uint64 = 0xA000_0000_0000_00A0
	idB uint64 = 0xB000_0000_0000_00B0
	idC uint64 = 0x0C00_0000_0000_00C0
	idD uint64 = 0x0D00_0000_0000_00D0
	idE uint64 = 0x0E00_0000_0000_00E0
	off        = UUIDOffset
)

func ids(current, bitmap, h0, h1 uint64) IDs {
	return IDs{Current: current, Bitmap: bitmap, History: [2]uint64{h0, h1}}
}

// side makes a side of identifiers, UpToDate and Secondary; the options change it.
func side(i IDs, options ...func(*Side)) Side {
	s := Side{IDs: i, Role: Secondary, Disk: UpToDate}
	for _, o := range options {
		o(&s)
	}
	return s
}

func primary(s *Side)      { s.Role = Primary }
func crashed(s *Side)      { s.CrashedPrimary = true }
func tied(s *Side)         { s.Tie = true }
func inconsistent(s *Side) { s.Disk = Inconsistent }
func outdated(s *Side)     { s.Disk = Outdated }
func diskless(s *Side)     { s.Disk = Diskless }
func discard(s *Side)      { s.DiscardMyData = true }
func tentative(s *Side)    { s.Tentative = true }
func changed(n uint64) func(*Side) {
	return func(s *Side) { s.Changed = n }
}
func at(epoch, num uint64) func(*Side) {
	return func(s *Side) { s.Epoch, s.Num = epoch, num }
}

func TestCompareRules(t *testing.T) {
	zero := ids(0, 0, 0, 0)
	just := Created()
	for _, c := range []struct {
		name       string
		self, peer Side
		rule       Rule
		result     int
		fixSelf    *IDs
		fixPeer    *IDs
	}{
		{"both just created", side(just), side(just), 10, 0, nil, nil},
		{"neither has identifiers", side(zero), side(zero), 10, 0, nil, nil},
		{"self just created", side(just), side(ids(idA, 0, 0, 0)), 20, -2, nil, nil},
		{"self empty", side(zero), side(ids(idA, 0, 0, 0)), 20, -2, nil, nil},
		{"peer just created, as real DRBD logged it", side(ids(0x4FDFDBE74A8BC653, 4, 0, 0)), side(just), 30, 2, nil, nil},
		{"peer empty", side(ids(idA, 0, 0, 0)), side(zero), 30, 2, nil, nil},
		{"source missed the end", side(ids(idA, idB, idC, 0)), side(ids(idA, 0, idB, idC)), 34, 1, &IDs{Current: idA, Bitmap: 0, History: [2]uint64{idB, idC}}, nil},
		{"target saw the end", side(ids(idA, 0, idB, idC)), side(ids(idA, idB, idC, 0)), 35, -1, nil, &IDs{Current: idA, Bitmap: 0, History: [2]uint64{idB, idC}}},
		{"peer lost the sync id", side(ids(idA, idB, idC, 0)), side(ids(idA, 0, idD, 0)), 36, 1, nil, nil},
		{"self lost the sync id", side(ids(idA, 0, idD, 0)), side(ids(idA, idB, idC, 0)), 37, -1, nil, nil},
		{"equal", side(ids(idA, 0, idB, 0)), side(ids(idA, 0, idB, 0)), 40, 0, nil, nil},
		{"equal but for the mark of a Primary", side(ids(idA|1, 0, 0, 0)), side(ids(idA, 0, 0, 0)), 40, 0, nil, nil},
		{"equal, bitmaps in use on both", side(ids(idA, idB, 0, 0)), side(ids(idA, idC, 0, 0)), 40, 0, nil, nil},
		{"only self crashed", side(ids(idA, 0, 0, 0), crashed), side(ids(idA, 0, 0, 0)), 40, 1, nil, nil},
		{"only peer crashed", side(ids(idA, 0, 0, 0)), side(ids(idA, 0, 0, 0), crashed), 40, -1, nil, nil},
		{"both crashed, tie here", side(ids(idA, 0, 0, 0), crashed, tied), side(ids(idA, 0, 0, 0), crashed), 40, -1, nil, nil},
		{"both crashed, tie there", side(ids(idA, 0, 0, 0), crashed), side(ids(idA, 0, 0, 0), crashed, tied), 40, 1, nil, nil},
		{"both crashed, no tie", side(ids(idA, 0, 0, 0), crashed), side(ids(idA, 0, 0, 0), crashed), 40, -100, nil, nil},
		{"peer crashed, self Primary now", side(ids(idA, 0, 0, 0), primary), side(ids(idA, 0, 0, 0), crashed), 41, 1, nil, nil},
		{"self crashed, peer Primary now", side(ids(idA, 0, 0, 0), crashed), side(ids(idA, 0, 0, 0), primary), 41, -1, nil, nil},
		{"crashed, both Primary now", side(ids(idA, 0, 0, 0), crashed, primary), side(ids(idA, 0, 0, 0), primary), 41, -100, nil, nil},
		{"self has the peer's base", side(ids(idA, 0, 0, 0)), side(ids(idB, idA|1, 0, 0)), 50, -1, nil, nil},
		{"the peer's start was lost", side(ids(idA, 0, 0, 0)), side(ids(idB, idA+off, idA, idC)), 51, -1, nil, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, 0}}},
		{"the peer's start was lost, and it wrote on", side(ids(idA, 0, 0, 0)), side(ids(idB, idA+off, idC, idA)), 51, -1, nil, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, 0}}},
		{"self finished, the peer wrote on", side(ids(idA, 0, idC, idD)), side(ids(idB, idC, idA, idE)), 52, -1, nil, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, idE}}},
		{"self in the peer's younger history", side(ids(idA, 0, 0, 0)), side(ids(idB, idC, idA, 0)), 60, -2, nil, nil},
		{"self in the peer's older history", side(ids(idA, 0, 0, 0)), side(ids(idB, 0, idC, idA)), 60, -2, nil, nil},
		{"peer has the base here, as real DRBD logged it", side(ids(0x45DBE526D83B8965, 0x043895DD4331E1E7, 0x4798D800456840B7, 4)),
			side(ids(0x043895DD4331E1E6, 0, 0x4798D800456840B6, 4)), 70, 1, nil, nil},
		{"own start was lost", side(ids(idB, idA+off, idA, idC)), side(ids(idA, 0, 0, 0)), 71, 1, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, 0}}, nil},
		{"own start was lost, and wrote on", side(ids(idB, idA+off, idC, idA)), side(ids(idA, 0, 0, 0)), 71, 1, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, 0}}, nil},
		{"peer finished, self wrote on", side(ids(idB, idC, idA, idE)), side(ids(idA, 0, idC, idD)), 72, 1, &IDs{Current: idB, Bitmap: idA, History: [2]uint64{idC, idE}}, nil},
		{"peer in the younger history", side(ids(idB, idC, idA, 0)), side(ids(idA, 0, 0, 0)), 80, 2, nil, nil},
		{"peer in the older history", side(ids(idB, 0, idC, idA)), side(ids(idA, 0, 0, 0)), 80, 2, nil, nil},
		{"split brain, as real DRBD logged it", side(ids(0x2CC51FDC765D6191, 0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 4)),
			side(ids(0xB98A50467D9BF8DA, 0x4FDFDBE74A8BC652, 0xD1BC54FFD963333A, 4)), 90, 100, nil, nil},
		{"only the history in common", side(ids(idA, idC, idE, 0)), side(ids(idB, idD, 0, idE)), 100, -100, nil, nil},
		{"the peer's bitmap in the history", side(ids(idA, idC, idD, 0)), side(ids(idB, idD, idE, 0)), 100, -100, nil, nil},
		{"each in the other's past", side(ids(idA, idB, 0, 0)), side(ids(idB, idA, 0, 0)), 100, -100, nil, nil},
		{"empty slots do not match", side(ids(idA, 0, 0, 0)), side(ids(idB, 0, 0, 0)), 0, -1000, nil, nil},
		{"just created is no common past", side(ids(idA, 0, idC, 4)), side(ids(idB, 4, idD, 4)), 0, -1000, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := Comparison{c.rule, c.result, c.fixSelf, c.fixPeer}
			if got := Compare(c.self, c.peer); !reflect.DeepEqual(got, want) {
				t.Errorf("Compare = %v, want %v", got, want)
			}
			if got := Compare(c.peer, c.self); !mirrored(want, got) {
				t.Errorf("the peer sees %v, no mirror image of %v", got, want)
			}
		})
	}
}

// mirrored reports whether b is what the other side must see where one sees a.
func mirrored(a, b Comparison) bool {
	want := a.Result
	if a.Result != ResultSplit && a.Result != ResultSplitHard && a.Result != ResultUnrelated {
		want = -a.Result
	}
	return b.Result == want && b.Rule == mirrorRule(a.Rule) && reflect.DeepEqual(a.FixSelf, b.FixPeer) && reflect.DeepEqual(a.FixPeer, b.FixSelf)
}

func mirrorRule(r Rule) Rule {
	for _, p := range [][2]Rule{{20, 30}, {34, 35}, {36, 37}, {50, 70}, {51, 71}, {52, 72}, {60, 80}} {
		if r == p[0] {
			return p[1]
		}
		if r == p[1] {
			return p[0]
		}
	}
	return r
}

// randomSides draws from few identifiers, so that every rule is hit, with the tie flag on one side.
func randomSides(r *rand.Rand) (self, peer Side) {
	pool := []uint64{0, JustCreated, idA, idA | 1, idB, idB + off, idC, idC + off}
	pick := func() uint64 { return pool[r.IntN(len(pool))] }
	disks := []Disk{Diskless, Inconsistent, Outdated, Consistent, UpToDate, UpToDate, UpToDate, UpToDate}
	random := func() Side {
		return Side{
			IDs: ids(pick(), pick(), pick(), pick()), Role: Primary + Role(r.IntN(2)), Disk: disks[r.IntN(len(disks))],
			CrashedPrimary: r.IntN(3) == 0, DiscardMyData: r.IntN(4) == 0, Tentative: r.IntN(8) == 0,
			Changed: uint64(r.IntN(3)), Epoch: uint64(r.IntN(2)), Num: uint64(r.IntN(2)),
		}
	}
	self, peer = random(), random()
	self.Tie = r.IntN(2) == 0
	peer.Tie = !self.Tie
	return self, peer
}

func TestCompareMirrorsAndHitsEveryRule(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[Rule]int{}
	for range 20_000 {
		self, peer := randomSides(r)
		a, b := Compare(self, peer), Compare(peer, self)
		if !mirrored(a, b) {
			t.Fatalf("self %+v peer %+v: %+v and %+v are no mirror images", self, peer, a, b)
		}
		seen[a.Rule]++
	}
	for rule := range reasons {
		if seen[rule] == 0 {
			t.Errorf("rule %d was never hit", rule)
		}
	}
}
