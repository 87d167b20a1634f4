package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) diskOptions() *cobra.Command {
	return a.command(request{
		verb:    "disk-options",
		group:   groupData,
		short:   "Set the rate of resyncs for now",
		long:    "Sets resync-rate until the next adjust, without a change of the configuration; 0 goes back to what is configured or measured.",
		example: "  drship disk-options --resync-rate=80M r0\n  drship disk-options --resync-rate=0 r0",
		flags: func(fs *pflag.FlagSet) {
			fs.Var(newSize(1<<10), "resync-rate", "bytes a second: a number of KiB, or with a suffix K, M, G")
		},
	})
}
