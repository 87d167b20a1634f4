package state

// reasons say in plain words what each rule found.
var reasons = map[Rule]string{
	RuleJustCreatedBoth:   "both sides were just created, neither has data",
	RuleJustCreatedSelf:   "this node was just created and the peer has data",
	RuleJustCreatedPeer:   "the peer was just created and this node has data",
	RuleSourceMissedEnd:   "same generation; the peer finished the last resync and this node, its source, missed the end of it",
	RuleTargetSawEnd:      "same generation; this node finished the last resync and the peer, its source, missed the end of it",
	RulePeerNoSyncID:      "same generation; a resync of the peer had begun and the peer lost the note of it",
	RuleSelfNoSyncID:      "same generation; a resync of this node had begun and this node lost the note of it",
	RuleEqual:             "both sides have the same generation; a side that crashed as Primary may have blocks that the other lacks",
	RuleCrashedPrimaryNow: "same generation after the crash of a Primary, and somebody is Primary now",
	RuleTargetBitmap:      "the peer's changes are counted against the very data that this node has",
	RuleTargetLostStart:   "the peer began a resync of this node, and the note of it was lost",
	RuleTargetWentOn:      "this node finished the last resync; the peer, its source, missed the end of it and wrote on",
	RuleTargetHistory:     "this node has an older generation of the peer's data, from before its bitmap was begun",
	RuleSourceBitmap:      "this node's changes are counted against the very data that the peer has",
	RuleSourceLostStart:   "this node began a resync of the peer, and the note of it was lost",
	RuleSourceWentOn:      "the peer finished the last resync; this node, its source, missed the end of it and wrote on",
	RuleSourceHistory:     "the peer has an older generation of this node's data, from before the bitmap was begun",
	RuleSplitBrain:        "split brain: both sides went on from the same generation, each on its own",
	RuleSplitBrainHistory: "split brain: both sides have a common past and went on from it, each on its own",
}

// corrections are DRBD's log lines for identifiers that a lost message left behind.
var corrections = map[Rule]string{
	RuleSourceMissedEnd: "was SyncSource, missed the resync finished event, corrected myself:",
	RuleTargetSawEnd:    "was SyncTarget, peer missed the resync finished event, corrected peer:",
	RulePeerNoSyncID:    "was SyncSource (peer failed to write sync_uuid)",
	RuleSelfNoSyncID:    "was SyncTarget (failed to write sync_uuid)",
	RuleTargetLostStart: "Lost last syncUUID packet, corrected:",
	RuleSourceLostStart: "Last syncUUID did not get through, corrected:",
}

// advice says what to do where nothing is done.
var advice = map[Action]string{
	SplitBrain: "nothing is sent, both sides keep their data; to choose a victim: on it `secondary`, `disconnect`, `connect --discard-my-data`, and on the other side `connect`",
	Unrelated:  "nothing is sent: these were never the same data; to overwrite one side with the other: `invalidate` on it",
	Refuse:     "nothing is sent, both sides keep their data",
}

// AtRest is how the data of a volume that is down is called: nobody can tell whether it is up to date.
func AtRest(d Disk) Disk {
	if d > Consistent {
		return Consistent
	}
	return d
}
