package state

import (
	"cmp"
	"slices"
)

// reconcile gives a direction to equal generations with blocks that are marked as different (a verify found them, or replication was
// held): a Primary is ahead, then the better disk, then the later position in the write order, then the only side
// that has marks. Where none of these tells, nothing is sent and nothing cleared.
func (d *decider) reconcile() {
	if d.strength != ResultEqual || d.self.Changed == 0 && d.peer.Changed == 0 || d.out.NoData {
		return
	}
	way := 0
	if d.self.Disk > Inconsistent && d.peer.Disk > Inconsistent && d.out.Comparison.Rule != RuleJustCreatedBoth {
		way = cmp.Or(
			compareBool(d.self.Role == Primary, d.peer.Role == Primary),
			cmp.Compare(d.self.Disk, d.peer.Disk),
			comparePosition(d.self, d.peer),
			compareBool(d.self.Changed != 0, d.peer.Changed != 0),
		)
	}
	if way == 0 {
		d.log("No resync, but %d bits in bitmap!", max(d.self.Changed, d.peer.Changed))
		d.say("both have the same generation, yet blocks are marked as different and nothing tells which side is right: they stay marked")
		return
	}
	d.strength = way * ResultBitmap
	d.out.Reconciled = true
	d.say("both have the same generation, and the blocks marked as different are sent from the side that is ahead")
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func comparePosition(a, b Side) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Num, b.Num))
}

// conflict returns why the direction found is refused, "" if it is not. Both sides look at both.
func (d *decider) conflict() string {
	if d.strength == ResultEqual {
		return ""
	}
	source, target := d.self, d.peer
	if d.strength < 0 {
		source, target = d.peer, d.self
	}
	if source.Disk <= Inconsistent {
		d.say("the side that would be the source has no consistent data")
		if d.strength > 0 {
			return "I shall become SyncSource, but I am inconsistent!"
		}
		return "Peer shall become SyncSource, but it is inconsistent!"
	}
	// A victim of call-pri-lost-after-sb demotes before it becomes target, so it is no Primary any more.
	demotes := d.out.SolvedByPolicy && d.callsPriLost()
	if target.Role != Primary || target.Disk < Consistent || demotes {
		return ""
	}
	return d.primaryTarget()
}

func (d *decider) callsPriLost() bool {
	switch primaries(d.self, d.peer) {
	case 1:
		return d.pol.AfterSB1 == CallPriLostAfterSB
	case 2:
		return d.pol.AfterSB2 == CallPriLostAfterSB
	}
	return false
}

// primaryTarget applies rr-conflict: the target is Primary, and its clients would see its data change. auto-discard asks for nothing
// that rule 41 has not done before: after a crash the side that is Primary now is the source.
func (d *decider) primaryTarget() string {
	d.say("the side that would be the target is Primary: rr-conflict decides")
	switch d.pol.RRConflict {
	case Violently:
		d.out.Violent = true
		if d.strength < 0 {
			d.log("Becoming SyncTarget, violating the stable-data assumption")
		}
		return ""
	case RetryConnect:
		d.out.Retry = true
	case CallPriLost:
		if d.strength < 0 {
			d.handler("pri-lost")
		}
	}
	if d.strength < 0 {
		return "I shall become SyncTarget, but I am primary!"
	}
	return "Peer shall become SyncTarget, but it is primary!"
}

func (d *decider) finish() Decision {
	action := Equal
	switch {
	case d.strength > 0:
		action = BecomeSource
	case d.strength < 0:
		action = BecomeTarget
	}
	d.out.Action = action
	d.out.Full = d.strength == ResultFull || d.strength == -ResultFull
	d.losses()
	if d.self.Tentative || d.peer.Tentative {
		d.dryRun()
		return d.out
	}
	if d.out.Full {
		d.log("Writing the whole bitmap, full sync required after drbd_sync_handshake.")
	}
	return d.out
}

