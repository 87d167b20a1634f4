package state

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// split makes both sides of a split brain by rule 90; hard ones have only their history in common.
func split(hard bool, selfOptions, peerOptions []func(*Side)) (self, peer Side) {
	self, peer = side(ids(idA, idC, 0, 0), selfOptions...), side(ids(idB, idC, 0, 0), peerOptions...)
	if hard {
		self.IDs, peer.IDs = ids(idA, idD|self.IDs.Bitmap&1, idC, 0), ids(idB, idE|peer.IDs.Bitmap&1, idC, 0)
	}
	return self, peer
}

type opts = []func(*Side)

func olderPrimary(s *Side) { s.IDs.Bitmap |= 1 }

func TestAfterSplitBrainPolicies(t *testing.T) {
	zero := func(p string) Policies { return Policies{AfterSB0: p} }
	one := func(p0, p1 string) Policies { return Policies{AfterSB0: p0, AfterSB1: p1, RRConflict: Violently} }
	two := func(p0, p2 string) Policies { return Policies{AfterSB0: p0, AfterSB2: p2, RRConflict: Violently} }
	for _, c := range []struct {
		name       string
		self, peer opts
		pol        Policies
		want       Action
		demote     bool
	}{
		{"no policy", nil, nil, Policies{}, SplitBrain, false},
		{"disconnect", nil, nil, zero(Disconnect), SplitBrain, false},
		{"younger, self is older", opts{olderPrimary}, nil, zero(DiscardYoungerPrimary), BecomeSource, false},
		{"younger, self is younger", nil, opts{olderPrimary}, zero(DiscardYoungerPrimary), BecomeTarget, false},
		{"younger undecided, zero changes", opts{changed(0)}, opts{changed(3)}, zero(DiscardYoungerPrimary), BecomeTarget, false},
		{"younger undecided, least changes", opts{changed(5)}, opts{changed(3)}, zero(DiscardYoungerPrimary), BecomeSource, false},
		{"older, self is older", opts{olderPrimary}, nil, zero(DiscardOlderPrimary), BecomeTarget, false},
		{"older, self is younger", nil, opts{olderPrimary}, zero(DiscardOlderPrimary), BecomeSource, false},
		{"older undecided, both marked, least changes", opts{olderPrimary, changed(1)}, opts{olderPrimary, changed(2)}, zero(DiscardOlderPrimary), BecomeTarget, false},
		{"zero changes here", nil, opts{changed(1)}, zero(DiscardZeroChanges), BecomeTarget, false},
		{"zero changes there", opts{changed(1)}, nil, zero(DiscardZeroChanges), BecomeSource, false},
		{"zero changes on both, tie here", opts{tied}, nil, zero(DiscardZeroChanges), BecomeTarget, false},
		{"zero changes on both, tie there", nil, opts{tied}, zero(DiscardZeroChanges), BecomeSource, false},
		{"zero changes on neither", opts{changed(1)}, opts{changed(1)}, zero(DiscardZeroChanges), SplitBrain, false},
		{"least changes here", opts{changed(1)}, opts{changed(2)}, zero(DiscardLeastChanges), BecomeTarget, false},
		{"least changes there", opts{changed(2)}, opts{changed(1)}, zero(DiscardLeastChanges), BecomeSource, false},
		{"as many changes, tie here", opts{changed(2), tied}, opts{changed(2)}, zero(DiscardLeastChanges), BecomeTarget, false},
		{"discard local", nil, nil, zero(DiscardLocal), BecomeTarget, false},
		{"discard remote", nil, nil, zero(DiscardRemote), BecomeSource, false},

		{"1pri no policy", opts{primary}, nil, one(DiscardRemote, ""), SplitBrain, false},
		{"1pri disconnect", opts{primary}, nil, one(DiscardRemote, Disconnect), SplitBrain, false},
		{"consensus, victim is Secondary", opts{primary}, nil, one(DiscardRemote, Consensus), BecomeSource, false},
		{"consensus, victim is Primary", opts{primary}, nil, one(DiscardLocal, Consensus), SplitBrain, false},
		{"consensus, self is Secondary and victim", nil, opts{primary}, one(DiscardLocal, Consensus), BecomeTarget, false},
		{"violently, victim is Primary", opts{primary}, nil, one(DiscardLocal, ViolentlyAs0P), BecomeTarget, false},
		{"violently, no answer", opts{primary}, nil, one(Disconnect, ViolentlyAs0P), SplitBrain, false},
		{"discard secondary, self Primary", opts{primary}, nil, one("", DiscardSecondary), BecomeSource, false},
		{"discard secondary, self Secondary", nil, opts{primary}, one("", DiscardSecondary), BecomeTarget, false},
		{"call-pri-lost, victim is Primary here", opts{primary}, nil, one(DiscardLocal, CallPriLostAfterSB), BecomeTarget, true},
		{"call-pri-lost, victim is Primary there", nil, opts{primary}, one(DiscardRemote, CallPriLostAfterSB), BecomeSource, false},
		{"call-pri-lost, victim is Secondary", opts{primary}, nil, one(DiscardRemote, CallPriLostAfterSB), BecomeSource, false},
		{"call-pri-lost, no answer", opts{primary}, nil, one(Disconnect, CallPriLostAfterSB), SplitBrain, false},

		{"2pri no policy", opts{primary}, opts{primary}, two(DiscardRemote, ""), SplitBrain, false},
		{"2pri disconnect", opts{primary}, opts{primary}, two(DiscardRemote, Disconnect), SplitBrain, false},
		{"2pri violently", opts{primary}, opts{primary}, two(DiscardLocal, ViolentlyAs0P), BecomeTarget, false},
		{"2pri call-pri-lost, victim here", opts{primary}, opts{primary}, two(DiscardLocal, CallPriLostAfterSB), BecomeTarget, true},
		{"2pri call-pri-lost, victim there", opts{primary}, opts{primary}, two(DiscardRemote, CallPriLostAfterSB), BecomeSource, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			self, peer := split(false, c.self, c.peer)
			got := Handshake(self, peer, c.pol)
			if got.Action != c.want || got.DemoteFirst != c.demote || got.Full {
				t.Errorf("got %v demote %v full %v, want %v demote %v", got.Action, got.DemoteFirst, got.Full, c.want, c.demote)
			}
			if !got.SplitBrainSeen || got.Handlers[0] != "initial-split-brain" || got.SolvedByPolicy != (c.want != SplitBrain) {
				t.Errorf("seen %v solved %v handlers %v", got.SplitBrainSeen, got.SolvedByPolicy, got.Handlers)
			}
			if slices.Contains(got.Handlers, "split-brain") != (c.want == SplitBrain) {
				t.Errorf("handlers %v for %v", got.Handlers, c.want)
			}
			self, peer = split(true, c.self, c.peer)
			if got := Handshake(self, peer, c.pol); got.Action != SplitBrain {
				t.Errorf("history only: %v without always-asbp, want a split brain", got.Action)
			}
			c.pol.AlwaysASBP = true
			if got := Handshake(self, peer, c.pol); got.Action != c.want || got.Full != (c.want != SplitBrain) {
				t.Errorf("history only: %v full %v with always-asbp, want %v and a full sync", got.Action, got.Full, c.want)
			}
		})
	}
}

