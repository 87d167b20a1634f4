package verb

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) verify() *cobra.Command {
	return a.command(request{
		verb:  "verify",
		group: groupData,
		short: "Compare the data with the peer while both are in use",
		long: "What differs is marked out of sync and reported with its offsets. With verify-repair on, a Primary repairs it at once; else --repair does, " +
			"or a disconnect and connect. The verify ends with a disconnect. A report of each run is kept on the side that sends: print it with --report.",
		example: "  drship verify r0\n  drship verify --start 1G --stop 2G r0/0\n  drship verify --report r0\n  drship verify --repair r0",
		flags: func(fs *pflag.FlagSet) {
			fs.Var(newSize(sector), "start", "where to begin: a number of sectors, or bytes with a suffix K, M, G, T")
			fs.Var(newSize(sector), "stop", "where to end, likewise")
			yesNo(fs, "report", "", false, "print what earlier runs have found, and when the next one is due")
			yesNo(fs, "json", "", false, "with --report: print JSON")
			yesNo(fs, "seed", "", false, "on the side to sync from: the next resync, or the one that runs, sends digests first, because the peer's disk was carried over")
			yesNo(fs, "repair", "", false, "repair what is marked out of sync, without a resync")
		},
		check: func(o map[string]string) error {
			_, start := o["start"]
			_, stop := o["stop"]
			modes := 0
			for _, name := range []string{"report", "repair", "seed"} {
				if o[name] == "yes" {
					modes++
				}
			}
			switch {
			case o["json"] == "yes" && o["report"] != "yes":
				return errors.New("--json goes with --report")
			case modes > 1 || (start || stop) && modes > 0:
				return errors.New("--report, --repair, --seed, and a range to verify exclude one another")
			}
			return nil
		},
	})
}
