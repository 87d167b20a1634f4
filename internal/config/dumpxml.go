package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// DumpXML prints the configuration as `drbdadm dump-xml` does: inherited volumes are written out at each host, meshes
// as connections. Our own sections and global options follow the same shape.
func (c *Config) DumpXML(w io.Writer) error { return c.DumpXMLWith(w, DumpOptions{}) }

// DumpXMLWith is DumpXML for some resources only.
func (c *Config) DumpXMLWith(w io.Writer, o DumpOptions) error {
	d := &xmlDumper{w: bufio.NewWriter(w)}
	if o.Resources == nil {
		d.open("config", "file", c.Path)
		d.global(c)
		if c.HasCommon {
			d.open("common")
			d.written(&c.Common)
			d.close("common")
		}
	}
	for _, r := range c.Resources {
		if o.Resources == nil || contains(o.Resources, r.Name) {
			d.resource(r)
		}
	}
	if o.Resources == nil {
		d.close("config")
	}
	if err := d.w.Flush(); err != nil {
		return fmt.Errorf("dump configuration as XML: %w", err)
	}
	return nil
}

// xmlDumper prints elements with indentation. Errors surface in the final Flush.
type xmlDumper struct {
	w     *bufio.Writer
	depth int
}

var xmlEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

// tag gives an element's name with attributes in pairs of name and value.
func tag(name string, attrs ...string) string {
	var b strings.Builder
	b.WriteString(name)
	for i := 0; i+1 < len(attrs); i += 2 {
		fmt.Fprintf(&b, ` %s="%s"`, attrs[i], xmlEscape.Replace(attrs[i+1]))
	}
	return b.String()
}

func (d *xmlDumper) line(text string) { fmt.Fprintf(d.w, "%*s%s\n", 4*d.depth, "", text) }

func (d *xmlDumper) open(name string, attrs ...string) {
	d.line("<" + tag(name, attrs...) + ">")
	d.depth++
}

func (d *xmlDumper) close(name string) {
	d.depth--
	d.line("</" + name + ">")
}

func (d *xmlDumper) empty(name string, attrs ...string) { d.line("<" + tag(name, attrs...) + "/>") }

func (d *xmlDumper) text(name, text string, attrs ...string) {
	d.line("<" + tag(name, attrs...) + ">" + xmlEscape.Replace(text) + "</" + name + ">")
}

// global prints what drbdadm prints of global; usage-count and the timeouts it leaves out.
func (d *xmlDumper) global(c *Config) {
	attr := map[string]string{"minor-count": "count", "dialog-refresh": "refresh"}
	shown := false
	for _, s := range c.global {
		if s.Name == "usage-count" || strings.HasPrefix(s.Name, "cmd-timeout-") {
			continue
		}
		if !shown {
			d.open("global")
			shown = true
		}
		switch {
		case attr[s.Name] != "":
			d.empty(s.Name, attr[s.Name], s.Value)
		case index().options["global"][s.Name].Kind == Bool && s.Value == "yes":
			d.empty(s.Name)
		default:
			d.empty(s.Name, "value", s.Value)
		}
	}
	if shown {
		d.close("global")
	}
}

func (d *xmlDumper) written(w *Written) {
	for _, section := range []string{"options", "net", "disk", "startup", "proxy", "handlers", "journal", "wan"} {
		list := *w.slot(section)
		plugins := section == "proxy" && len(w.Plugin) > 0
		if len(list) == 0 && !plugins {
			continue
		}
		d.open("section", "name", section)
		for _, s := range list {
			d.empty("option", "name", s.Name, "value", s.Value)
		}
		if plugins {
			d.open("section", "name", "plugin")
			for _, s := range w.Plugin {
				d.empty("option", "name", strings.TrimSuffix(s.Name+" "+s.Value, " yes"))
			}
			d.close("section")
		}
		d.close("section")
	}
}

func (d *xmlDumper) resource(r *Resource) {
	d.open("resource", "name", r.Name, "conf-file-line", r.Pos.fileLine())
	for _, h := range r.Hosts {
		d.host(h)
	}
	for _, c := range r.Connections {
		d.connection(r, c)
	}
	d.written(&r.Written)
	d.close("resource")
}

func (d *xmlDumper) host(h *Host) {
	if h.Kind == Floating {
		d.open("host", "floating", "1")
	} else {
		d.open("host", "name", strings.Join(h.Names, " "))
	}
	d.written(&h.Written)
	for _, v := range h.Volumes {
		d.volume(v, h.Kind == OnTop)
	}
	d.address(h.Address)
	if h.Fingerprint != "" {
		d.text("certificate-fingerprint", h.Fingerprint)
	}
	if h.Proxy != nil {
		d.open("proxy", "hostname", strings.Join(h.Proxy.Hosts, " "))
		d.text("inside", h.Proxy.Inside.Host, addressAttrs(h.Proxy.Inside)...)
		d.text("outside", h.Proxy.Outside.Host, addressAttrs(h.Proxy.Outside)...)
		d.close("proxy")
	}
	d.close("host")
}

// volume prints a volume; a stacked one leaves its disk to the lower resource.
func (d *xmlDumper) volume(v *Volume, stacked bool) {
	d.open("volume", "vnr", fmt.Sprint(v.Number))
	d.written(&v.Written)
	device := v.Device
	if v.minorOnly {
		device = ""
	}
	d.text("device", device, "minor", fmt.Sprint(v.Minor))
	disk := v.Disk
	if stacked {
		disk = ""
	}
	d.text("disk", disk)
	switch {
	case v.Diskless():
	case v.MetaIndex >= 0:
		d.text("meta-disk", v.MetaDisk, "index", fmt.Sprint(v.MetaIndex))
	default:
		d.text("meta-disk", v.MetaDisk)
	}
	d.close("volume")
}

func addressAttrs(a Address) []string {
	return []string{"family", a.Family, "port", fmt.Sprint(a.Port)}
}

func (d *xmlDumper) address(a Address) { d.text("address", a.Host, addressAttrs(a)...) }

// connection prints a connection; a mesh becomes one for each pair of its hosts.
func (d *xmlDumper) connection(r *Resource, c *Connection) {
	if c.Mesh {
		for i, a := range c.Hosts {
			for _, b := range c.Hosts[i+1:] {
				d.open("connection")
				d.end(r, Endpoint{Host: a}, Endpoint{Host: b})
				d.end(r, Endpoint{Host: b}, Endpoint{Host: a})
				d.written(&c.Written)
				d.close("connection")
			}
		}
		return
	}
	d.open("connection")
	if len(c.Ends) == 2 {
		d.end(r, c.Ends[0], c.Ends[1])
		d.end(r, c.Ends[1], c.Ends[0])
	}
	for _, path := range c.Paths {
		d.open("path")
		d.end(r, path[0], path[1])
		d.end(r, path[1], path[0])
		d.close("path")
	}
	d.written(&c.Written)
	for _, n := range c.order {
		w := c.Volumes[n]
		d.open("volume", "vnr", fmt.Sprint(n))
		d.written(&w)
		d.close("volume")
	}
	d.close("connection")
}

// end prints one host of a connection with the address it is reached at.
func (d *xmlDumper) end(r *Resource, e, other Endpoint) {
	h, o := r.named(e.Host), r.named(other.Host)
	a := h.linkAddress(&e, o)
	d.line("<" + tag("host", "name", e.Host) + "><" + tag("address", addressAttrs(a)...) + ">" + xmlEscape.Replace(a.Host) + "</address></host>")
}
