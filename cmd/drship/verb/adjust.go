package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) adjust() *cobra.Command {
	return a.command(request{
		verb:    "adjust",
		follows: true,
		group:   groupRun,
		short:   "Make what runs match the configuration",
		long: "Takes the fewest steps that lead from what runs to what the configuration says: disks that are missing are attached, connections made, options that differ " +
			"set. What is as it should be is not touched. Under the name drbdadm, adjust --dry-run prints the steps as DRBD's calls.",
		example: "  drship adjust all\n  drbdadm --dry-run adjust r0",
	})
}
