package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) verify() *cobra.Command {
	return a.command(request{
		verb:    "verify",
		group:   groupData,
		short:   "Compare the data with the peer while both are in use",
		long:    "What differs is marked out of sync and reported; a resync (disconnect and connect) repairs it.",
		example: "  drship verify r0\n  drship verify --start 1G --stop 2G r0/0",
		flags: func(fs *pflag.FlagSet) {
			fs.Var(newSize(sector), "start", "where to begin: a number of sectors, or bytes with a suffix K, M, G, T")
			fs.Var(newSize(sector), "stop", "where to end, likewise")
		},
	})
}
