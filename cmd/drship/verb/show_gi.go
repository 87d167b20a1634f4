package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) showGI() *cobra.Command {
	return a.command(request{
		verb:    "show-gi",
		group:   groupLook,
		short:   "Show the generation identifiers, explained",
		example: "  drship show-gi r0/0",
	})
}
