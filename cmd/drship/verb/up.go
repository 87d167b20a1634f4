package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) up() *cobra.Command {
	return a.command(request{
		verb:    "up",
		follows: true,
		group:   groupRun,
		short:   "Start resources: attach their disks, connect to their peers",
		long:    "Does what attach and connect do, for resources that the configuration gives to this node. A resource that is up already is left as it is.",
		example: "  drship up r0\n  drship up all",
	})
}
