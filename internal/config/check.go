package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// uses remembers where things that may be used once were used first.
type uses map[string]Pos

// check holds the whole configuration against the rules that only the whole can break.
func (p *parser) check() {
	p.checkGlobal()
	seen := uses{}
	for _, r := range p.cfg.Resources {
		p.checkHosts(r)
		p.checkVolumes(r)
		p.checkUnique(r, seen)
		p.checkConnections(r)
		p.checkNet(r, r.Net, r.Pos)
		for _, c := range r.Connections {
			p.checkNet(r, c.Net, c.Pos)
		}
	}
	p.checkResyncAfter()
}

// checkGlobal holds the NBD listener to issue of plain text: beyond loopback only with TLS or in so many words.
func (p *parser) checkGlobal() {
	g := p.cfg.Global
	if (g.NBDTLSCert == "") != (g.NBDTLSKey == "") || g.NBDTLSCA != "" && g.NBDTLSCert == "" {
		for _, name := range []string{"nbd-tls-cert", "nbd-tls-key", "nbd-tls-ca"} {
			if s, ok := g.Set[name]; ok {
				p.errorf(s.Pos, "nbd-tls-cert and nbd-tls-key are needed together, nbd-tls-ca goes with them")
				break
			}
		}
	}
	if g.NBDListen == "" || g.NBDTLSCert != "" || g.AllowPlaintextNBD {
		return
	}
	host, _, _ := net.SplitHostPort(g.NBDListen)
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return
	}
	p.errorf(g.Set["nbd-listen"].Pos, "nbd-listen %s reaches beyond this machine: it needs nbd-tls-cert and nbd-tls-key, or allow-plaintext-nbd yes", g.NBDListen)
}

// in names a host as drbdadm does.
func (h *Host) in(r *Resource) string {
	switch h.Kind {
	case Floating:
		return fmt.Sprintf("in resource %s, floating %s { ... }", r.Name, h.Name)
	case OnTop:
		return fmt.Sprintf("in resource %s, stacked-on-top-of %s { ... }", r.Name, h.Lower)
	}
	return fmt.Sprintf("in resource %s, on %s { ... }", r.Name, strings.Join(h.Names, " "))
}

// checkHosts wants every host complete.
func (p *parser) checkHosts(r *Resource) {
	if len(r.Hosts) == 0 {
		p.errorf(r.Pos, "in resource %s: a host section ('on NAME { ... }') is missing.", r.Name)
	}
	for _, h := range r.Hosts {
		if h.Address.IsZero() {
			p.errorf(h.Pos, "%s: 'address' keyword missing.", h.in(r))
		}
		if len(h.Volumes) == 0 {
			p.errorf(h.Pos, "%s: 'device' keyword missing.", h.in(r))
		}
		for _, v := range h.Volumes {
			volume := ""
			if len(h.Volumes) > 1 {
				volume = ", volume " + strconv.Itoa(int(v.Number)) + " { ... }"
			}
			if !v.devicePos.IsValid() {
				p.errorf(h.Pos, "%s%s: 'device' keyword missing.", h.in(r), volume)
			}
			if !v.diskPos.IsValid() && h.Kind != OnTop {
				p.errorf(h.Pos, "%s%s: 'disk' keyword missing.", h.in(r), volume)
			}
		}
	}
}

// checkVolumes wants the same volumes on every host.
func (p *parser) checkVolumes(r *Resource) {
	first := map[uint16]*Host{}
	place := map[uint16]Pos{}
	for _, h := range r.Hosts {
		for _, v := range h.Volumes {
			if first[v.Number] == nil {
				first[v.Number], place[v.Number] = h, v.Pos
			}
		}
	}
	for _, number := range slices.Sorted(maps.Keys(first)) {
		for _, h := range r.Hosts {
			has := slices.ContainsFunc(h.Volumes, func(v *Volume) bool { return v.Number == number })
			if len(h.Volumes) > 0 && !has {
				p.errorf(place[number], "%s: volume %d not defined on %s", first[number].in(r), number, h.Name)
			}
		}
	}
}

// claim notes the use of name under key; a second one is an error.
func (p *parser) claim(seen uses, what, name, key string, at Pos) {
	if first, ok := seen[key]; ok {
		p.conflict(what, name, at, first)
		return
	}
	seen[key] = at
}

// checkUnique wants addresses, minors, device names, disks and metadata slots used once a host.
func (p *parser) checkUnique(r *Resource, seen uses) {
	for _, h := range r.Hosts {
		if !h.Address.IsZero() {
			key := "IP:" + h.Address.HostPort()
			if h.Proxy != nil && h.Address.loopback() { // between a host and its own proxy
				key += "@" + h.Name
			}
			p.claim(seen, "IP", h.Address.HostPort(), key, h.addressPos)
		}
		for _, name := range h.Names {
			for _, v := range h.Volumes {
				p.checkVolumeUnique(h, v, name, seen)
			}
		}
	}
}

