package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) invalidate() *cobra.Command {
	return a.command(request{
		verb:    "invalidate",
		group:   groupData,
		offline: true,
		short:   "Overwrite the data here with that of the peer",
		long:    "Of a resource that is down only the metadata is told, and the data overwritten once it is up and connected; that needs no daemon.",
		example: "  drship invalidate r0\n  drship invalidate r0:bob/1",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "reset-bitmap", "", true, "copy everything; =no copies only blocks already marked out of sync")
		},
	})
}