func TestHandshakeSteps(t *testing.T) {
	same := ids(idA, 0, 0, 0)
	old, young := ids(idA, 0, 0, 0), ids(idB, idA, 0, 0)
	for _, c := range []struct {
		name       string
		self, peer Side
		pol        Policies
		want       Decision // Action, Full, flags and the end of Text are compared
	}{
		{"equal", side(same), side(same), Policies{}, Decision{Action: Equal, Text: "uuid_compare()=0 by rule 40"}},
		{"unrelated", side(ids(idA, 0, 0, 0)), side(ids(idB, 0, 0, 0)), Policies{}, Decision{Action: Unrelated, Text: "Unrelated data, aborting!"}},
		{"unrelated, whatever the flags", side(ids(idA, 0, 0, 0), inconsistent, discard), side(ids(idB, 0, 0, 0)), Policies{AlwaysASBP: true}, Decision{Action: Unrelated}},
		{"no disk here", side(same, diskless), side(old), Policies{}, Decision{Action: Equal, NoData: true}},
		{"first primary --force", side(ids(idB|1, JustCreated, 0, 0), primary), side(Created(), inconsistent), Policies{},
			Decision{Action: BecomeSource, Full: true, Text: "Writing the whole bitmap, full sync required after drbd_sync_handshake."}},
		{"both just created and without data", side(Created(), inconsistent, changed(9)), side(Created(), inconsistent, changed(9)), Policies{},
			Decision{Action: Equal, Text: "No resync, but 9 bits in bitmap!"}},
		{"just created, one said to be good", side(Created()), side(Created(), inconsistent), Policies{}, Decision{Action: BecomeSource, Full: true}},
		{"bitmap", side(young), side(old), Policies{}, Decision{Action: BecomeSource}},
		{"disk state wins over identifiers", side(young, inconsistent), side(old), Policies{}, Decision{Action: BecomeTarget, Text: "Becoming sync target due to disk states."}},
		{"interrupted resync goes on", side(same), side(same, inconsistent), Policies{}, Decision{Action: BecomeSource}},
		{"disk states after rule 100", side(ids(idA, idD, idC, 0)), side(ids(idB, idE, idC, 0), inconsistent), Policies{}, Decision{Action: BecomeSource, Full: true}},
		{"disk states after rule 60", side(ids(idA, 0, 0, 0), inconsistent), side(ids(idB, 0, idA, 0)), Policies{}, Decision{Action: BecomeTarget, Full: true}},
		{"source is inconsistent", side(young, inconsistent), side(old, inconsistent), Policies{}, Decision{Action: Refuse, Text: "I shall become SyncSource, but I am inconsistent!"}},
		{"peer as source is inconsistent", side(old, inconsistent), side(young, inconsistent), Policies{}, Decision{Action: Refuse, Text: "Peer shall become SyncSource, but it is inconsistent!"}},

		{"rr-conflict disconnect", side(old, primary), side(young), Policies{}, Decision{Action: Refuse, Text: "I shall become SyncTarget, but I am primary!"}},
		{"rr-conflict seen by the source", side(young), side(old, primary), Policies{}, Decision{Action: Refuse, Text: "Peer shall become SyncTarget, but it is primary!"}},
		{"rr-conflict call-pri-lost", side(old, primary), side(young), Policies{RRConflict: CallPriLost}, Decision{Action: Refuse, Handlers: []string{"pri-lost"}}},
		{"rr-conflict retry", side(old, primary), side(young), Policies{RRConflict: RetryConnect}, Decision{Action: Refuse, Retry: true}},
		{"rr-conflict auto-discard", side(old, primary), side(young), Policies{RRConflict: AutoDiscard}, Decision{Action: Refuse}},
		{"rr-conflict violently", side(old, primary), side(young), Policies{RRConflict: Violently}, Decision{Action: BecomeTarget, Violent: true,
			Text: "Becoming SyncTarget, violating the stable-data assumption"}},
		{"a Primary without consistent data may become target", side(old, primary, inconsistent), side(young), Policies{}, Decision{Action: BecomeTarget}},

		{"crashed Primary ships its hot extents", side(same, crashed, changed(8)), side(same), Policies{}, Decision{Action: BecomeSource}},
		{"promoted during the crash", side(ids(idA|1, 0, 0, 0), crashed, changed(8)), side(ids(idB|1, idA, 0, 0), primary), Policies{}, Decision{Action: BecomeTarget}},
		{"tentative", side(young, tentative), side(old), Policies{}, Decision{Action: Refuse, DryRun: true, Would: BecomeSource,
			Text: "dry-run connect: Would become SyncSource, doing a bit-map based resync."}},
		{"peer is tentative", side(ids(idA, 0, 0, 0)), side(ids(idB, 0, idA, 0), tentative), Policies{}, Decision{Action: Refuse, DryRun: true, Would: BecomeTarget, Full: true,
			Text: "dry-run connect: Would become SyncTarget, doing a full resync."}},
		{"tentative and equal", side(same, tentative), side(same), Policies{}, Decision{Action: Refuse, DryRun: true, Would: Equal,
			Text: "dry-run connect: No resync, would become Connected immediately."}},
		{"tentative without a disk", side(same, tentative), side(same, diskless), Policies{}, Decision{Action: Refuse, DryRun: true, Would: Equal, NoData: true}},

		{"marks, Primary is ahead", side(same, primary, changed(1)), side(same, changed(1)), Policies{}, Decision{Action: BecomeSource, Reconciled: true}},
		{"marks, better disk is ahead", side(same, outdated, changed(1)), side(same), Policies{}, Decision{Action: BecomeTarget, Reconciled: true}},
		{"marks, later position is ahead", side(same, at(2, 1), changed(1)), side(same, at(1, 9), changed(1)), Policies{}, Decision{Action: BecomeSource, Reconciled: true}},
		{"marks on one side only", side(same), side(same, changed(1)), Policies{}, Decision{Action: BecomeTarget, Reconciled: true}},
		{"marks, nobody is ahead", side(same, changed(4)), side(same, changed(7)), Policies{}, Decision{Action: Equal, Text: "No resync, but 7 bits in bitmap!"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Handshake(c.self, c.peer, c.pol)
			w := c.want
			if got.Action != w.Action || got.Full != w.Full || got.DryRun != w.DryRun || got.Would != w.Would || got.NoData != w.NoData ||
				got.Violent != w.Violent || got.Retry != w.Retry || got.Reconciled != w.Reconciled || !slices.Equal(got.Handlers, w.Handlers) {
				t.Errorf("got  %+v\nwant %+v", got, w)
			}
			if w.Text != "" && got.Text != w.Text {
				t.Errorf("text %q, want %q", got.Text, w.Text)
			}
			if len(got.Explain) == 0 {
				t.Error("nothing explained")
			}
		})
	}
}

