package face

import (
	"fmt"
	"strings"

	"drship/internal/state"
)

// ShStatus is what `drbdsetup sh-status MINOR` prints of one volume of a resource that is up: shell variables, and the call of the function that
// looks at them.
func ShStatus(r *Resource, number uint16) string {
	v := findVolume(r, number)
	if v == nil {
		return ""
	}
	conn, role, disk := state.StandAlone, state.RoleUnknown, state.DUnknown
	var of *PeerVolume
	if len(r.Peers) > 0 {
		p := &r.Peers[0]
		conn, role = p.Conn, p.Role
		if of = p.Volume(number); of != nil {
			conn, disk = p.VolumeConn(of), of.Disk
		}
	}
	if conn == state.StandAlone && v.Disk == state.Diskless && r.Role != state.Primary {
		return ShStatusDown(v.Minor, r.Name, number)
	}
	var b strings.Builder
	shHead(&b, v.Minor, r.Name, number, "Configured")
	fmt.Fprintf(&b, "_cstate=%s\n_role=%s\n_peer=%s\n_disk=%s\n_pdsk=%s\n\n", conn, r.Role, role, v.Disk, disk)
	var flags SyncFlags
	if of != nil {
		flags = of.Flags
	}
	fmt.Fprintf(&b, "_flags_susp=%s\n_flags_aftr_isp=%s\n_flags_peer_isp=%s\n_flags_user_isp=%s\n\n",
		one(r.Suspended.Any()), one(flags.Dependency), one(flags.Peer), one(flags.User))
	percent := ""
	if of != nil && of.Sync != nil && of.Sync.Total > 0 {
		done := 1000 - of.Sync.Left*1000/of.Sync.Total
		percent = fmt.Sprintf("%d.%d", done/10, done%10)
	}
	fmt.Fprintf(&b, "_resynced_percent=%s\n\n_sh_status_process\n\n\n", percent)
	return b.String()
}

// ShStatusDown is what is said of a volume of which nothing is set up.
func ShStatusDown(minor int, resource string, number uint16) string {
	var b strings.Builder
	shHead(&b, minor, resource, number, "Unconfigured")
	b.WriteString("_cstate=Unconfigured\n_role=\n_peer=\n_disk=\n_pdsk=\n_flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n_flags_user_isp=\n" +
		"_resynced_percent=\n\n_sh_status_process\n\n\n")
	return b.String()
}

func shHead(b *strings.Builder, minor int, resource string, number uint16, known string) {
	fmt.Fprintf(b, "_minor=%d\n_res_name=%s\n_volume=%d\n_known=%s\n\n", minor, resource, number, known)
}

func one(set bool) string {
	if set {
		return "1"
	}
	return ""
}
