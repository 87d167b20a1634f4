package config

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// DumpOptions says what Dump prints.
type DumpOptions struct {
	Node      string   // the local node; it decides what the comment above a resource says
	Resources []string // only these, without global and common; nil for everything
	Timeouts  bool     // print the limits that drbdadm has for its calls, as it does
}

// Dump prints the configuration as `drbdadm dump` does: what was written, under the names of today, read back to the
// same configuration.
func (c *Config) Dump(w io.Writer) error { return c.DumpWith(w, DumpOptions{}) }

// DumpWith is Dump for one node, or for some resources only.
func (c *Config) DumpWith(w io.Writer, o DumpOptions) error {
	d := &dumper{w: bufio.NewWriter(w)}
	if o.Resources == nil {
		d.printf("# %s\n", c.Path)
		if len(c.global) > 0 || c.globalPos.IsValid() {
			d.open("global")
			d.settings(c.global)
			if o.Timeouts {
				d.timeouts(c.global)
			}
			d.close()
			d.printf("\n")
		}
		if c.HasCommon {
			d.open("common")
			d.written(&c.Common)
			d.close()
			d.printf("\n")
		}
	}
	for _, r := range c.Resources {
		if o.Resources == nil || contains(o.Resources, r.Name) {
			d.resource(r, o.Node)
		}
	}
	if err := d.w.Flush(); err != nil {
		return fmt.Errorf("dump configuration: %w", err)
	}
	return nil
}

// dumper prints with indentation; values stand in one column whatever the depth. Errors surface in the final Flush.
type dumper struct {
	w     *bufio.Writer
	depth int
}

func (d *dumper) printf(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

func (d *dumper) line(format string, args ...any) {
	d.printf("%*s%s\n", 4*d.depth, "", fmt.Sprintf(format, args...))
}

func (d *dumper) open(head string) {
	d.line("%s {", head)
	d.depth++
}

func (d *dumper) close() {
	d.depth--
	d.line("}")
}

// keyed prints a name and a value in the common column; short values stand to the right, as drbdadm has them.
func (d *dumper) keyed(name, value string, width int) {
	d.line("%-*s %*s;", max(0, 24-4*d.depth), name, width, value)
}

func (d *dumper) settings(list []Setting) {
	for _, s := range list {
		o := index().options["global"][s.Name]
		if o != nil && o.Kind == Bool && d.depth == 1 && s.Value == "yes" {
			d.line("%s;", s.Name)
			continue
		}
		if d.depth == 1 {
			d.line("%s %s;", s.Name, quote(s.Value))
			continue
		}
		if s.Name == "become-primary-on" {
			d.keyed(s.Name, words(strings.Fields(s.Value)), 3)
			continue
		}
		d.keyed(s.Name, quote(s.Value), 3)
	}
}

// timeouts prints drbdadm's own limits where none are given.
func (d *dumper) timeouts(given []Setting) {
	for _, own := range []Setting{{Name: "cmd-timeout-medium", Value: "600"}, {Name: "cmd-timeout-long", Value: "0"}} {
		if !slices.ContainsFunc(given, func(s Setting) bool { return s.Name == own.Name }) {
			d.line("%s %s;", own.Name, own.Value)
		}
	}
}

// words quotes each word by itself.
func words(list []string) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}

// written prints the sections of one level in drbdadm's order, ours last.
func (d *dumper) written(w *Written) {
	for _, section := range []string{"options", "net", "disk", "startup", "proxy", "handlers", "journal", "wan"} {
		list := *w.slot(section)
		plugins := section == "proxy" && len(w.Plugin) > 0
		if len(list) == 0 && !plugins {
			continue
		}
		d.open(section)
		d.settings(list)
		if plugins {
			d.open("plugin")
			for _, s := range w.Plugin {
				d.line("%s;", strings.TrimSuffix(s.Name+" "+s.Value, " yes"))
			}
			d.close()
		}
		d.close()
	}
}

func (d *dumper) resource(r *Resource, node string) {
	d.printf("# resource %s%s: %s\n", quote(r.Name), onNode(node), r.standing(node))
	d.printf("# defined at %s\n", r.Pos.fileLine())
	d.open("resource " + quote(r.Name))
	if r.Template != "" {
		d.line("template-file %s;", quote(r.Template))
	}
	if len(r.IgnoreOn) > 0 {
		d.line("ignore-on %s;", words(r.IgnoreOn))
	}
	d.volumes(r.volumes)
	for _, h := range r.Hosts {
		d.host(h)
	}
	for _, c := range r.Connections {
		d.connection(c)
	}
	d.written(&r.Written)
	d.close()
	d.printf("\n")
}

