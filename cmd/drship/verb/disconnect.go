package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) disconnect() *cobra.Command {
	return a.command(request{
		verb:    "disconnect",
		group:   groupRun,
		short:   "End the connection to the peers",
		long:    "Writes go on here; what the peers lack is kept in the journal, later in the bitmap.",
		example: "  drship disconnect r0\n  drship disconnect r0:bob",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "force", "", false, "do not wait for the peer to agree")
			yesNo(fs, "once", "", false, "refuse where there is no connection, as drbdadm does")
		},
	})
}
