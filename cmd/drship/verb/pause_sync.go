package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) pauseSync() *cobra.Command {
	return a.command(request{
		verb:    "pause-sync",
		group:   groupData,
		short:   "Hold a resync",
		long:    "The resync goes on only when neither side holds it. Replication of new writes is not affected.",
		example: "  drship pause-sync r0",
		flags:   func(fs *pflag.FlagSet) { yesNo(fs, "keep", "", false, "also after a restart, until it is resumed") },
	})
}
