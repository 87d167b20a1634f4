package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) outdate() *cobra.Command {
	return a.command(request{
		verb:    "outdate",
		group:   groupData,
		short:   "Mark the data here as outdated",
		example: "  drship outdate r0",
	})
}
