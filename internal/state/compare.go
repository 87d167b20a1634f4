package state

import "slices"

// Side is what one side of a handshake says of itself and of one volume.
type Side struct {
	IDs  IDs
	Role Role
	Disk Disk // Negotiating must be resolved to what it would become; below that there is no data to compare

	CrashedPrimary bool // it was Primary when it went down, and has not been equal with its peer since
	DiscardMyData  bool // connect --discard-my-data; counts in a split brain only
	Tentative      bool // connect --tentative: say what would happen, do nothing
	Tie            bool // exactly one side of a session has it
	Follows        bool // a third node ships to it at the moment
	Received       bool // its data came from a source, and there are several peers: its Bitmap slot is what that source said

	Changed uint64 // blocks set in the bitmap that it keeps against the other
	Epoch   uint64 // position of its data in the resource's write order: the journal epoch…
	Num     uint64 // …and the number in it, 0,0 where unknown
}

// Rule is the number of the row that decided a comparison, as DRBD logs it; 0 for none.
type Rule int

// The rules, in the order in which they are tried.
const (
	RuleNone              Rule = 0
	RuleJustCreatedBoth   Rule = 10
	RuleJustCreatedSelf   Rule = 20
	RuleJustCreatedPeer   Rule = 30
	RuleSourceMissedEnd   Rule = 34
	RuleTargetSawEnd      Rule = 35
	RulePeerNoSyncID      Rule = 36
	RuleSelfNoSyncID      Rule = 37
	RuleEqual             Rule = 40
	RuleCrashedPrimaryNow Rule = 41
	RuleTargetBitmap      Rule = 50
	RuleTargetLostStart   Rule = 51
	RuleTargetWentOn      Rule = 52 // ours
	RuleTargetHistory     Rule = 60
	RuleSourceBitmap      Rule = 70
	RuleSourceLostStart   Rule = 71
	RuleSourceWentOn      Rule = 72 // ours
	RuleSourceHistory     Rule = 80
	RuleSplitBrain        Rule = 90
	RuleSplitBrainHistory Rule = 100
)

// The results of a comparison. A positive one makes self the source, a negative one the target, except the last two.
const (
	ResultEqual     = 0
	ResultBitmap    = 1     // the blocks marked
	ResultFull      = 2     // the whole volume
	ResultSplit     = 100   // split brain, policies may solve it
	ResultSplitHard = -100  // split brain, policies only with always-asbp
	ResultUnrelated = -1000 // no common ancestor
)

// Comparison is the verdict on two sets of identifiers alone.
type Comparison struct {
	Rule   Rule
	Result int
	// FixSelf and FixPeer are corrected identifiers where a message of the last resync was lost; nil if there is none. Each side
	// stores the correction of its own; the other's is what it has to be taken for.
	FixSelf, FixPeer *IDs
}

// Compare finds out who has which data, by DRBD 8.4's table, first match wins. Compare(a, b) and Compare(b, a) are mirror images.
// It differs from DRBD where DRBD is known to be wrong:
//
//   - empty slots and JustCreated are no generation, so they never match in a history: two unrelated sets of data
//     are told apart from a split brain;
//   - two sides without any identifier are as good as two just created;
//   - where each side has the other's generation in its past, which no sequence of events leads to, it is a
//     split brain, and not two targets;
//   - rules 52 and 72: the target finished a resync, the source missed the end of it and wrote on in a new generation;
//     51 and 71 also where the source whose start was lost has written on;
//   - rule 100 also where one's Bitmap is in the other's history: DRBD calls that unrelated;
//   - rule 40 with both sides crashed and no tie flag to go by is a split brain.
func Compare(self, peer Side) Comparison {
	s, p := self.IDs.masked(), peer.IDs.masked()
	switch {
	case s.Current == p.Current && (s.Current == JustCreated || s.Current == 0):
		return Comparison{Rule: RuleJustCreatedBoth}
	case (s.Current == JustCreated || s.Current == 0) && p.Current != JustCreated:
		return Comparison{Rule: RuleJustCreatedSelf, Result: -ResultFull}
	case s.Current != JustCreated && (p.Current == JustCreated || p.Current == 0):
		return Comparison{Rule: RuleJustCreatedPeer, Result: ResultFull}
	case s.Current == p.Current:
		return compareSame(self, peer)
	}
	asTarget, asSource := behind(s, p), behind(p, s)
	switch {
	case asTarget != RuleNone && asSource != RuleNone:
		return Comparison{Rule: RuleSplitBrainHistory, Result: ResultSplitHard}
	case asTarget != RuleNone:
		return targetOf(asTarget, peer.IDs, s)
	case asSource != RuleNone:
		return sourceOf(asSource, self.IDs, p)
	case s.Bitmap == p.Bitmap && s.Bitmap != 0:
		return Comparison{Rule: RuleSplitBrain, Result: ResultSplit}
	case shareHistory(s, p):
		return Comparison{Rule: RuleSplitBrainHistory, Result: ResultSplitHard}
	}
	return Comparison{Result: ResultUnrelated}
}