func onNode(node string) string {
	if node == "" {
		return ""
	}
	return " on " + node
}

// standing says whether a resource concerns node, and whether it is stacked, in drbdadm's words.
func (r *Resource) standing(node string) string {
	stacked := "not stacked"
	if r.Stacked {
		stacked = "stacked"
	}
	if node == "" {
		return stacked
	}
	h, err := r.Local(node)
	switch {
	case err != nil:
		return "ignored, not stacked"
	case h.Kind == OnTop:
		return "not ignored, stacked"
	}
	return "not ignored, not stacked"
}

func (d *dumper) volumes(list []*Volume) {
	for _, v := range list {
		if v.implicit {
			d.volume(v)
			continue
		}
		d.open("volume " + strconv.Itoa(int(v.Number)))
		d.written(&v.Written)
		d.volume(v)
		d.close()
	}
}

func (d *dumper) volume(v *Volume) {
	if v.devicePos.IsValid() {
		switch {
		case v.minorOnly:
			d.keyed("device", "minor "+strconv.Itoa(v.Minor), 0)
		default:
			d.keyed("device", quote(v.Device)+" minor "+strconv.Itoa(v.Minor), 0)
		}
	}
	if v.diskPos.IsValid() {
		d.keyed("disk", quote(v.Disk), 0)
	}
	if v.metaPos.IsValid() {
		switch {
		case v.MetaIndex >= 0:
			d.keyed("meta-disk", quote(v.MetaDisk)+" ["+strconv.Itoa(v.MetaIndex)+"]", 0)
		case v.flexibleMeta:
			d.keyed("flexible-meta-disk", quote(v.MetaDisk), 0)
		default:
			d.keyed("meta-disk", quote(v.MetaDisk), 0)
		}
	}
}

func (d *dumper) host(h *Host) {
	switch h.Kind {
	case Floating:
		d.open("floating " + h.Address.String())
	case OnTop:
		d.open("stacked-on-top-of " + quote(h.Lower))
		d.line("# on %s ", words(h.Names))
	default:
		d.open("on " + words(h.Names))
	}
	if h.hasNodeID {
		d.line("node-id %d;", h.NodeID)
	}
	d.written(&h.Written)
	d.volumes(h.volumes)
	if h.Kind != Floating {
		d.keyed("address", h.Address.String(), 0)
	}
	if h.Fingerprint != "" {
		d.line("certificate-fingerprint %s;", quoted(h.Fingerprint))
	}
	if h.Proxy != nil {
		d.proxy(h.Proxy)
	}
	d.close()
}

func (d *dumper) proxy(x *ProxyHost) {
	d.open("proxy on " + words(x.Hosts))
	d.line("%-16s %s;", "inside", x.Inside)
	d.line("%-16s %s;", "outside", x.Outside)
	d.close()
}

func (d *dumper) connection(c *Connection) {
	if c.Mesh {
		d.open("connection-mesh")
		d.line("hosts %s;", words(c.Hosts))
		d.written(&c.Written)
		d.close()
		return
	}
	d.open("connection")
	for _, e := range c.Ends {
		d.endpoint(e)
	}
	for _, path := range c.Paths {
		d.open("path")
		d.endpoint(path[0])
		d.endpoint(path[1])
		d.close()
	}
	d.written(&c.Written)
	for _, n := range c.order {
		w := c.Volumes[n]
		d.open("volume " + strconv.Itoa(int(n)))
		d.written(&w)
		d.close()
	}
	d.close()
}

func (d *dumper) endpoint(e Endpoint) {
	text := "host " + quote(e.Host)
	if !e.Address.IsZero() {
		a := e.Address.String()
		if e.Address.Port == 0 {
			a = strings.TrimSuffix(a, ":0")
		}
		text += fmt.Sprintf("%*s address         %s", 4*d.depth, "", a)
	}
	if e.Port != 0 {
		text += " port " + strconv.Itoa(int(e.Port))
	}
	if e.Proxy == nil {
		d.line("%s;", text)
		return
	}
	d.open(text + " via proxy on " + words(e.Proxy.Hosts))
	d.line("%-16s %s;", "inside", e.Proxy.Inside)
	d.line("%-16s %s;", "outside", e.Proxy.Outside)
	d.close()
}
