package pair

import (
	"net/netip"
	"os/exec"

	"drship/bench/wan/tun"
)

// Over puts two nodes at the ends of a line: the first one in its namespace A, the second one in B. It is said before New, and
// the line is closed behind the pair.
func (o *Options) Over(l *tun.Line) {
	o.setDefaults()
	first := o.Nodes[0]
	o.Addresses = []netip.AddrPort{netip.AddrPortFrom(l.AddrA(), Port), netip.AddrPortFrom(l.AddrB(), Port)}
	o.Spawn = func(node string, daemon *exec.Cmd) error {
		if node == first {
			return l.A.Start(daemon)
		}
		return l.B.Start(daemon)
	}
}
