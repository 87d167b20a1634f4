package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) showGI() *cobra.Command {
	return a.command(request{
		verb:    "show-gi",
		group:   groupLook,
		short:   "Show the generation identifiers, explained",
		long:    "Of a resource that is down it reads the metadata, and needs no daemon.",
		example: "  drship show-gi r0/0",
		offline: true,
	})
}
