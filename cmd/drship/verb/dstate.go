package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) dstate() *cobra.Command {
	return a.command(request{
		verb:    "dstate",
		group:   groupLook,
		short:   "Show the disk states: here/peer",
		example: "  drship dstate r0",
	})
}
