package pair

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// WriteConfig writes a node's configuration anew, e.g. after Options.Adjust answers differently.
func (n *Node) WriteConfig() error {
	text := n.pair.config(n)
	if n.pair.o.Adjust != nil {
		text = n.pair.o.Adjust(n.Name, Resource, text)
	}
	if err := os.WriteFile(n.ConfigPath(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// config is what a node is told: the same for all, but for the addresses where a relay stands between.
func (p *Pair) config(reader *Node) string {
	var b strings.Builder
	section := func(indent, name string, statements ...string) {
		if len(statements) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s%s {\n", indent, name)
		for _, s := range statements {
			fmt.Fprintf(&b, "%s\t%s;\n", indent, s)
		}
		fmt.Fprintf(&b, "%s}\n", indent)
	}
	section("", "global", append([]string{"usage-count no"}, p.o.Global...)...)
	fmt.Fprintf(&b, "resource %s {\n", Resource)
	auth := p.o.Auth
	if auth == nil {
		auth = []string{"cram-hmac-alg sha256", fmt.Sprintf("shared-secret %q", p.o.Secret)}
	}
	net := append([]string{"protocol " + p.o.Protocol}, auth...)
	section("\t", "net", append(net, p.o.Net...)...)
	section("\t", "disk", p.o.Disk...)
	section("\t", "journal", p.o.Journal...)
	section("\t", "wan", p.o.WAN...)
	section("\t", "handlers", p.o.Handlers...)
	section("\t", "startup", p.o.Startup...)
	section("\t", "options", p.o.ResourceOptions...)
	for i, n := range p.Nodes {
		fmt.Fprintf(&b, "\ton %s {\n\t\taddress %s;\n", n.Name, p.addressFor(reader, i))
		for v := range p.o.Sizes {
			section("\t\t", fmt.Sprintf("volume %d", v),
				fmt.Sprintf("device /dev/drbd%d", v),
				"disk "+n.Backing(v),
				"meta-disk internal")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// addressFor is where the reader of a configuration finds node i.
func (p *Pair) addressFor(reader *Node, i int) netip.AddrPort {
	switch {
	case p.Relay == nil || p.Nodes[i] == reader:
		return p.address[i]
	case i == 0:
		return p.Relay.FrontA()
	default:
		return p.Relay.FrontB()
	}
}

// ConfigPath is the node's configuration file.
func (n *Node) ConfigPath() string { return filepath.Join(n.dir, "drship.conf") }

// StateDir is the node's --state-dir.
func (n *Node) StateDir() string {
	if f := n.pair.o.StateDir; f != nil {
		return f(n.Name)
	}
	return filepath.Join(n.dir, "state")
}

// RunDir is the node's --run-dir.
func (n *Node) RunDir() string { return filepath.Join(n.dir, "run") }

// LogPath is where the node's daemon writes.
func (n *Node) LogPath() string { return filepath.Join(n.dir, "daemon.log") }

// Backing is the path of a volume's backing disk.
func (n *Node) Backing(volume int) string {
	if f := n.pair.o.Backing; f != nil {
		return f(n.Name, volume)
	}
	return filepath.Join(n.dir, fmt.Sprintf("vol%d.img", volume))
}

// NBDSocket is the unix socket of the node's exports.
func (n *Node) NBDSocket() string { return filepath.Join(n.RunDir(), "nbd.sock") }

// Export is the NBD name of a volume: r0, r0/1, …
func Export(volume int) string {
	if volume == 0 {
		return Resource
	}
	return fmt.Sprintf("%s/%d", Resource, volume)
}

// URI is a volume's NBD URI, as qemu, libnbd and fio take it.
func (n *Node) URI(volume int) string {
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", Export(volume), n.NBDSocket())
}

func (n *Node) makeDirs() error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{n.dir, 0o755}, {n.StateDir(), 0o700}, {n.RunDir(), 0o700}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return fmt.Errorf("make folder of node %s: %w", n.Name, err)
		}
	}
	return nil
}
