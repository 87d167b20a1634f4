package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) primary() *cobra.Command {
	return a.command(request{
		verb:    "primary",
		group:   groupRun,
		short:   "Promote: open the volumes for writing",
		long:    "Refused while a peer is Primary, and where the data here is not UpToDate unless --force is given. On a fresh pair --force says whose data counts and starts the first synchronisation. Forced during a resync, the data goes back to its last consistent point.",
		example: "  drship primary r0\n  drship primary --force r0",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "force", "f", false, "promote although the data is not known to be UpToDate")
		},
	})
}