func (p *parser) checkVolumeUnique(h *Host, v *Volume, name string, seen uses) {
	if v.hasMinor {
		id := fmt.Sprintf("device-minor:%s:%d", name, v.Minor)
		p.claim(seen, "device-minor", id, id, v.devicePos)
	}
	if v.Device != "" && !v.minorOnly && !strings.HasPrefix(v.Device, "/dev/drbd") {
		id := fmt.Sprintf("device:%s:%s", name, v.Device)
		p.claim(seen, "device", id, id, v.devicePos)
	}
	if h.Kind == OnTop {
		return
	}
	if v.Disk != "" && !v.Diskless() {
		id := fmt.Sprintf("disk:%s:%s", name, v.Disk)
		p.claim(seen, "disk", id, id, v.diskPos)
	}
	if v.MetaDisk != "internal" && v.metaPos.IsValid() {
		id := fmt.Sprintf("meta-disk:%s:%s[%d]", name, v.MetaDisk, v.MetaIndex)
		p.claim(seen, "meta-disk", id, id, v.metaPos)
	}
}

// checkConnections wants connections between hosts of the resource, each pair once.
func (p *parser) checkConnections(r *Resource) {
	pairs := uses{}
	for _, c := range r.Connections {
		for _, name := range c.Hosts {
			if r.named(name) == nil {
				p.unknownHost(r, name, c.Pos)
			}
		}
		all := append([][2]Endpoint(nil), c.Paths...)
		if len(c.Ends) == 2 {
			all = append(all, [2]Endpoint{c.Ends[0], c.Ends[1]})
		}
		var first string
		for _, path := range all {
			a, b := r.named(path[0].Host), r.named(path[1].Host)
			if a == nil || b == nil {
				for i, h := range []*Host{a, b} {
					if h == nil {
						p.unknownHost(r, path[i].Host, path[i].Pos)
					}
				}
				continue
			}
			if a == b {
				p.errorf(c.Pos, "a connection of host %s with itself", a.Name)
				continue
			}
			pair := min(a.Name, b.Name) + " " + max(a.Name, b.Name)
			if first == "" {
				first = pair
				p.claim(pairs, "connection", r.Name+": "+pair, pair, c.Pos)
			} else if pair != first {
				p.errorf(path[0].Pos, "the paths of a connection lead to different hosts")
			}
		}
	}
}

func (p *parser) unknownHost(r *Resource, name string, at Pos) {
	var names []string
	for _, h := range r.Hosts {
		names = append(names, h.Names...)
	}
	p.errorf(at, "in resource %s: host '%s' has no section 'on'", r.Name, name).Nearest = nearest(name, names)
}

// checkNet holds options of one connection against each other.
func (p *parser) checkNet(r *Resource, n Net, at Pos) {
	where := func(name string) Pos {
		if s, ok := n.Set[name]; ok {
			return s.Pos
		}
		return at
	}
	if n.CramHMACAlg != "" && n.SharedSecret == "" {
		p.errorf(where("cram-hmac-alg"), "in resource %s: cram-hmac-alg needs a shared-secret", r.Name)
	}
	if n.SharedSecret != "" && n.CramHMACAlg == "" {
		p.warnOnce(where("shared-secret"), "shared-secret has no effect without cram-hmac-alg")
	}
	if n.Fencing == "resource-and-stonith" && n.Protocol == 'A' {
		p.errorf(where("fencing"), "in resource %s: fencing resource-and-stonith does not go with protocol A", r.Name)
	}
	if n.Timeout >= n.ConnectInt || n.Timeout >= n.PingInt {
		p.warnOnce(where("timeout"), "timeout should be shorter than connect-int and ping-int")
	}
}

// warnOnce warns unless the same was said already, as of an option of common that many resources inherit.
func (p *parser) warnOnce(at Pos, text string) {
	for _, w := range p.cfg.Warnings {
		if w.Pos == at && w.Text == text {
			return
		}
	}
	p.warn(at, text)
}

// checkResyncAfter wants known resources and no circle.
func (p *parser) checkResyncAfter() {
	for _, r := range p.cfg.Resources {
		after := r.afterResource()
		if after == "" {
			continue
		}
		at := r.Disk.Set["resync-after"].Pos
		if p.cfg.Resource(after) == nil {
			p.warnOnce(at, fmt.Sprintf("in resource %s: resource '%s' mentioned in 'resync-after' option is not known", r.Name, after))
			continue
		}
	}
	walk := map[*Resource]*Resource{} // which walk came by first
	for _, start := range p.cfg.Resources {
		for r := start; r != nil && r.afterResource() != ""; r = p.cfg.Resource(r.afterResource()) {
			if walk[r] == start {
				p.errorf(r.Disk.Set["resync-after"].Pos, "in resource %s: resync-after %s leads back to %s", r.Name, r.afterResource(), r.Name)
			}
			if walk[r] != nil {
				break
			}
			walk[r] = start
		}
	}
}

// afterResource is the resource that resync-after names, "" without one.
func (r *Resource) afterResource() string {
	name, _, _ := strings.Cut(r.Disk.ResyncAfter, "/")
	return name
}
