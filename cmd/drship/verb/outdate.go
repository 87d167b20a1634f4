package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) outdate() *cobra.Command {
	return a.command(request{
		verb:    "outdate",
		group:   groupData,
		offline: true,
		short:   "Mark the data here as outdated",
		long:    "Refused while a peer is connected, or the resource is Primary. Of a resource that is down only the metadata is told; that needs no daemon.",
		example: "  drship outdate r0",
	})
}
