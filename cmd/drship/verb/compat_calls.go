package verb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
)

// calls lists the calls of the lower programs that drbdadm 8.4 would make for a verb on a resource: what --dry-run prints. Nothing calls them here.
func (c *compat) calls(verb string, r *config.Resource, t target) []string {
	host, err := r.Local(c.node.Node)
	if err != nil {
		return nil
	}
	options := ""
	for _, o := range c.options {
		options += " " + o
	}
	var lines []string
	volumes := slices.DeleteFunc(slices.Clone(host.Volumes), func(v *config.Volume) bool {
		return t.volume != control.AnyVolume && int(v.Number) != t.volume
	})
	minors := func(command string) {
		for _, v := range volumes {
			lines = append(lines, fmt.Sprintf("%s %s %d%s", backend, command, v.Minor, options))
		}
	}
	switch verb {
	case "up", "adjust":
		lines = append(lines, backend+" new-resource "+r.Name)
		for _, v := range volumes {
			lines = append(lines, fmt.Sprintf("%s new-minor %s %d %d", backend, r.Name, v.Minor, v.Number))
		}
		lines = append(lines, c.attachCalls(r, volumes)...)
		lines = append(lines, c.connectCalls("connect", r, t, "")...)
	case "attach":
		lines = c.attachCalls(r, volumes)
	case "create-md", "apply-al", "dump-md", "wipe-md", "get-gi", "show-gi":
		for _, v := range volumes {
			lines = append(lines, meta(v)+" "+verb+options)
		}
	case "connect", "disconnect":
		lines = c.connectCalls(verb, r, t, options)
	case "down", "status", "wait-connect", "wait-sync":
		lines = []string{backend + " " + verb + " " + r.Name + options}
	default:
		minors(verb)
	}
	return lines
}

// meta is the head of a call of drbdmeta.
func meta(v *config.Volume) string { return fmt.Sprintf("drbdmeta %d v08 %s", v.Minor, metaDisk(v)) }

// metaDisk is where a volume's metadata is in DRBD's eyes: the device, and the slot or the word for it.
func metaDisk(v *config.Volume) string {
	switch {
	case v.MetaDisk == "" || v.MetaDisk == "internal":
		return v.Disk + " internal"
	case v.MetaIndex >= 0:
		return v.MetaDisk + " " + strconv.Itoa(v.MetaIndex)
	}
	return v.MetaDisk + " flex-external"
}

func (c *compat) attachCalls(r *config.Resource, volumes []*config.Volume) []string {
	var lines []string
	for _, v := range volumes {
		if v.Diskless() {
			continue
		}
		lines = append(lines, meta(v)+" apply-al",
			fmt.Sprintf("%s attach %d %s %s%s", backend, v.Minor, v.Disk, metaDisk(v), settings(c.config.Common.Disk, r.Written.Disk, v.Written.Disk)))
	}
	return lines
}

func (c *compat) connectCalls(command string, r *config.Resource, t target, options string) []string {
	var lines []string
	for _, p := range r.Peers(c.node.Node) {
		if t.peer != "" && !slices.Contains(p.Host.Names, t.peer) {
			continue
		}
		ends := endpoint(p.Local) + " " + endpoint(p.Remote)
		if command == "disconnect" {
			lines = append(lines, backend+" disconnect "+ends+options)
			continue
		}
		lines = append(lines, fmt.Sprintf("%s connect %s %s%s%s", backend, r.Name, ends, settings(c.config.Common.Net, r.Written.Net), options))
	}
	return lines
}

func endpoint(a config.Address) string { return a.Family + ":" + a.HostPort() }

// settings are options as they go into a call, those of inner sections over those of outer ones.
func settings(levels ...[]config.Setting) string {
	var merged []config.Setting
	for _, level := range levels {
		for _, s := range level {
			if i := slices.IndexFunc(merged, func(m config.Setting) bool { return m.Name == s.Name }); i >= 0 {
				merged[i] = s
				continue
			}
			merged = append(merged, s)
		}
	}
	slices.SortStableFunc(merged, func(a, b config.Setting) int { return rank(a.Name) - rank(b.Name) })
	text := ""
	for _, s := range merged {
		text += " --" + s.Name + "=" + s.Value
	}
	return text
}

// callOrder is the order in which 8.4 passes options to attach and to connect; others follow in the order of the file.
var callOrder = strings.Fields(`
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
