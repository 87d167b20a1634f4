package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) createMD() *cobra.Command {
	return a.command(request{
		verb:    "create-md",
		follows: true,
		group:   groupData,
		short:   "Make the metadata of a resource",
		long:    "Metadata lives in the state directory: the disk is neither shrunk nor written to, and a file system on it stays. Refused with exit code 40 where there is metadata already or DRBD's own stands on the disk, unless --force is given, and where somebody else uses the disk. With --adopt a pair of DRBD nodes that was taken down in order moves over without a full sync. Needs no daemon.",
		example: "  drship create-md r0\n  drship create-md --force all\n  drship create-md --adopt r0\n  drship create-md --assume-clean r0",
		flags: func(fs *pflag.FlagSet) {
			yesNo(fs, "force", "", false, "replace metadata that is there")
			yesNo(fs, "assume-clean", "", false, "the disk was carried over: where both sides are created so they count as equal; where the peer has data, digests go first, and blocks only where they differ")
			yesNo(fs, "adopt", "", false, "take the disk over as DRBD left it: its size, and where it was taken down in order its identifiers and bitmap")
			fs.Var(newSize(1), "size", "use only the first `BYTES` of each disk (suffixes K, M, G, T)")
		},
		offline: true,
	})
}
