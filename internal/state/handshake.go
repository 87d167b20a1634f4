package state

import (
	"fmt"
	"slices"
)

// Action is what a handshake leads to.
type Action uint8

// The actions.
const (
	Equal        Action = iota // connect, nothing to send
	BecomeSource               // the peer is brought up to date from here
	BecomeTarget               // this side is brought up to date from the peer
	SplitBrain                 // disconnect, both keep their data
	Unrelated                  // disconnect, the data has no common ancestor
	Refuse                     // disconnect, for the reason in Text
)

var actionNames = [...]string{"Equal", "BecomeSource", "BecomeTarget", "SplitBrain", "Unrelated", "Refuse"}

func (a Action) String() string { return name(actionNames[:], "Action", uint8(a)) }

// Mirror is the action that the peer takes.
func (a Action) Mirror() Action {
	switch a {
	case BecomeSource:
		return BecomeTarget
	case BecomeTarget:
		return BecomeSource
	}
	return a
}

// severity orders actions for a resource of several volumes: the worst decides.
func (a Action) severity() int {
	switch a {
	case Equal:
		return 0
	case BecomeSource, BecomeTarget:
		return 1
	case Refuse:
		return 2
	case SplitBrain:
		return 3
	}
	return 4
}

// Decision is what a side has to do after a handshake.
type Decision struct {
	Action     Action
	Full       bool // the whole bitmap is set first
	Comparison Comparison

	SplitBrainSeen bool // also when it was solved
	SolvedByPolicy bool // an after-sb policy chose the victim
	SolvedByHand   bool // --discard-my-data chose it
	Reconciled     bool // the generations are equal, blocks marked as different decide the direction

	DemoteFirst bool // this side is the victim, and Primary: demote; where that fails, run pri-lost-after-sb and disconnect
	Violent     bool // a Primary becomes target under its clients, as rr-conflict asks for
	Retry       bool // Refuse: worth another try, with a back-off
	NoData      bool // Equal because a side has no disk: nothing was compared

	DryRun bool   // Action is Refuse only because of --tentative, …
	Would  Action // …and this is what would be done

	Handlers []string // to run, in order; their exit codes change nothing
	Text     string   // what decided, in the words of DRBD's log
	Log      []string // all lines of DRBD's log, in order
	Explain  []string // the same for people

	Sends    uint64  // at most so many blocks go over the link, not counting Full
	Discards Discard // what is lost

	Volumes []Decision // HandshakeVolumes: one for each volume
}

// AllFull reports whether every volume is replaced as a whole, so that no bitmap has to travel.
func (d *Decision) AllFull() bool {
	return d.Full && !slices.ContainsFunc(d.Volumes, func(v Decision) bool { return !v.Full })
}

// Discard says whose data is overwritten, for a warning before it happens.
type Discard struct {
	Self, Peer bool
	Blocks     uint64 // blocks that the victim changed on its own, where All is false
	All        bool   // the whole volume is replaced
}

// Handshake decides who is source and who is target for one volume: the comparison of the generation identifiers, then
// disk states, after-sb policies, discard-my-data and rr-conflict, in DRBD's order. Handshake(a, b, p) and
// Handshake(b, a, p.Mirror()) are mirror images: both sides get there on their own, without another message.
//
// It does better than DRBD where DRBD can leave disks unequal and say that they are equal: a split brain that is solved
// without a common Bitmap generation sends the whole volume, by hand too; equal generations with blocks marked as different are
// sent where it is clear who is ahead, and otherwise left marked, never cleared.
func Handshake(self, peer Side, pol Policies) Decision {
	return decide(self, peer, pol, [2]uint64{self.Changed, peer.Changed})
}

// HandshakeVolumes decides for a resource: self[i] and peer[i] are the sides of one volume. There is one direction for all
// volumes, or a refusal that says why; policies count the changes of all volumes together.
func HandshakeVolumes(self, peer []Side, pol Policies) Decision {
	if len(self) != len(peer) {
		return Decision{Action: Refuse, Text: fmt.Sprintf("Peer has %d volumes, this node has %d, dropping connection!", len(peer), len(self)),
			Explain: []string{fmt.Sprintf("this node has %d volumes of the resource and the peer %d: make the configurations agree", len(self), len(peer))}}
	}
	var changes [2]uint64
	for i := range self {
		changes[0] += self[i].Changed
		changes[1] += peer[i].Changed
	}
	all := make([]Decision, len(self))
	for i := range self {
		all[i] = decide(self[i], peer[i], pol, changes)
	}
	return combine(all)
}

// decide is Handshake with the changes of the whole resource: [0] here, [1] there.
func decide(self, peer Side, pol Policies, changes [2]uint64) Decision {
	d := &decider{self: self, peer: peer, pol: pol, changes: changes}
	if self.Disk < Negotiating || peer.Disk < Negotiating {
		d.out.NoData = true
		d.say("a side has no disk: connected, nothing to compare")
		return d.finish()
	}
	d.compare()
	if d.out.Comparison.Result == ResultUnrelated && !d.unfinished() {
		return d.stop(Unrelated, "Unrelated data, aborting!")
	}
	d.byDiskStates()
	d.solveSplitBrain()
	if d.split() {
		d.handler("split-brain")
		return d.stop(SplitBrain, "Split-Brain detected but unresolved, dropping connection!")
	}
	d.reconcile()
	if text := d.conflict(); text != "" {
		return d.stop(Refuse, text)
	}
	return d.finish()
}

