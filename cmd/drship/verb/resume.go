package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) resume() *cobra.Command {
	return a.command(request{
		verb:    "resume",
		group:   groupData,
		short:   "Let replication go on",
		example: "  drship resume r0",
	})
}