func TestDiscardMyDataChoosesTheVictimOfASplitBrainOnly(t *testing.T) {
	for _, hard := range []bool{false, true} {
		self, peer := split(hard, opts{discard, changed(4)}, opts{changed(5)})
		got := Handshake(self, peer, Policies{})
		if got.Action != BecomeTarget || !got.SolvedByHand || got.Full != hard || !got.Discards.Self {
			t.Errorf("hard %v: %+v", hard, got)
		}
		if !hard && (got.Discards.Blocks != 4 || got.Sends != 9) {
			t.Errorf("discards %+v sends %d, want 4 of 9", got.Discards, got.Sends)
		}
		peer.DiscardMyData = true
		if got := Handshake(self, peer, Policies{}); got.Action != SplitBrain {
			t.Errorf("hard %v: both discard: %v", hard, got.Action)
		}
	}
	self, peer := side(ids(idB, idA, 0, 0), discard), side(ids(idA, 0, 0, 0))
	if got := Handshake(self, peer, Policies{}); got.Action != BecomeSource || got.SplitBrainSeen {
		t.Errorf("no split brain, the flag is ignored: %+v", got)
	}
	self, peer = split(false, opts{discard, primary}, nil)
	if got := Handshake(self, peer, Policies{}); got.Action != Refuse {
		t.Errorf("a Primary victim: %v, want a refusal by rr-conflict", got.Action)
	}
}

