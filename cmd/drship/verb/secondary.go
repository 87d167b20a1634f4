package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) secondary() *cobra.Command {
	return a.command(request{
		verb:    "secondary",
		group:   groupRun,
		short:   "Demote: close the volumes for writing",
		long:    "Refused while clients are connected; the message says who they are.",
		example: "  drship secondary r0",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "force", "", false, "cut the clients off: their writes fail from then on")
		},
	})
}
