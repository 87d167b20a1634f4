package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) adjust() *cobra.Command {
	return a.command(request{
		verb:    "adjust",
		group:   groupRun,
		short:   "Make what runs match the configuration",
		example: "  drship adjust all",
	})
}
