package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) getGI() *cobra.Command {
	return a.command(request{
		verb:    "get-gi",
		group:   groupLook,
		short:   "Show the generation identifiers",
		example: "  drship get-gi r0",
	})
}
