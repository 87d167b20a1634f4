package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) newCurrentUUID() *cobra.Command {
	return a.command(request{
		verb:    "new-current-uuid",
		group:   groupData,
		short:   "Start a new data generation",
		long:    "With --clear-bitmap on a connected fresh pair whose disks are known to be equal (both zeroed, or one carried over), both sides are UpToDate without a first synchronisation.",
		example: "  drship new-current-uuid --clear-bitmap r0/0",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "clear-bitmap", "", false, "declare both sides equal")
		},
	})
}
