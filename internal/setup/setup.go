// Package setup holds what is set up of a resource: the same model for what runs and for what a configuration asks for. From the
// two follow the steps of adjust (Plan), the calls that drbdadm would make for them (Calls), and what `drbdsetup show` prints (Show). It is pure.
package setup

import (
	"slices"
	"strings"

	"drship/internal/config"
)

// Resource is what is set up of one resource.
type Resource struct {
	Name    string   `json:"name"`
	NodeID  int      `json:"node-id"`
	Options []Option `json:"options,omitempty"`
	Journal []Option `json:"journal,omitempty"`
	Volumes []Volume `json:"volumes,omitempty"` // by number
	Peers   []Peer   `json:"peers,omitempty"`   // in the order of the configuration
}

// Option is one option as somebody gave it, under its name of today; options that nobody gave are not listed.
type Option struct {
	Name  string `json:"name"`
	Value string `json:"value"`

	at int // its place in a call of drbdadm's
}

// Volume is one volume of this host.
type Volume struct {
	Number   uint16   `json:"volume"`
	Minor    int      `json:"minor"`
	Device   string   `json:"device"`
	Disk     string   `json:"disk,omitempty"` // "" without one
	MetaDisk string   `json:"meta-disk,omitempty"`
	Slot     int      `json:"slot"` // on an indexed meta-disk, else -1
	Options  []Option `json:"options,omitempty"`
}

// Peer is one connection. Local and Remote are "ipv4:10.77.0.1:7788".
type Peer struct {
	Name    string      `json:"name"`
	NodeID  int         `json:"node-id"`
	Local   string      `json:"local"`
	Remote  string      `json:"remote"`
	Paths   [][2]string `json:"paths,omitempty"` // more of them
	Connect bool        `json:"connect"`         // networking is on
	Net     []Option    `json:"net,omitempty"`
	WAN     []Option    `json:"wan,omitempty"`
	Resync  []Option    `json:"resync,omitempty"` // peer-device-options of this peer alone
}

// Of is what a configuration asks to run of a resource on a host.
func Of(r *config.Resource, host *config.Host, peers []*config.Peer) Resource {
	s := Resource{Name: r.Name, NodeID: host.NodeID, Options: options(r.Options.Set), Journal: options(r.Journal.Set)}
	place(s.Options, asCalled(r, r.Options.Set))
	for _, v := range host.Volumes {
		s.Volumes = append(s.Volumes, volume(v))
		place(s.Volumes[len(s.Volumes)-1].Options, ofVolume(v, asCalled(r, v.DiskOptions.Set)))
	}
	for _, p := range peers {
		s.Peers = append(s.Peers, PeerOf(p))
		place(s.Peers[len(s.Peers)-1].Net, asCalled(r, p.Net.Set))
	}
	return s
}

// asCalled lists options in the order in which drbdadm passes them on: each that is inherited is put in front of those before it, then come the
// resource's own, as they are written.
func asCalled(r *config.Resource, set config.Set) []string {
	var inherited, own []string
	for _, s := range set.Ordered() {
		if s.Pos.File == r.Pos.File && s.Pos.Line >= r.Pos.Line {
			own = append(own, s.Name)
		} else {
			inherited = append(inherited, s.Name)
		}
	}
	slices.Reverse(inherited)
	return append(inherited, own...)
}

// ofVolume does so once more for what a volume inherits of its resource.
func ofVolume(v *config.Volume, names []string) []string {
	var inherited, own []string
	for _, name := range names {
		if slices.ContainsFunc(v.Written.Disk, func(s config.Setting) bool { return s.Name == name }) {
			own = append(own, name)
		} else {
			inherited = append(inherited, name)
		}
	}
	slices.Reverse(inherited)
	return append(inherited, own...)
}

func place(list []Option, names []string) {
	for i := range list {
		list[i].at = slices.Index(names, list[i].Name)
	}
}

