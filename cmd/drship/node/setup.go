package node

import (
	"fmt"
	"slices"

	"drship/internal/config"
	"drship/internal/setup"
	"drship/internal/state"
)

// A resource that is up runs with the configuration that its disks were attached with, its network opened with, and the *-options verbs
// changed since: Resource.cfg and host. What the file says now waits in file and fileHost, until a verb takes it over, whole or in part; handlers
// and what the start waits for are the file's at once. A resource that is down has nothing to hold on to: it takes the file as it is.

// part is what of a configuration a verb takes over.
type part uint8

const (
	partDisk    part = 1 << iota // volumes, disk and journal options
	partNet                      // addresses, connections, net and wan options
	partOptions                  // resource options
	partAll     = partDisk | partNet | partOptions
)

// reconfigure notes a configuration that was read again.
func (r *Resource) reconfigure(rc *config.Resource) error {
	host, err := rc.Local(r.node.env.Node)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file, r.fileHost = rc, host
	if r.cfg == nil {
		r.takeLocked(partAll)
		return nil
	}
	next := *r.cfg
	next.Handlers, next.Startup = rc.Handlers, rc.Startup
	r.cfg = &next
	select {
	case <-r.ops: // nobody is at work: what is down may change at once
		r.freshenLocked()
		r.ops <- struct{}{}
	default:
	}
	return nil
}

// freshenLocked takes the file over where the resource is down. Called with the token and mu held.
func (r *Resource) freshenLocked() {
	if r.att == nil && r.net == nil && r.whole != r.file {
		r.takeLocked(partAll)
	}
}

// takeLocked takes parts of the file over. Called with the token (or before anybody knows the resource) and mu held.
func (r *Resource) takeLocked(p part) {
	next, host := *r.file, *r.fileHost
	if old := r.cfg; old != nil {
		if p&partDisk == 0 {
			next.Disk, next.Journal, host.Volumes = old.Disk, old.Journal, r.host.Volumes
		}
		if p&partNet == 0 {
			next.Net, next.WAN, next.Connections = old.Net, old.WAN, old.Connections
			host.NodeID, host.Address, host.Proxy = r.host.NodeID, r.host.Address, r.host.Proxy
		}
		if p&partOptions == 0 {
			next.Options, host.Options = old.Options, r.host.Options
		}
	}
	if p&partDisk != 0 {
		if r.att != nil {
			host.Volumes = withOptionsOf(r.host.Volumes, host.Volumes)
		}
		r.tempRate = 0
		for _, p := range r.peers {
			p.steered = nil
		}
	}
	r.cfg, r.host = &next, &host
	if p&partNet != 0 {
		r.takePeersLocked()
	}
	if p == partAll {
		r.whole = r.file
	}
}

// withOptionsOf gives the volumes that are attached the options of the file's; where their disks are does not change by that.
func withOptionsOf(attached, file []*config.Volume) []*config.Volume {
	out := slices.Clone(attached)
	for i, v := range out {
		at := slices.IndexFunc(file, func(f *config.Volume) bool { return f.Number == v.Number })
		if at < 0 {
			continue
		}
		changed := *v
		changed.Device, changed.Minor, changed.DiskOptions, changed.Written = file[at].Device, file[at].Minor, file[at].DiskOptions, file[at].Written
		out[i] = &changed
	}
	return out
}

// takePeersLocked takes the file's peers over. One that is connected, or being waited for, and is not in the file any more stays until it is disconnected.
func (r *Resource) takePeersLocked() {
	var peers []*peer
	for _, pc := range r.file.Peers(r.node.env.Node) {
		p := r.peerLocked(pc.Host.Name)
		if p == nil {
			p = &peer{name: pc.Host.Name, conn: state.StandAlone}
		}
		p.cfg = pc
		peers = append(peers, p)
	}
	for _, p := range r.peers {
		if (p.wanted || p.session != nil) && !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	r.peers = peers
}

// running is what is set up; nil where the resource is down.
func (r *Resource) running() *setup.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.att == nil && r.net == nil {
		return nil
	}
	peers := make([]*config.Peer, len(r.peers))
	for i, p := range r.peers {
		peers[i] = p.cfg
	}
	s := setup.Of(r.cfg, r.host, peers)
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if r.att == nil || !r.att.holds(v.Number) {
			v.Disk = ""
		}
		if r.tempRate > 0 {
			v.Options = setup.With(v.Options, "resync-rate", fmt.Sprintf("%dk", r.tempRate>>10))
		}
	}
	for i, p := range r.peers {
		s.Peers[i].Connect = p.wanted
		if p.steered != nil {
			s.Peers[i].Resync = p.steered.set
		}
	}
	return &s
}

// asked is what the file asks for.
func (r *Resource) asked() setup.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return setup.Of(r.file, r.fileHost, r.file.Peers(r.node.env.Node))
}

// holds reports whether a volume is attached.
func (a *attachment) holds(number uint16) bool {
	for _, v := range a.meta.Volumes {
		if v.Volume == number {
			return true
		}
	}
	return false
}
