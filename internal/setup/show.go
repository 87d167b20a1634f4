package setup

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"drship/internal/config"
)

// Show writes resources as `drbdsetup show` does: what was set and is no default, or with defaults everything.
func Show(w io.Writer, resources []Resource, defaults bool) error {
	p := printer{defaults: defaults}
	for i := range resources {
		if i > 0 {
			p.b.WriteByte('\n')
		}
		p.resource(&resources[i])
	}
	if _, err := p.b.WriteTo(w); err != nil {
		return fmt.Errorf("show resources: %w", err)
	}
	return nil
}

type printer struct {
	b        bytes.Buffer
	depth    int
	defaults bool
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(&p.b, "%*s%s\n", 4*p.depth, "", fmt.Sprintf(format, args...))
}

// block prints head { … }.
func (p *printer) block(head string, inside func()) {
	p.line("%s {", head)
	p.depth++
	inside()
	p.depth--
	p.line("}")
}

// resource has the shape of 8.4 where there is one peer, which has no more than one; else that of 9, with a section a connection.
func (p *printer) resource(r *Resource) {
	p.block("resource "+r.Name, func() {
		p.section("options", "options", r.Options, true)
		if len(r.Journal) > 0 {
			p.section("journal", "journal", r.Journal, false)
		}
		one := len(r.Peers) == 1
		if one && r.Peers[0].Connect {
			p.net(&r.Peers[0])
			p.block("_remote_host", func() { p.address(r.Peers[0].Remote) })
		}
		p.block("_this_host", func() {
			if one && r.Peers[0].Connect {
				p.address(r.Peers[0].Local)
			}
			for i := range r.Volumes {
				p.volume(&r.Volumes[i])
			}
		})
		for i := range r.Peers {
			if !one && r.Peers[i].Connect {
				p.connection(&r.Peers[i])
			}
		}
	})
}

func (p *printer) connection(c *Peer) {
	p.block("connection", func() {
		p.line("_peer_node_id %d;", c.NodeID)
		for _, ends := range append([][2]string{{c.Local, c.Remote}}, c.Paths...) {
			p.block("path", func() {
				p.line("_this_host %s;", spaced(ends[0]))
				p.line("_remote_host %s;", spaced(ends[1]))
			})
		}
		p.net(c)
		p.section("disk", "disk", c.Resync, false)
	})
}

func (p *printer) net(c *Peer) {
	p.section("net", "net", c.Net, true)
	if len(c.WAN) > 0 {
		p.section("wan", "wan", c.WAN, false)
	}
}

func (p *printer) address(at string) { p.line("address\t\t\t%s;", spaced(at)) }

// spaced turns ipv4:10.77.0.1:7788 into what stands in a configuration.
func spaced(at string) string { return strings.Replace(at, ":", " ", 1) }

func (p *printer) volume(v *Volume) {
	p.block(fmt.Sprintf("volume %d", v.Number), func() {
		p.line("device\t\t\tminor %d;", v.Minor)
		if v.Disk == "" {
			return
		}
		p.line("disk\t\t\t%q;", v.Disk)
		switch {
		case v.MetaDisk == "internal":
			p.line("meta-disk\t\t\tinternal;")
		case v.Slot >= 0:
			p.line("meta-disk\t\t\t%q [ %d ];", v.MetaDisk, v.Slot)
		default:
			p.line("meta-disk\t\t\t%q;", v.MetaDisk)
		}
		p.section("disk", "disk", v.Options, true)
	})
}

// section prints the options of one section that are not at their default, or all; an empty one only where DRBD prints it so.
func (p *printer) section(head, section string, given []Option, always bool) {
	list := given
	if p.defaults {
		list = everyOption(section, given)
	}
	if len(list) == 0 && !always {
		return
	}
	p.block(head, func() {
		for _, o := range list {
			shown := config.Show(section, o.Name, o.Value)
			if shown.Default && !p.defaults {
				continue
			}
			text := shown.Text
			if o.Name == "shared-secret" || shown.Quoted {
				text = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
			}
			p.line("%-16s\t%s;%s", o.Name, text, remark(shown))
		}
	})
}

func remark(s config.Shown) string {
	var parts []string
	if s.Unit != "" {
		parts = append(parts, s.Unit)
	}
	if s.Default {
		parts = append(parts, "default")
	}
	if parts == nil {
		return ""
	}
	return " # " + strings.Join(parts, ", ")
}

// everyOption is the section's whole table, with what was given over its defaults; what has neither is left out.
func everyOption(section string, given []Option) []Option {
	var out []Option
	for _, o := range config.SectionOptions(section) {
		value := o.Default
		if i := slices.IndexFunc(given, func(g Option) bool { return g.Name == o.Name }); i >= 0 {
			value = given[i].Value
		} else if value == "" && o.Kind != config.Text {
			continue
		}
		out = append(out, Option{Name: o.Name, Value: value})
	}
	slices.SortStableFunc(out, func(a, b Option) int { return rank(a.Name) - rank(b.Name) })
	return out
}
