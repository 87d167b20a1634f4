package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) pause() *cobra.Command {
	return a.command(request{
		verb:    "pause",
		group:   groupData,
		short:   "Hold replication",
		long:    "Writes go on here and are kept in the journal, later in the bitmap; the peer stays consistent, and ages. See pause-sync for holding a resync alone.",
		example: "  drship pause r0\n  drship pause r0:bob",
		flags:   func(fs *pflag.FlagSet) { yesNo(fs, "keep", "", false, "also after a restart, until it is resumed") },
	})
}
