package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) resize() *cobra.Command {
	return a.command(request{
		verb:    "resize",
		group:   groupData,
		short:   "Grow volumes to the size of their disks, while clients write",
		long:    "Run on the Primary once the disks of every side have grown. What is new is resynced; with --assume-clean it is taken to be equal. Clients see the new size when they connect again.",
		example: "  drship resize r0\n  drship resize --size 20G --assume-clean r0/0",
		flags: func(fs *pflag.FlagSet) {
			fs.Var(newSize(sector), "size", "grow to this size only: a number of sectors, or bytes with a suffix K, M, G, T")
			yesNo(fs, "assume-clean", "", false, "what is new holds the same on both sides: no resync")
		},
	})
}
