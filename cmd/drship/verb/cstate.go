package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) cstate() *cobra.Command {
	return a.command(request{
		verb:    "cstate",
		group:   groupLook,
		short:   "Show the connection states",
		example: "  drship cstate r0\n  drship cstate r0:bob",
	})
}
