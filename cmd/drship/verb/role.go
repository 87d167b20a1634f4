package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) role() *cobra.Command {
	return a.command(request{
		verb:    "role",
		group:   groupLook,
		short:   "Show the roles: here/peer",
		example: "  drship role r0",
	})
}
