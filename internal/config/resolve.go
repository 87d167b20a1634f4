package config

import (
	"slices"
	"strings"
)

// finish lays the levels over one another once everything is read, fills the typed sections and checks the result.
func (p *parser) finish() {
	v := newSections()
	p.lay(&v, "global", p.cfg.global, nil)
	v.Global.Set = asSet(p.cfg.global)
	p.cfg.Global = v.Global
	for _, r := range p.cfg.Resources {
		p.resolveHosts(r)
		p.resolveResource(r)
	}
	p.check()
}

// newSections returns every option at its default.
func newSections() sections {
	return index().defaults
}

// lay sets the written options of one section over v, and notes them in set.
func (p *parser) lay(v *sections, section string, list []Setting, set *Set) {
	for _, s := range list {
		o := index().options[section][s.Name]
		if err := o.set(v, s.Value); err != nil && !p.o.AnyWord { // checked when read; a second failure would be ours
			p.badValue(s.Pos, err, false, s.Value)
			continue
		}
		if set == nil {
			continue
		}
		if *set == nil {
			*set = Set{}
		}
		(*set)[s.Name] = s
	}
}

func asSet(list []Setting) Set {
	set := Set{}
	for _, s := range list {
		set[s.Name] = s
	}
	return set
}

// layAll sets every section of each level over v, the weakest level first.
func (p *parser) layAll(v *sections, levels ...Written) {
	v.Net.Set, v.Disk.Set, v.Options.Set, v.Startup.Set = cloned(v.Net.Set), cloned(v.Disk.Set), cloned(v.Options.Set), cloned(v.Startup.Set)
	v.Journal.Set, v.WAN.Set, v.Proxy.Set = cloned(v.Journal.Set), cloned(v.WAN.Set), cloned(v.Proxy.Set)
	for _, w := range levels {
		p.lay(v, "net", w.Net, &v.Net.Set)
		p.lay(v, "disk", w.Disk, &v.Disk.Set)
		p.lay(v, "options", w.Options, &v.Options.Set)
		p.lay(v, "startup", w.Startup, &v.Startup.Set)
		p.lay(v, "proxy", w.Proxy, &v.Proxy.Set)
		p.lay(v, "journal", w.Journal, &v.Journal.Set)
		p.lay(v, "wan", w.WAN, &v.WAN.Set)
		for _, s := range w.Plugin {
			v.Proxy.Plugin, v.Proxy.Level = s.Name, pluginLevel(s.Value)
			v.Proxy.Set[s.Name] = s
		}
	}
}

func cloned(s Set) Set {
	out := Set{}
	for k, v := range s {
		out[k] = v
	}
	return out
}

// pluginLevel reads "level N"; 0 where none stands.
func pluginLevel(s string) int {
	text, ok := strings.CutPrefix(s, "level ")
	n, err := parseNumber(text, '1')
	if !ok || err != nil {
		return 0
	}
	return int(n)
}

// fromProxy gives the WAN settings that a DRBD Proxy plugin stands for, where wan says nothing itself.
func fromProxy(w *WAN, x Proxy) {
	if x.MemLimit > 0 && !w.Set.Has("cache-size") {
		w.CacheSize = min(w.CacheSize, x.MemLimit) // what a proxy buffers is in the journal here: a large one asks for no more
	}
	if x.Plugin == "" || w.Set.Has("compression") {
		return
	}
	level := x.Level
	switch x.Plugin {
	case "lz4":
		w.Compression, level = "s2", 0
	case "lzma":
		w.Compression, level = "zstd", 19
	default:
		w.Compression = "zstd"
	}
	if !w.Set.Has("level") {
		w.Level = level
	}
}

// resolveResource fills the typed sections of a resource, its hosts' volumes and its connections.
func (p *parser) resolveResource(r *Resource) {
	base := newSections()
	p.layAll(&base, p.cfg.Common, r.template, r.Written)
	fromProxy(&base.WAN, base.Proxy)
	r.Net, r.Disk, r.Options, r.Startup = base.Net, base.Disk, base.Options, base.Startup
	r.Proxy, r.Journal, r.WAN = base.Proxy, base.Journal, base.WAN
	r.Handlers = map[string]string{}
	for _, w := range []Written{p.cfg.Common, r.template, r.Written} {
		for _, s := range w.Handlers {
			r.Handlers[s.Name] = s.Value
		}
	}
	for _, h := range r.Hosts {
		v := base
		p.layAll(&v, h.Written)
		h.Options = v.Options
		p.resolveVolumes(r, h, v)
	}
	for _, c := range r.Connections {
		v := base
		p.layAll(&v, c.Written)
		c.Net, c.WAN = v.Net, v.WAN
	}
}