// compareSame decides rules 34 to 41: both have the same current generation.
func compareSame(self, peer Side) Comparison {
	s, p := self.IDs.masked(), peer.IDs.masked()
	if self.Received { // who is ahead is a matter of positions then: see reconcile
		s.Bitmap = 0
	}
	if peer.Received {
		p.Bitmap = 0
	}
	switch {
	case p.Bitmap == 0 && s.Bitmap != 0:
		if s.Bitmap == p.History[0] && s.History[0] == p.History[1] {
			fixed := self.IDs.FinishSyncSource()
			return Comparison{Rule: RuleSourceMissedEnd, Result: ResultBitmap, FixSelf: &fixed}
		}
		return Comparison{Rule: RulePeerNoSyncID, Result: ResultBitmap}
	case s.Bitmap == 0 && p.Bitmap != 0:
		if p.Bitmap == s.History[0] && p.History[0] == s.History[1] {
			fixed := peer.IDs.FinishSyncSource()
			return Comparison{Rule: RuleTargetSawEnd, Result: -ResultBitmap, FixPeer: &fixed}
		}
		return Comparison{Rule: RuleSelfNoSyncID, Result: -ResultBitmap}
	case !self.CrashedPrimary && !peer.CrashedPrimary:
		return Comparison{Rule: RuleEqual}
	case self.Role == Primary || peer.Role == Primary:
		return Comparison{Rule: RuleCrashedPrimaryNow, Result: crashedWithPrimary(self.Role, peer.Role)}
	}
	return Comparison{Rule: RuleEqual, Result: crashedSecondaries(self, peer)}
}

func crashedWithPrimary(self, peer Role) int {
	switch {
	case self == Primary && peer == Primary:
		return ResultSplitHard
	case self == Primary:
		return ResultBitmap
	}
	return -ResultBitmap
}

func crashedSecondaries(self, peer Side) int {
	switch {
	case !peer.CrashedPrimary:
		return ResultBitmap
	case !self.CrashedPrimary:
		return -ResultBitmap
	}
	return tieBreak(self, peer)
}

// tieBreak makes the side with the tie flag the target.
func tieBreak(self, peer Side) int {
	switch {
	case self.Tie == peer.Tie:
		return ResultSplitHard
	case self.Tie:
		return -ResultBitmap
	}
	return ResultBitmap
}

// behind tells by which rule old's data is an ancestor of young's, in the numbers of a target; RuleNone if it is not.
// Both are masked, and old.Current is a real generation.
func behind(old, young IDs) Rule {
	h := young.History
	switch {
	case old.Current == young.Bitmap:
		return RuleTargetBitmap
	case old.Current == h[0] && h[0]+UUIDOffset == young.Bitmap, old.Current == h[1] && h[1]+UUIDOffset == young.Bitmap:
		return RuleTargetLostStart
	case young.past(old.Current) && old.History[0] == young.Bitmap && young.Bitmap != 0:
		return RuleTargetWentOn
	case young.past(old.Current):
		return RuleTargetHistory
	}
	return RuleNone
}

// past reports whether a generation is in the history.
func (i IDs) past(id uint64) bool {
	return id == i.History[0] || id == i.History[1] || id != 0 && slices.Contains(i.Older[:], id)
}

func targetOf(rule Rule, peer, old IDs) Comparison {
	c := Comparison{Rule: rule, Result: -ResultBitmap, FixPeer: correct(rule, peer, old)}
	if rule == RuleTargetHistory {
		c.Result = -ResultFull
	}
	return c
}

func sourceOf(rule Rule, self, old IDs) Comparison {
	c := targetOf(rule, self, old)
	c.Result, c.FixSelf, c.FixPeer = -c.Result, c.FixPeer, nil
	c.Rule = map[Rule]Rule{
		RuleTargetBitmap: RuleSourceBitmap, RuleTargetLostStart: RuleSourceLostStart,
		RuleTargetWentOn: RuleSourceWentOn, RuleTargetHistory: RuleSourceHistory,
	}[rule]
	return c
}

// correct returns the source's identifiers as they would be had no message been lost: its Bitmap is what the target has. It is nil
// where they are right. old are those of the target, masked.
func correct(rule Rule, i, old IDs) *IDs {
	switch {
	case rule == RuleTargetWentOn:
		for _, id := range [...]*uint64{&i.History[0], &i.History[1], &i.Older[0], &i.Older[1], &i.Older[2], &i.Older[3], &i.Older[4], &i.Older[5]} {
			if mask(*id) == old.Current {
				i.Bitmap, *id = *id, i.Bitmap
				break
			}
		}
	case rule == RuleTargetLostStart && i.shared():
		i.Bitmap, i.History = i.History[0], [2]uint64{i.History[1], 0}
	case rule == RuleTargetLostStart:
		i.Bitmap, i.History = i.History[1], [2]uint64{i.History[0], 0}
	default:
		return nil
	}
	return &i
}

// shareHistory reports whether the two have a generation in common, below Current.
func shareHistory(s, p IDs) bool {
	known := append([]uint64{p.Bitmap, p.History[0], p.History[1]}, p.Older[:]...)
	for _, a := range append([]uint64{s.Bitmap, s.History[0], s.History[1]}, s.Older[:]...) {
		if a != 0 && a != JustCreated && slices.Contains(known, a) {
			return true
		}
	}
	return false
}
