package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// ErrNotForHost says that a resource does not concern a node.
var ErrNotForHost = errors.New("is not for host")

// Local returns the host that node is in this resource. Floating hosts are found by the machine's addresses. An error
// that wraps ErrNotForHost says that the resource does not concern node.
func (r *Resource) Local(node string) (*Host, error) {
	if !contains(r.IgnoreOn, node) {
		for _, h := range r.Hosts {
			if h.Kind != Floating && contains(h.Names, node) {
				return h, nil
			}
		}
		for _, h := range r.Hosts {
			if h.Kind == Floating && (h.Name == node || r.config != nil && contains(r.config.addrs, h.Address.Host)) {
				return h, nil
			}
		}
	}
	return nil, fmt.Errorf("resource %s %w %s", r.Name, ErrNotForHost, node)
}

// named returns the host that a connection means by name.
func (r *Resource) named(name string) *Host {
	for _, h := range r.Hosts {
		if contains(h.Names, name) || h.Kind == OnTop && h.Lower == name {
			return h
		}
		if h.Kind == Floating && (name == h.Address.Host || name == h.Address.Family+":"+h.Name) {
			return h
		}
	}
	return nil
}

// Peers returns the hosts that node is connected with, in the order of the file: those that connection sections name,
// or every other host where there are none. It is empty where the resource is not for node.
func (r *Resource) Peers(node string) []*Peer {
	local, err := r.Local(node)
	if err != nil {
		return nil
	}
	var peers []*Peer
	for _, h := range r.Hosts {
		if h == local {
			continue
		}
		if len(r.Connections) == 0 {
			p := &Peer{Host: h, Net: r.Net, WAN: r.WAN, Disk: r.Disk}
			p.Local, p.Remote = local.linkAddress(nil, h), h.linkAddress(nil, local)
			peers = append(peers, p)
			continue
		}
		if p := r.connected(local, h); p != nil {
			peers = append(peers, p)
		}
	}
	return peers
}

// connected returns the peer that a connection or a mesh makes of remote; an explicit connection goes before a mesh.
func (r *Resource) connected(local, remote *Host) *Peer {
	var mesh *Connection
	for _, c := range r.Connections {
		if c.Mesh {
			if mesh == nil && r.inMesh(c, local) && r.inMesh(c, remote) {
				mesh = c
			}
			continue
		}
		paths := c.Paths
		if len(c.Ends) == 2 {
			paths = [][2]Endpoint{{c.Ends[0], c.Ends[1]}}
		}
		var found [][2]Address
		for _, path := range paths {
			a, b := path[0], path[1]
			if r.named(a.Host) == remote {
				a, b = b, a
			}
			if r.named(a.Host) == local && r.named(b.Host) == remote {
				found = append(found, [2]Address{local.linkAddress(&a, remote), remote.linkAddress(&b, local)})
			}
		}
		if len(found) > 0 {
			return &Peer{Host: remote, Net: c.Net, WAN: c.WAN, Disk: overDisk(r.Disk, c.Written), conn: c,
				Local: found[0][0], Remote: found[0][1], Paths: found[1:]}
		}
	}
	if mesh == nil {
		return nil
	}
	return &Peer{Host: remote, Net: mesh.Net, WAN: mesh.WAN, Disk: overDisk(r.Disk, mesh.Written), conn: mesh,
		Local: local.linkAddress(nil, remote), Remote: remote.linkAddress(nil, local)}
}

// VolumeDisk returns the disk options that are effective for a volume of the local host towards this peer.
func (p *Peer) VolumeDisk(v *Volume) Disk {
	if p.conn == nil {
		return v.DiskOptions
	}
	return overDisk(v.DiskOptions, p.conn.Written, p.conn.Volumes[v.Number])
}

// overDisk lays the disk options of a connection over d.
func overDisk(d Disk, levels ...Written) Disk {
	v := sections{Disk: d}
	p := &parser{cfg: &Config{}}
	for _, w := range levels {
		p.layAll(&v, Written{Disk: w.Disk})
	}
	return v.Disk
}

func (r *Resource) inMesh(c *Connection, h *Host) bool {
	for _, name := range c.Hosts {
		if r.named(name) == h {
			return true
		}
	}
	return false
}

// linkAddress is where h is reached: by the endpoint of a connection, by the outside of DRBD proxies where both hosts
// had one, by its own address.
func (h *Host) linkAddress(e *Endpoint, other *Host) Address {
	a := h.Address
	if h.Proxy != nil && other.Proxy != nil && !h.Proxy.Outside.IsZero() {
		a = h.Proxy.Outside
	}
	if e == nil {
		return a
	}
	if e.Proxy != nil && !e.Proxy.Outside.IsZero() {
		return e.Proxy.Outside
	}
	if !e.Address.IsZero() {
		port := a.Port
		a = e.Address
		if a.Port == 0 {
			a.Port = port
		}
	}
	if e.Port != 0 {
		a.Port = e.Port
	}
	return a
}

// interfaceAddresses lists the machine's IP addresses.
func interfaceAddresses() ([]string, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	out := make([]string, 0, len(list))
	for _, a := range list {
		ip, _, _ := strings.Cut(a.String(), "/")
		out = append(out, ip)
	}
	return out, nil
}