func TestSplitBrainOfTwoFirstPrimariesSendsEverything(t *testing.T) {
	self, peer := side(ids(idA|1, JustCreated, 0, 0)), side(ids(idB|1, JustCreated, 0, 0))
	got := Handshake(self, peer, Policies{AfterSB0: DiscardRemote})
	if got.Action != BecomeSource || !got.Full {
		t.Errorf("got %v full %v: bitmaps counted from create-md say nothing", got.Action, got.Full)
	}
}

func TestHandshakeLogsAsDRBD(t *testing.T) {
	self := side(ids(0x2CC51FDC765D6191, 0x4FDFDBE74A8BC653, 0xD1BC54FFD963333B, 4), primary, changed(13329))
	peer := side(ids(0xB98A50467D9BF8DA, 0x4FDFDBE74A8BC652, 0xD1BC54FFD963333A, 4), changed(10))
	got := strings.Join(Handshake(self, peer, Policies{}).Log, "\n")
	want := `drbd_sync_handshake:
self 2CC51FDC765D6191:4FDFDBE74A8BC653:D1BC54FFD963333B:0000000000000004 bits:13329 flags:0
peer B98A50467D9BF8DA:4FDFDBE74A8BC652:D1BC54FFD963333A:0000000000000004 bits:10 flags:0
uuid_compare()=100 by rule 90
Split-Brain detected but unresolved, dropping connection!`
	if got != want {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
}

func randomPolicies(r *rand.Rand) Policies {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	return Policies{
		AfterSB0: pick("", DiscardYoungerPrimary, DiscardOlderPrimary, DiscardZeroChanges, DiscardLeastChanges, DiscardLocal, DiscardRemote),
		AfterSB1: pick("", Consensus, ViolentlyAs0P, DiscardSecondary, CallPriLostAfterSB), AfterSB2: pick("", ViolentlyAs0P, CallPriLostAfterSB),
		RRConflict: pick("", Violently, CallPriLost, RetryConnect, AutoDiscard), AlwaysASBP: r.IntN(2) == 0,
	}
}

// checkMirror says what is wrong between the decisions of two sides, "" if they fit together.
func checkMirror(a, b Decision) string {
	switch {
	case a.Action.Mirror() != b.Action || a.Would.Mirror() != b.Would:
		return "actions"
	case a.Full != b.Full || a.Sends != b.Sends || a.DryRun != b.DryRun || a.Retry != b.Retry || a.Violent != b.Violent || a.NoData != b.NoData:
		return "what is done"
	case a.SplitBrainSeen != b.SplitBrainSeen || a.SolvedByHand != b.SolvedByHand || a.SolvedByPolicy != b.SolvedByPolicy || a.Reconciled != b.Reconciled:
		return "how it was found"
	case a.Discards.Self != b.Discards.Peer || a.Discards.Peer != b.Discards.Self || a.Discards.Blocks != b.Discards.Blocks || a.Discards.All != b.Discards.All:
		return "what is discarded"
	case a.DemoteFirst && (a.Action != BecomeTarget && a.Would != BecomeTarget || b.DemoteFirst):
		return "who demotes"
	case a.Discards.Self && a.Discards.Peer:
		return "both sides are discarded"
	}
	return ""
}

func TestHandshakeMirrors(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seen := map[Action]int{}
	for range 20_000 {
		self, peer := randomSides(r)
		pol := randomPolicies(r)
		if err := pol.Validate(); err != nil {
			t.Fatal(err)
		}
		a, b := Handshake(self, peer, pol), Handshake(peer, self, pol.Mirror())
		if bad := checkMirror(a, b); bad != "" {
			t.Fatalf("%s do not mirror\nself %+v\npeer %+v\npolicies %+v\n%+v\n%+v", bad, self, peer, pol, a, b)
		}
		if safe := unsafe(self, peer, a, pol); safe != "" {
			t.Fatalf("%s\nself %+v\npeer %+v\npolicies %+v\n%+v", safe, self, peer, pol, a)
		}
		seen[a.Action]++
	}
	for a := Equal; a <= Refuse; a++ {
		if seen[a] == 0 {
			t.Errorf("%v never happened", a)
		}
	}
}

// unsafe says which of the promises about data a decision breaks, "" if none.
func unsafe(self, peer Side, d Decision, pol Policies) string {
	switch {
	case d.Action == BecomeSource && self.Disk <= Inconsistent:
		return "an inconsistent source"
	case d.Action == BecomeTarget && self.Role == Primary && self.Disk >= Consistent && pol.RRConflict != Violently && !d.DemoteFirst:
		return "a Primary's data is changed under its clients"
	case d.Action == BecomeSource && (self.Tentative || peer.Tentative):
		return "a dry run that does something"
	case d.Action == Equal && !d.NoData && (self.Disk == Inconsistent) != (peer.Disk == Inconsistent):
		return "connected as equal with one side inconsistent"
	}
	return ""
}

func TestHandshakeVolumesMirrors(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	seen := map[Action]int{}
	for range 10_000 {
		n := 1 + r.IntN(3)
		self, peer := make([]Side, n), make([]Side, n)
		for i := range self {
			self[i], peer[i] = randomSides(r)
			if i > 0 { // one session, one role: only the data differs
				self[i].Tie, peer[i].Tie, self[i].Role, peer[i].Role = self[0].Tie, peer[0].Tie, self[0].Role, peer[0].Role
			}
		}
		pol := randomPolicies(r)
		a, b := HandshakeVolumes(self, peer, pol), HandshakeVolumes(peer, self, pol.Mirror())
		if bad := checkMirror(a, b); bad != "" {
			t.Fatalf("%s do not mirror\nself %+v\npeer %+v\npolicies %+v\n%+v\n%+v", bad, self, peer, pol, a, b)
		}
		seen[a.Action]++
		for _, v := range a.Volumes {
			if a.plan().severity() < v.plan().severity() {
				t.Fatalf("%v for volumes of which one says %v", a.Action, v.Action)
			}
		}
	}
	for a := Equal; a <= Refuse; a++ {
		if seen[a] == 0 {
			t.Errorf("%v never happened", a)
		}
	}
}

func TestHandshakeVolumes(t *testing.T) {
	young, old := ids(idB, idA, 0, 0), ids(idA, 0, 0, 0)
	same := side(ids(idC, 0, 0, 0))
	t.Run("one direction", func(t *testing.T) {
		d := HandshakeVolumes([]Side{same, side(young)}, []Side{same, side(old)}, Policies{})
		if d.Action != BecomeSource || len(d.Volumes) != 2 || d.Volumes[0].Action != Equal || d.Volumes[1].Action != BecomeSource {
			t.Errorf("%+v", d)
		}
	})
	t.Run("two directions", func(t *testing.T) {
		d := HandshakeVolumes([]Side{side(old), side(young)}, []Side{side(young), side(old)}, Policies{})
		if d.Action != Refuse || !strings.Contains(d.Text, "disagree") || d.Discards != (Discard{}) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("another number of volumes", func(t *testing.T) {
		if d := HandshakeVolumes([]Side{same}, []Side{same, same}, Policies{}); d.Action != Refuse || len(d.Explain) == 0 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a new volume is filled", func(t *testing.T) {
		d := HandshakeVolumes([]Side{same, side(ids(idB, JustCreated, 0, 0))}, []Side{same, side(Created(), inconsistent)}, Policies{})
		if d.Action != BecomeSource || !d.Full || d.Volumes[0].Full {
			t.Errorf("%+v", d)
		}
	})
	t.Run("changes count for the resource", func(t *testing.T) {
		a0, b0 := split(false, opts{changed(1)}, opts{changed(5)})
		a1, b1 := split(false, opts{changed(9)}, opts{changed(2)})
		d := HandshakeVolumes([]Side{a0, a1}, []Side{b0, b1}, Policies{AfterSB0: DiscardLeastChanges})
		if d.Action != BecomeSource || d.Discards.Blocks != 7 {
			t.Errorf("10 changes here, 7 there: %v, discards %+v", d.Action, d.Discards)
		}
	})
	t.Run("a split brain stops all", func(t *testing.T) {
		a, b := split(false, nil, nil)
		d := HandshakeVolumes([]Side{side(young), a}, []Side{side(old), b}, Policies{})
		if d.Action != SplitBrain || !reflect.DeepEqual(d.Handlers, []string{"initial-split-brain", "split-brain"}) || d.Sends != 0 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("tentative", func(t *testing.T) {
		d := HandshakeVolumes([]Side{side(same.IDs, tentative), side(young, tentative)}, []Side{same, side(old, changed(3))}, Policies{})
		if d.Action != Refuse || !d.DryRun || d.Would != BecomeSource || d.Discards.Blocks != 3 {
			t.Errorf("%+v", d)
		}
	})
}

func TestPoliciesValidate(t *testing.T) {
	for _, p := range []Policies{{AfterSB0: "consensus"}, {AfterSB1: "discard-local"}, {AfterSB2: "consensus"}, {RRConflict: "explode"}} {
		if err := p.Validate(); err == nil {
			t.Errorf("%+v passes", p)
		} else if !strings.Contains(err.Error(), `has no value "`) {
			t.Errorf("error %q does not name the value", err)
		}
	}
}

func ExampleHandshake() {
	self := Side{IDs: IDs{Current: 0xB0, Bitmap: 0xA0}, Role: Secondary, Disk: UpToDate, Changed: 3}
	peer := Side{IDs: IDs{Current: 0xA0}, Role: Secondary, Disk: UpToDate, Tie: true}
	d := Handshake(self, peer, Policies{})
	fmt.Println(d.Action, d.Full, d.Sends)
	for _, line := range d.Explain {
		fmt.Println("-", line)
	}
	// Output:
	// BecomeSource false 3
	// - rule 70: this node's changes are counted against the very data that the peer has
	// - this node becomes the source
	// - at most 3 blocks of 4 KiB are sent; 0 of them the target had changed on its own, and those changes are discarded
}

// A volume that was added beside one that is equal is filled by itself: one direction, and only that volume as a whole.
func TestHandshakeOfAnAddedVolume(t *testing.T) {
	old := Side{IDs: IDs{Current: 0x100, History: [2]uint64{0x50, 0x40}}, Disk: UpToDate, Role: Secondary}
	primary, filled, created := old, old, Side{IDs: Created(), Disk: Inconsistent, Role: Secondary}
	primary.Role = Primary
	filled.IDs, filled.Role = IDs{Current: 0x200, Bitmap: JustCreated}, Primary
	both := HandshakeVolumes([]Side{primary, created}, []Side{old, created}, Policies{})
	if both.Action != Equal || both.Full || both.NoData {
		t.Errorf("created on both sides: %+v", both)
	}
	d := HandshakeVolumes([]Side{primary, filled}, []Side{old, created}, Policies{})
	if d.Action != BecomeSource || d.AllFull() || d.Volumes[0].Full || !d.Volumes[1].Full {
		t.Errorf("filled here: %+v", d)
	}
	lacking := Side{Disk: Diskless, Role: Secondary}
	if d := HandshakeVolumes([]Side{primary, created}, []Side{old, lacking}, Policies{}); d.Action != Equal || d.NoData || !d.Volumes[1].NoData {
		t.Errorf("not there at the peer: %+v", d)
	}
	if d := HandshakeVolumes([]Side{filled}, []Side{created}, Policies{}); !d.AllFull() {
		t.Errorf("the only volume: %+v", d)
	}
}
