package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) attach() *cobra.Command {
	return a.command(request{
		verb:    "attach",
		group:   groupRun,
		short:   "Attach the backing disks",
		example: "  drship attach r0\n  drship attach r0/1",
	})
}