// resolveVolumes lays a host's volumes over the resource's. at is what is effective at the level of the host.
func (p *parser) resolveVolumes(r *Resource, h *Host, at sections) {
	var numbers []uint16
	byNumber := map[uint16][2]*Volume{}
	for level, list := range [][]*Volume{r.volumes, h.volumes} {
		for _, v := range list {
			pair, known := byNumber[v.Number]
			if !known {
				numbers = append(numbers, v.Number)
			}
			if pair[level] != nil { // device … beside volume 0 { … }
				p.conflict("volume", "volume 0", v.Pos, pair[level].Pos)
				continue
			}
			pair[level] = v
			byNumber[v.Number] = pair
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		eff := newVolume(n, h.Pos)
		s := at
		for _, v := range byNumber[n] {
			if v != nil {
				eff.inherit(v)
				p.layAll(&s, v.Written)
			}
		}
		eff.DiskOptions = s.Disk
		p.completeVolume(h, eff)
		h.Volumes = append(h.Volumes, eff)
	}
}

// inherit takes from v what v says.
func (eff *Volume) inherit(v *Volume) {
	eff.Pos = v.Pos
	eff.Written = v.Written
	if v.devicePos.IsValid() {
		eff.Device, eff.Minor, eff.hasMinor, eff.minorOnly, eff.devicePos = v.Device, v.Minor, v.hasMinor, v.minorOnly, v.devicePos
	}
	if v.diskPos.IsValid() {
		eff.Disk, eff.diskPos = v.Disk, v.diskPos
	}
	if v.metaPos.IsValid() {
		eff.MetaDisk, eff.MetaIndex, eff.metaPos, eff.flexibleMeta = v.MetaDisk, v.MetaIndex, v.metaPos, v.flexibleMeta
	}
}

// completeVolume fills in what follows from the rest, and warns of a metadata device.
func (p *parser) completeVolume(h *Host, v *Volume) {
	if h.Kind == OnTop && v.Disk == "" {
		v.Disk = lowerDevice(p.cfg.Resource(h.Lower), v.Number)
	}
	if !v.metaPos.IsValid() {
		v.MetaDisk = "internal"
	}
	if v.MetaDisk != "internal" && h.Kind == Named {
		p.warnOnce(v.metaPos, "meta-disk "+v.MetaDisk+": accepted without effect: metadata lives in the state directory; the device is not touched")
	}
}

// lowerDevice is the device of a lower resource on which a stacked volume stands.
func lowerDevice(lower *Resource, number uint16) string {
	if lower == nil {
		return ""
	}
	for _, h := range lower.Hosts {
		for _, list := range [][]*Volume{h.volumes, lower.volumes} {
			for _, v := range list {
				if v.Number == number && v.Device != "" {
					return v.Device
				}
			}
		}
	}
	return ""
}

// resolveHosts counts node ids where none are given, and finds the hosts of a lower resource.
func (p *parser) resolveHosts(r *Resource) {
	taken := map[int]Pos{}
	for _, h := range r.Hosts {
		if !h.hasNodeID {
			continue
		}
		if first, twice := taken[h.NodeID]; twice {
			p.conflict("node-id", r.Name+":"+h.Name, h.Pos, first)
		}
		taken[h.NodeID] = h.Pos
	}
	next := 0
	for _, h := range r.Hosts {
		if h.Kind == OnTop {
			p.resolveLower(r, h)
		}
		if h.hasNodeID {
			continue
		}
		for taken[next].IsValid() {
			next++
		}
		h.NodeID = next
		taken[next] = h.Pos
	}
}

func (p *parser) resolveLower(r *Resource, h *Host) {
	lower := p.cfg.Resource(h.Lower)
	switch {
	case lower == nil:
		e := p.errorf(h.Pos, "in resource %s: resource '%s' of stacked-on-top-of is not known", r.Name, h.Lower)
		e.Nearest = nearest(h.Lower, p.resourceNames())
	case lower == r:
		p.errorf(h.Pos, "resource %s cannot stand on top of itself", r.Name)
	case lower.Stacked:
		p.errorf(h.Pos, "in resource %s: resource '%s' is stacked itself", r.Name, h.Lower)
	default:
		for _, l := range lower.Hosts {
			h.Names = append(h.Names, l.Names...)
		}
	}
}

func (p *parser) resourceNames() []string {
	names := make([]string, len(p.cfg.Resources))
	for i, r := range p.cfg.Resources {
		names[i] = r.Name
	}
	return names
}
