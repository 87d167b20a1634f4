package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) explain() *cobra.Command {
	return a.command(request{
		verb:    "explain",
		group:   groupLook,
		short:   "Say why the last handshake ended as it did",
		example: "  drship explain r0",
	})
}
