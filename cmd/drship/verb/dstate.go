package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) dstate() *cobra.Command {
	return a.command(request{
		verb:    "dstate",
		group:   groupLook,
		short:   "Show the disk states: here/peer",
		long:    "Of a resource that is down it says what its metadata does of the data here.",
		example: "  drship dstate r0",
		offline: true,
	})
}