// losses fills in what goes over the link and what is overwritten.
func (d *decider) losses() {
	if d.strength == ResultEqual {
		d.say("nothing is sent, nothing is discarded")
		return
	}
	d.out.Sends = d.self.Changed + d.peer.Changed
	victim := d.peer
	if d.strength < 0 {
		victim = d.self
		d.out.Discards.Self = true
		d.say("this node becomes the target")
	} else {
		d.out.Discards.Peer = true
		d.say("this node becomes the source")
	}
	if d.out.Full {
		d.out.Discards.All = true
		d.say("the whole volume is sent, and the target's content replaced")
		return
	}
	d.out.Discards.Blocks = victim.Changed
	d.say("at most %d blocks of 4 KiB are sent; %d of them the target had changed on its own, and those changes are discarded", d.out.Sends, victim.Changed)
}

func (d *decider) dryRun() {
	if d.strength == ResultEqual {
		d.log("dry-run connect: No resync, would become Connected immediately.")
	} else {
		conn, kind := SyncSource, "bit-map based"
		if d.strength < 0 {
			conn = SyncTarget
		}
		if d.out.Full {
			kind = "full"
		}
		d.log("dry-run connect: Would become %s, doing a %s resync.", conn, kind)
	}
	d.out.DryRun, d.out.Would, d.out.Action = true, d.out.Action, Refuse
}

// combine makes one decision of those of a resource's volumes.
func combine(all []Decision) Decision {
	out := Decision{Volumes: all, NoData: len(all) > 0}
	var source, target, tentative bool
	worst := 0
	for i := range all {
		d := &all[i]
		out.merge(d)
		if d.plan().severity() > all[worst].plan().severity() {
			worst = i
		}
		source = source || d.plan() == BecomeSource
		target = target || d.plan() == BecomeTarget
		tentative = tentative || d.DryRun
	}
	if len(all) == 0 {
		return out
	}
	out.Action, out.Comparison, out.Text = all[worst].plan(), all[worst].Comparison, all[worst].Text
	switch {
	case out.Action.severity() >= Refuse.severity():
		out.drop()
	case source && target:
		out.drop()
		out.Action, out.Text = Refuse, "Volumes disagree about the direction of the resync, dropping connection!"
		out.Log = append(out.Log, out.Text)
		out.Explain = append(out.Explain, "one volume is newer here and another at the peer: a resource has one direction; choose it with invalidate or invalidate-remote")
	case tentative:
		out.DryRun, out.Would, out.Action = true, out.Action, Refuse
	}
	return out
}

// plan is the action, seen through a dry run.
func (d *Decision) plan() Action {
	if d.DryRun {
		return d.Would
	}
	return d.Action
}

// drop takes back what would have been done to data.
func (d *Decision) drop() {
	d.DemoteFirst, d.Violent, d.Full, d.Sends, d.Discards = false, false, false, 0, Discard{}
}

// merge adds what one volume's decision has to the resource's.
func (d *Decision) merge(v *Decision) {
	d.Full = d.Full || v.Full
	d.SplitBrainSeen = d.SplitBrainSeen || v.SplitBrainSeen
	d.SolvedByPolicy = d.SolvedByPolicy || v.SolvedByPolicy
	d.SolvedByHand = d.SolvedByHand || v.SolvedByHand
	d.Reconciled = d.Reconciled || v.Reconciled
	d.DemoteFirst = d.DemoteFirst || v.DemoteFirst
	d.Violent = d.Violent || v.Violent
	d.Retry = d.Retry || v.Retry
	d.NoData = d.NoData && v.NoData
	for _, h := range v.Handlers {
		if !slices.Contains(d.Handlers, h) {
			d.Handlers = append(d.Handlers, h)
		}
	}
	d.Log = append(d.Log, v.Log...)
	d.Explain = append(d.Explain, v.Explain...)
	d.Sends += v.Sends
	d.Discards.Self = d.Discards.Self || v.Discards.Self
	d.Discards.Peer = d.Discards.Peer || v.Discards.Peer
	d.Discards.All = d.Discards.All || v.Discards.All
	d.Discards.Blocks += v.Discards.Blocks
}
