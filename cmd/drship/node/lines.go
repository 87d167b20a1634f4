package node

import (
	"fmt"

	"drship/internal/state"
)

// giLine is drbdadm get-gi: the identifiers, then the flags consistent, was up to date, primary indicator, connected
// indicator, full sync, activity log disabled, primary lost.
func (r *Resource) giLine(i int, p *peer) string {
	a := r.att
	v := &a.meta.Volumes[i]
	flag := func(on bool) int {
		if on {
			return 1
		}
		return 0
	}
	return fmt.Sprintf("%s:%d:%d:%d:%d:%d:%d:%d", a.ids(i, p.name), flag(v.Disk > state.Inconsistent), flag(v.Disk == state.UpToDate),
		flag(a.meta.Primary), flag(p.inSight()), 0, 0, 0)
}
