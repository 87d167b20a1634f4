package setup

import (
	"fmt"
	"slices"
	"strconv"
)

// Caller writes the calls of DRBD's lower programs that stand for steps and verbs: what drbdadm 8.4 prints with --dry-run.
type Caller struct {
	Setup, Meta string // names of the programs
	Resource    string
}

// Calls are the calls that carry a step out.
func (c Caller) Calls(s Step, want *Resource) []string {
	switch s.Kind {
	case NewResource:
		return []string{c.Setup + " new-resource " + c.Resource + list(want.Options)}
	case ResourceOptions:
		return []string{c.Setup + " resource-options " + c.Resource + " --set-defaults" + list(want.Options)}
	case NewMinor:
		return []string{fmt.Sprintf("%s new-minor %s %d %d", c.Setup, c.Resource, s.Volume.Minor, s.Volume.Number)}
	case Detach, DelMinor:
		return []string{fmt.Sprintf("%s %s %d", c.Setup, s.Kind, s.Volume.Minor)}
	case Attach:
		v := s.Volume
		return []string{c.MetaHead(v) + " apply-al", fmt.Sprintf("%s attach %d %s %s%s", c.Setup, v.Minor, v.Disk, v.Where(), list(v.Options))}
	case Resize:
		return []string{fmt.Sprintf("%s resize %d", c.Setup, s.Volume.Minor), fmt.Sprintf("%s check-resize %d", c.Setup, s.Volume.Minor)}
	case DiskOptions:
		return []string{fmt.Sprintf("%s disk-options %d --set-defaults%s", c.Setup, s.Volume.Minor, list(s.Volume.Options))}
	case Disconnect:
		return []string{c.Setup + " disconnect " + s.Peer.Ends()}
	case Connect:
		return []string{c.Setup + " connect " + c.Resource + " " + s.Peer.Ends() + list(s.Peer.Net)}
	case NetOptions:
		return []string{c.Setup + " net-options " + s.Peer.Ends() + " --set-defaults" + list(s.Peer.Net)}
	case PeerDeviceOptions:
		var lines []string
		for _, v := range want.Volumes {
			lines = append(lines, fmt.Sprintf("drbdsetup peer-device-options %s %d %d --set-defaults", c.Resource, s.Peer.NodeID, v.Number))
		}
		return lines
	}
	return nil
}

// MetaHead is the head of a call of drbdmeta for a volume.
func (c Caller) MetaHead(v *Volume) string {
	return fmt.Sprintf("%s %d v08 %s", c.Meta, v.Minor, v.Where())
}

// Where is a volume's metadata in DRBD's eyes: the device, and the slot or the word for it.
func (v *Volume) Where() string {
	switch {
	case v.MetaDisk == "internal" || v.MetaDisk == "":
		return v.Disk + " internal"
	case v.Slot >= 0:
		return v.MetaDisk + " " + strconv.Itoa(v.Slot)
	}
	return v.MetaDisk + " flex-external"
}

// Ends are both ends of the connection.
func (p *Peer) Ends() string { return p.Local + " " + p.Remote }

func list(options []Option) string {
	text := ""
	called := slices.Clone(options)
	slices.SortStableFunc(called, func(a, b Option) int { return a.at - b.at })
	for _, o := range called {
		text += " --" + o.Name + "=" + o.Value
	}
	return text
}
