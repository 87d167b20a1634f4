package setup

// Kind is what a step does.
type Kind uint8

// The kinds of step, in the order in which a plan has them.
const (
	Detach   Kind = iota // the disk of a volume that is gone, or that has another disk or minor now
	DelMinor             // forget such a volume
	NewResource
	ResourceOptions
	NewMinor
	Attach
	Resize      // disk { size … } grew
	DiskOptions // of a volume that stays attached
	Disconnect  // from a peer that is gone, or that is reached otherwise now
	Connect
	NetOptions        // of a connection that stays
	PeerDeviceOptions // of its resyncs: what was set for now goes
)

var kindNames = [...]string{"detach", "del-minor", "new-resource", "resource-options", "new-minor", "attach", "resize", "disk-options", "disconnect", "connect", "net-options", "peer-device-options"}

// String is the name of the verb that does the step by itself.
func (k Kind) String() string { return kindNames[k] }

// Step is one step from what runs to what is wanted. Of Volume and Peer the one that the step is about is set: as it is wanted, or, for what goes, as it runs.
type Step struct {
	Kind    Kind
	Volume  *Volume
	Peer    *Peer
	Changed []string // of an options step: which options change
}

// Plan returns the fewest steps that lead from what runs to what is wanted, in the order in which they can be made. running is nil where the
// resource is down. Options that mean the same, and volumes and connections that are as they should be, make no step.
func Plan(running *Resource, want Resource) []Step {
	if running == nil {
		running = &Resource{}
	}
	var steps []Step
	steps = append(steps, goneSteps(running, &want)...)
	if running.Name == "" {
		steps = append(steps, Step{Kind: NewResource})
	} else if changed := Differing("options", running.Options, want.Options); changed != nil {
		steps = append(steps, Step{Kind: ResourceOptions, Changed: changed})
	}
	for i := range want.Volumes {
		v := &want.Volumes[i]
		if old := running.Volume(v.Number); old == nil || old.Minor != v.Minor {
			steps = append(steps, Step{Kind: NewMinor, Volume: v})
		}
	}
	for i := range want.Volumes {
		steps = append(steps, volumeSteps(running, &want, &want.Volumes[i])...)
	}
	for i := range running.Peers {
		p := &running.Peers[i]
		if now := want.Peer(p.Name); p.Connect && (now == nil || !sameEnds(p, now)) {
			steps = append(steps, Step{Kind: Disconnect, Peer: p})
		}
	}
	for i := range want.Peers {
		steps = append(steps, peerSteps(running.Peer(want.Peers[i].Name), &want.Peers[i])...)
	}
	return steps
}

// goneSteps take away volumes that are not wanted, or not like that.
func goneSteps(running, want *Resource) []Step {
	var steps []Step
	for i := range running.Volumes {
		v := &running.Volumes[i]
		now := want.Volume(v.Number)
		moved := now == nil || now.Minor != v.Minor
		if v.Disk != "" && (moved || !sameDisk(v, now)) {
			steps = append(steps, Step{Kind: Detach, Volume: v})
		}
		if moved {
			steps = append(steps, Step{Kind: DelMinor, Volume: v})
		}
	}
	return steps
}

// volumeSteps make a volume that is wanted what it should be.
func volumeSteps(running, want *Resource, v *Volume) []Step {
	old := running.Volume(v.Number)
	if v.Disk == "" {
		return nil
	}
	if old == nil || old.Minor != v.Minor || old.Disk == "" || !sameDisk(old, v) {
		return []Step{{Kind: Attach, Volume: v}}
	}
	changed := Differing("disk", old.Options, v.Options)
	var steps []Step
	for i, name := range changed {
		if name == "size" {
			steps = append(steps, Step{Kind: Resize, Volume: v})
			changed = append(changed[:i:i], changed[i+1:]...)
			break
		}
	}
	changed = append(changed, Differing("journal", running.Journal, want.Journal)...)
	if len(changed) > 0 {
		steps = append(steps, Step{Kind: DiskOptions, Volume: v, Changed: changed})
	}
	return steps
}

func peerSteps(old, now *Peer) []Step {
	if old == nil || !old.Connect || !sameEnds(old, now) {
		return []Step{{Kind: Connect, Peer: now}}
	}
	var steps []Step
	if changed := append(Differing("net", old.Net, now.Net), Differing("wan", old.WAN, now.WAN)...); changed != nil {
		steps = append(steps, Step{Kind: NetOptions, Peer: now, Changed: changed})
	}
	if changed := Differing("disk", old.Resync, now.Resync); changed != nil {
		steps = append(steps, Step{Kind: PeerDeviceOptions, Peer: now, Changed: changed})
	}
	return steps
}

func sameDisk(a, b *Volume) bool { return a.Disk == b.Disk }

func sameEnds(a, b *Peer) bool { return a.Local == b.Local && a.Remote == b.Remote }
