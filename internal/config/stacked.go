package config

import (
	"fmt"
	"slices"
)

// Unstacked returns the configuration as it is run: a resource that stands on top of another one is no resource of its own, but makes its other
// hosts peers of the lower one. Those hosts speak with each host of the lower resource over the stacked address, which is where the lower Primary
// is, by the upper resource's net and wan sections. The upper name stays an alias. What cannot be run so is left out, with a warning.
func (c *Config) Unstacked() *Config {
	out := *c
	out.Warnings = slices.Clone(c.Warnings)
	out.byName = map[string]*Resource{}
	out.Resources = nil
	for _, r := range c.Resources {
		if !r.Stacked {
			flat := *r
			flat.config = &out
			out.Resources = append(out.Resources, &flat)
			out.byName[r.Name] = &flat
		}
	}
	for _, r := range c.Resources {
		if !r.Stacked {
			continue
		}
		lower, err := out.unstack(r)
		if err != nil {
			out.Warnings = append(out.Warnings, Warning{Pos: r.Pos, Text: fmt.Sprintf("resource %s is not run: %v", r.Name, err)})
			continue
		}
		out.byName[r.Name] = lower
		out.Warnings = append(out.Warnings, Warning{Pos: r.Pos, Text: fmt.Sprintf("resource %s is run as a peer of %s, which it stands on: its clients use the volumes of %s", r.Name, lower.Name, lower.Name)})
	}
	return &out
}

// unstack adds the hosts of upper that stand on nothing to the resource that the other one stands on.
func (c *Config) unstack(upper *Resource) (*Resource, error) {
	var top *Host
	var others []*Host
	for _, h := range upper.Hosts {
		switch {
		case h.Kind != OnTop:
			others = append(others, h)
		case top != nil:
			return nil, fmt.Errorf("it stands on %s and on %s; one lower resource can have further peers, two cannot be one", top.Lower, h.Lower)
		default:
			top = h
		}
	}
	lower := c.byName[top.Lower]
	if lower == nil {
		return nil, fmt.Errorf("%s, which it stands on, is not run", top.Lower)
	}
	for _, h := range others {
		if err := sameVolumes(lower, h); err != nil {
			return nil, err
		}
	}
	if len(lower.Connections) == 0 {
		lower.Connections = append(lower.Connections, &Connection{Mesh: true, Hosts: hostNames(lower.Hosts), Net: lower.Net, WAN: lower.WAN, Pos: lower.Pos})
	}
	near := slices.Clone(lower.Hosts)
	lower.Hosts, lower.Connections = slices.Clone(lower.Hosts), slices.Clone(lower.Connections)
	for _, h := range others {
		third := *h
		third.NodeID = freeNodeID(lower.Hosts, h.NodeID)
		for _, n := range near {
			ends := []Endpoint{{Host: n.Names[0], Address: top.Address, Pos: top.Pos}, {Host: third.Names[0], Pos: h.Pos}}
			lower.Connections = append(lower.Connections, &Connection{Ends: ends, Net: upper.Net, WAN: upper.WAN, Pos: upper.Pos})
		}
		lower.Hosts = append(lower.Hosts, &third)
	}
	lower.Aliases = append(slices.Clone(lower.Aliases), upper.Name)
	return lower, nil
}

// sameVolumes refuses a host that has other volumes than the hosts of the lower resource: there is one write order over all of them.
func sameVolumes(lower *Resource, h *Host) error {
	numbers := func(list []*Volume) (out []uint16) {
		for _, v := range list {
			out = append(out, v.Number)
		}
		return out
	}
	if have, want := numbers(h.Volumes), numbers(lower.Hosts[0].Volumes); !slices.Equal(have, want) {
		return fmt.Errorf("%s has volumes %v there, and %s has %v; they must be the same", h.Name, have, lower.Name, want)
	}
	return nil
}

func hostNames(hosts []*Host) (names []string) {
	for _, h := range hosts {
		names = append(names, h.Names[0])
	}
	return names
}

// freeNodeID is want, or the next number that no host has.
func freeNodeID(hosts []*Host, want int) int {
	for slices.ContainsFunc(hosts, func(h *Host) bool { return h.NodeID == want }) {
		want++
	}
	return want
}
