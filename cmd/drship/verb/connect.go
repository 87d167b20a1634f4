package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) connect() *cobra.Command {
	return a.command(request{
		verb:    "connect",
		follows: true,
		group:   groupRun,
		short:   "Connect to the peers",
		long:    "Goes on trying until it succeeds or disconnect is called. --discard-my-data solves a split brain: what was written here since the two sides last agreed is given up for the data of the peer. --tentative says what would happen and does not do it.",
		example: "  drship connect r0\n  drship connect --discard-my-data r0\n  drship connect --tentative r0:bob",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "discard-my-data", "", false, "in a split brain, take the data of the peer")
			yesNo(fs, "once", "", false, "refuse where every peer is connected, or being looked for, already, as drbdadm does")
			yesNo(fs, "tentative", "", false, "say what would be sent and discarded, without doing it")
			hiddenOptions(fs, "net")
		},
	})
}
