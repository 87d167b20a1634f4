package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) resumeSync() *cobra.Command {
	return a.command(request{
		verb:    "resume-sync",
		group:   groupData,
		short:   "Let a resync go on",
		example: "  drship resume-sync r0",
	})
}
