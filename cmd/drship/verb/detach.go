package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) detach() *cobra.Command {
	return a.command(request{
		verb:    "detach",
		group:   groupRun,
		short:   "Release the backing disks",
		long:    "The volume goes on, if it can, with the data of its peer.",
		example: "  drship detach r0/1",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "force", "", false, "detach at once, without waiting for requests to the disk")
		},
	})
}
