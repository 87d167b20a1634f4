package verb

import (
	"github.com/spf13/cobra"
)

func (a *app) resumeIO() *cobra.Command {
	return a.command(request{
		verb:    "resume-io",
		group:   groupRun,
		short:   "Let the requests of applications go on",
		example: "  drship resume-io r0",
	})
}