// decider carries one decision through its steps. strength is DRBD's number: the sign is the direction, 2 is a full sync.
type decider struct {
	self, peer Side
	pol        Policies
	changes    [2]uint64
	strength   int
	out        Decision
}

func (d *decider) log(format string, args ...any) {
	d.out.Text = fmt.Sprintf(format, args...)
	d.out.Log = append(d.out.Log, d.out.Text)
}

func (d *decider) say(format string, args ...any) {
	d.out.Explain = append(d.out.Explain, fmt.Sprintf(format, args...))
}

func (d *decider) handler(name string) { d.out.Handlers = append(d.out.Handlers, name) }

func (d *decider) split() bool { return d.strength == ResultSplit || d.strength == ResultSplitHard }

func (d *decider) stop(a Action, text string) Decision {
	d.log("%s", text)
	d.out.drop()
	d.out.Action = a
	d.say("%s", advice[a])
	return d.out
}

func (d *decider) compare() {
	c := Compare(d.self, d.peer)
	d.out.Comparison = c
	d.strength = c.Result
	d.log("drbd_sync_handshake:")
	d.log("self %s bits:%d flags:0", d.self.IDs, d.self.Changed)
	d.log("peer %s bits:%d flags:%X", d.peer.IDs, d.peer.Changed, flags(d.peer))
	if t := corrections[c.Rule]; t != "" {
		d.log("%s", t)
	}
	d.log("uuid_compare()=%d by rule %d", c.Result, int(c.Rule))
	if c.Rule != RuleNone {
		d.say("rule %d: %s", int(c.Rule), reasons[c.Rule])
	}
}

// flags are those of DRBD's identifier packet.
func flags(s Side) uint64 {
	var f uint64
	if s.DiscardMyData {
		f |= 1
	}
	if s.CrashedPrimary {
		f |= 2
	}
	if s.Disk <= Inconsistent {
		f |= 4
	}
	return f
}

// ambiguous reports whether the bitmaps are not counted against one generation that both sides have had.
func (d *decider) ambiguous() bool {
	c := d.out.Comparison
	return c.Result == ResultSplitHard || c.Rule == RuleJustCreatedBoth ||
		c.Rule == RuleSplitBrain && mask(d.self.IDs.Bitmap) == JustCreated
}

// unfinished reports whether exactly one side is amid a resync from a third node: whatever its identifiers say, it has nothing of its own,
// and another node may finish it, in full.
func (d *decider) unfinished() bool {
	amid := func(s Side) bool { return s.Received && s.Disk == Inconsistent }
	return amid(d.self) != amid(d.peer) && (d.self.Disk > Inconsistent || d.peer.Disk > Inconsistent)
}

// byDiskStates lets consistent data win over inconsistent data, whatever the identifiers say.
func (d *decider) byDiskStates() {
	self, peer := d.self.Disk > Inconsistent, d.peer.Disk > Inconsistent
	if self == peer || d.self.Disk < Inconsistent || d.peer.Disk < Inconsistent {
		return
	}
	strength := ResultBitmap
	if d.strength == ResultFull || d.strength == -ResultFull || d.strength == ResultUnrelated || d.ambiguous() {
		strength = ResultFull
	}
	which := "source"
	if !self {
		strength, which = -strength, "target"
	}
	d.strength = strength
	d.log("Becoming sync %s due to disk states.", which)
	d.say("one disk is Inconsistent and the other is not: the consistent one is the source")
}

// solveSplitBrain tries the policies, then discard-my-data. What it leaves as a split brain is one.
func (d *decider) solveSplitBrain() {
	if !d.split() {
		return
	}
	d.out.SplitBrainSeen = true
	d.handler("initial-split-brain")
	full := d.ambiguous()
	if d.strength == ResultSplit || d.pol.AlwaysASBP {
		d.strength = ResultSplitHard
		d.applyPolicy()
	}
	if d.split() && d.self.DiscardMyData != d.peer.DiscardMyData {
		d.strength = ResultBitmap
		if d.self.DiscardMyData {
			d.strength = -ResultBitmap
		}
		d.out.SolvedByHand = true
		d.log("Split-Brain detected, manually solved. Sync from %s node", d.sourceName())
		d.say("--discard-my-data names the side that gives its changes up")
	}
	if !d.split() && full {
		d.log("Doing a full sync, since UUIDs where ambiguous.")
		d.say("the changes are not counted against a generation that both have had: everything is sent")
		d.strength *= ResultFull
	}
}

func (d *decider) applyPolicy() {
	s := afterSplitBrain(d.self, d.peer, d.changes, d.pol)
	if s.warn != "" {
		d.log("%s", s.warn)
	}
	if s.result == ResultSplitHard {
		d.say("the after-sb policy for %d Primaries names no victim here", primaries(d.self, d.peer))
		return
	}
	d.strength = s.result
	d.out.SolvedByPolicy = true
	d.out.DemoteFirst = s.demote && s.result < 0
	d.log("Split-Brain detected, %d primaries, automatically solved. Sync from %s node", primaries(d.self, d.peer), d.sourceName())
	d.say("the after-sb policy for %d Primaries names the victim", primaries(d.self, d.peer))
}

func (d *decider) sourceName() string {
	if d.strength < 0 {
		return "peer"
	}
	return "this"
}
