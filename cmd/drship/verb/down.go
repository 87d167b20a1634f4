package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) down() *cobra.Command {
	return a.command(request{
		verb:    "down",
		group:   groupRun,
		short:   "Stop resources: disconnect, detach, forget",
		long:    "Refused while a client has a volume open. What a peer has not received stays in the journal and is shipped after the next up.",
		example: "  drship down r0",
	})
}
