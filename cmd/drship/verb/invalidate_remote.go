package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) invalidateRemote() *cobra.Command {
	return a.command(request{
		verb:    "invalidate-remote",
		group:   groupData,
		short:   "Overwrite the data of the peer with that here",
		example: "  drship invalidate-remote r0",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "reset-bitmap", "", true, "copy everything; =no copies only blocks already marked out of sync")
		},
	})
}
