package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) suspendIO() *cobra.Command {
	return a.command(request{
		verb:    "suspend-io",
		group:   groupRun,
		short:   "Hold the requests of applications",
		example: "  drship suspend-io r0",
	})
}