func volume(v *config.Volume) Volume {
	out := Volume{Number: v.Number, Minor: v.Minor, Device: v.Device, Slot: -1, Options: options(v.DiskOptions.Set)}
	if !v.Diskless() {
		out.Disk, out.MetaDisk, out.Slot = v.Disk, v.MetaDisk, v.MetaIndex
	}
	if out.MetaDisk == "" {
		out.MetaDisk = "internal"
	}
	if out.MetaDisk == "internal" {
		out.Slot = -1
	}
	return out
}

// PeerOf is what a configuration asks to run of one connection.
func PeerOf(p *config.Peer) Peer {
	out := Peer{Name: p.Host.Name, NodeID: p.Host.NodeID, Local: endpoint(p.Local), Remote: endpoint(p.Remote), Connect: true, Net: options(p.Net.Set), WAN: options(p.WAN.Set)}
	for _, path := range p.Paths {
		out.Paths = append(out.Paths, [2]string{endpoint(path[0]), endpoint(path[1])})
	}
	return out
}

func endpoint(a config.Address) string {
	family := a.Family
	if family == "" {
		family = "ipv4"
	}
	return family + ":" + a.HostPort()
}

// options lists a set in the order in which 8.4 passes options on; others follow as they were written.
func options(set config.Set) []Option {
	ordered := set.Ordered()
	slices.SortStableFunc(ordered, func(a, b config.Setting) int { return rank(a.Name) - rank(b.Name) })
	var out []Option
	for _, s := range ordered {
		out = append(out, Option{Name: s.Name, Value: s.Value})
	}
	return out
}

var callOrder = strings.Fields(`
	cpu-mask on-no-data-accessible
	size max-bio-bvecs on-io-error fencing disk-barrier disk-flushes disk-drain md-flushes resync-rate resync-after al-extents al-updates
	discard-zeroes-if-aligned disable-write-same c-plan-ahead c-delay-target c-fill-target c-max-rate c-min-rate disk-timeout read-balancing
	rs-discard-granularity
	protocol timeout max-epoch-size max-buffers unplug-watermark connect-int ping-int sndbuf-size rcvbuf-size ko-count allow-two-primaries
	cram-hmac-alg shared-secret after-sb-0pri after-sb-1pri after-sb-2pri always-asbp rr-conflict ping-timeout data-integrity-alg tcp-cork
	on-congestion congestion-fill congestion-extents csums-alg csums-after-crash-only verify-alg use-rle socket-check-timeout`)

func rank(option string) int {
	if i := slices.Index(callOrder, option); i >= 0 {
		return i
	}
	return len(callOrder)
}

// Differing names the options of which two lists make different things.
func Differing(section string, a, b []Option) []string {
	var names []string
	for _, list := range [][]Option{a, b} {
		for _, o := range list {
			if !slices.Contains(names, o.Name) && meaning(section, a, o.Name) != meaning(section, b, o.Name) {
				names = append(names, o.Name)
			}
		}
	}
	return names
}

// meaning is the value of an option in its one form, "" where it is the default.
func meaning(section string, list []Option, name string) string {
	i := slices.IndexFunc(list, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return ""
	}
	if shown := config.Show(section, name, list[i].Value); !shown.Default {
		return shown.Text
	}
	return ""
}

// Peer returns the peer of that name, nil where there is none.
func (r *Resource) Peer(name string) *Peer {
	for i := range r.Peers {
		if r.Peers[i].Name == name {
			return &r.Peers[i]
		}
	}
	return nil
}

// Volume returns the volume of that number, nil where there is none.
func (r *Resource) Volume(number uint16) *Volume {
	for i := range r.Volumes {
		if r.Volumes[i].Number == number {
			return &r.Volumes[i]
		}
	}
	return nil
}

// With returns the list with one option changed or added.
func With(list []Option, name, value string) []Option {
	out := slices.DeleteFunc(slices.Clone(list), func(o Option) bool { return o.Name == name })
	out = append(out, Option{Name: name, Value: value})
	slices.SortStableFunc(out, func(a, b Option) int { return rank(a.Name) - rank(b.Name) })
	return out
}
