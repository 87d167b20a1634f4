package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) attach() *cobra.Command {
	return a.command(request{
		verb:    "attach",
		follows: true,
		group:   groupRun,
		short:   "Attach the backing disks",
		example: "  drship attach r0\n  drship attach r0/1",
		flags:   func(fs *pflag.FlagSet) { hiddenOptions(fs, "disk") },
	})
}
