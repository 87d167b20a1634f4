package verb

import (
	"context"
	"fmt"
	"slices"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/setup"
)

// calls lists the calls of the lower programs that drbdadm 8.4 would make for a verb on a resource: what --dry-run prints. Nothing calls them here.
func (c *compat) calls(verb string, r *config.Resource, t target) []string {
	host, err := r.Local(c.node.Node)
	if err != nil {
		return nil
	}
	want := c.restricted(setup.Of(r, host, r.Peers(c.node.Node)), t)
	by := setup.Caller{Setup: backend, Meta: "drbdmeta", Resource: r.Name}
	options := ""
	for _, o := range c.options {
		options += " " + o
	}
	switch verb {
	case "up", "adjust":
		return planCalls(by, nil, &want)
	case "attach":
		return stepCalls(by, setup.Attach, &want, options)
	case "connect":
		return stepCalls(by, setup.Connect, &want, options)
	case "disconnect":
		return stepCalls(by, setup.Disconnect, &want, options)
	case "new-resource":
		return stepCalls(by, setup.NewResource, &want, options)
	case "new-minor":
		return stepCalls(by, setup.NewMinor, &want, options)
	case "syncer":
		return slices.Concat(stepCalls(by, setup.ResourceOptions, &want, ""), stepCalls(by, setup.DiskOptions, &want, ""), stepCalls(by, setup.NetOptions, &want, ""))
	case "create-md", "apply-al", "dump-md", "wipe-md", "get-gi", "show-gi", "set-gi":
		return perVolume(&want, func(v *setup.Volume) string { return by.MetaHead(v) + " " + verb + options })
	case "down", "status", "resource-options":
		return []string{backend + " " + verb + " " + r.Name + options}
	case "net-options":
		return perPeer(&want, func(p *setup.Peer) string { return backend + " net-options " + p.Ends() + options })
	case "new-peer", "del-peer", "new-path", "del-path", "forget-peer":
		return perPeer(&want, func(p *setup.Peer) string { return nineCall(verb, r.Name, p) + options })
	case "resize":
		return append(perVolume(&want, func(v *setup.Volume) string { return fmt.Sprintf("%s resize %d%s", backend, v.Minor, options) }), c.calls("check-resize", r, t)...)
	case "run-handler": // no call: drbdadm runs it
		return nil
	case "check-resize", "wait-con-int":
		if verb == "wait-con-int" {
			verb = "wait-connect"
		}
		options = ""
	}
	return perVolume(&want, func(v *setup.Volume) string { return fmt.Sprintf("%s %s %d%s", backend, verb, v.Minor, options) })
}

// tried lists what a dry run prints: the calls, with those that drbdadm tries one after the other where a resource may be up or down.
func (c *compat) tried(verb string, r *config.Resource, t target) []string {
	lines := c.calls(verb, r, t)
	host, err := r.Local(c.node.Node)
	if err != nil {
		return lines
	}
	want := c.restricted(setup.Of(r, host, r.Peers(c.node.Node)), t)
	by := setup.Caller{Setup: backend, Meta: "drbdmeta", Resource: r.Name}
	switch verb {
	case "outdate", "invalidate", "dstate":
		return append(lines, perVolume(&want, func(v *setup.Volume) string { return by.MetaHead(v) + " " + verb })...)
	case "show-gi", "get-gi":
		return append(perVolume(&want, func(v *setup.Volume) string { return fmt.Sprintf("%s %s %d", backend, verb, v.Minor) }), lines...)
	case "check-resize":
		return append(perVolume(&want, func(v *setup.Volume) string { return fmt.Sprintf("%s resize %d", backend, v.Minor) }), lines...)
	}
	return lines
}

// nineCall is a call that only DRBD 9 has.
func nineCall(verb, resource string, p *setup.Peer) string {
	call := fmt.Sprintf("drbdsetup %s %s %d", verb, resource, p.NodeID)
	switch verb {
	case "new-peer":
		call += " --_name=" + p.Name
		for _, o := range p.Net {
			call += " --" + o.Name + "=" + o.Value
		}
	case "new-path", "del-path":
		call += " " + p.Ends()
	}
	return call
}

// restricted leaves the volume and the peer that a target means.
func (c *compat) restricted(s setup.Resource, t target) setup.Resource {
	s.Volumes = slices.DeleteFunc(s.Volumes, func(v setup.Volume) bool { return t.volume != control.AnyVolume && int(v.Number) != t.volume })
	s.Peers = slices.DeleteFunc(s.Peers, func(p setup.Peer) bool { return t.peer != "" && p.Name != t.peer })
	return s
}

// planCalls are the calls of adjust.
func planCalls(by setup.Caller, running, want *setup.Resource) []string {
	var lines []string
	for _, s := range setup.Plan(running, *want) {
		lines = append(lines, by.Calls(s, want)...)
	}
	return lines
}

// stepCalls are the calls of one kind of step on everything that it can be made on. Options go behind the last word of each.
func stepCalls(by setup.Caller, kind setup.Kind, want *setup.Resource, options string) []string {
	var lines []string
	add := func(s setup.Step) {
		calls := by.Calls(s, want)
		calls[len(calls)-1] += options
		lines = append(lines, calls...)
	}
	switch kind {
	case setup.Attach, setup.NewMinor, setup.DiskOptions:
		for i := range want.Volumes {
			if v := &want.Volumes[i]; v.Disk != "" || kind == setup.NewMinor {
				add(setup.Step{Kind: kind, Volume: v})
			}
		}
	case setup.Connect, setup.Disconnect, setup.NetOptions:
		for i := range want.Peers {
			add(setup.Step{Kind: kind, Peer: &want.Peers[i]})
		}
	default:
		add(setup.Step{Kind: kind})
	}
	return lines
}

func perVolume(want *setup.Resource, call func(*setup.Volume) string) []string {
	var lines []string
	for i := range want.Volumes {
		lines = append(lines, call(&want.Volumes[i]))
	}
	return lines
}

func perPeer(want *setup.Resource, call func(*setup.Peer) string) []string {
	var lines []string
	for i := range want.Peers {
		lines = append(lines, call(&want.Peers[i]))
	}
	return lines
}

// adjustCalls are the calls that lead from what runs to what the configuration says. Without a daemon nothing runs.
func (c *compat) adjustCalls(ctx context.Context, r *config.Resource, t target) ([]string, error) {
	host, err := r.Local(c.node.Node)
	if err != nil {
		return nil, err
	}
	run := &app{deps: c.deps, node: c.node}
	defer run.close()
	up, err := run.setups(ctx, nil)
	if err != nil && !control.NoDaemon(err) {
		return nil, err
	}
	want := c.restricted(setup.Of(r, host, r.Peers(c.node.Node)), t)
	var running *setup.Resource
	if i := slices.IndexFunc(up, func(s setup.Resource) bool { return s.Name == r.Name }); i >= 0 {
		s := c.restricted(up[i], t)
		running = &s
	}
	return planCalls(setup.Caller{Setup: backend, Meta: "drbdmeta", Resource: r.Name}, running, &want), nil
}
