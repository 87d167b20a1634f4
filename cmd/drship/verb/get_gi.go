package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) getGI() *cobra.Command {
	return a.command(request{
		verb:    "get-gi",
		group:   groupLook,
		short:   "Show the generation identifiers",
		long:    "Of a resource that is down it reads the metadata, and needs no daemon.",
		example: "  drship get-gi r0",
		offline: true,
	})
}
