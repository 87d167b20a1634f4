package verb

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The verbs on the metadata of a resource that is down. None of them needs the daemon.

func (a *app) dumpMD() *cobra.Command {
	return a.command(request{
		verb:    "dump-md",
		group:   groupData,
		short:   "Print the metadata of a resource that is down as text",
		long:    "Prints generation identifiers, size and bitmap in the form of drbdmeta dump-md, for each volume and peer.",
		example: "  drship dump-md r0\n  drship dump-md r0:bob/0",
		offline: true,
	})
}

func (a *app) wipeMD() *cobra.Command {
	return a.command(request{
		verb:    "wipe-md",
		group:   groupData,
		short:   "Remove the metadata of a resource that is down",
		long:    "Removes what the node keeps of the resource in its state directory: identifiers, bitmaps, journal and what was staged. The data on the disks stays as it is.",
		example: "  drship wipe-md --force r0",
		flags:   func(fs *pflag.FlagSet) { yesNo(fs, "force", "", false, "do it") },
		offline: true,
	})
}

func (a *app) applyAL() *cobra.Command {
	return a.command(request{
		verb:    "apply-al",
		group:   groupData,
		short:   "Turn the activity log of a crashed Primary into out-of-sync blocks",
		long:    "Attaching does the same; where nothing crashed there is nothing to do.",
		example: "  drship apply-al r0",
		offline: true,
	})
}

func (a *app) setGI() *cobra.Command {
	return a.command(request{
		verb:    "set-gi",
		group:   groupData,
		short:   "Write generation identifiers into the metadata of a resource that is down",
		long:    "Writes identifiers and flags in the form that get-gi prints. Whoever writes wrong ones loses data without a warning: two disks that differ may count as equal.",
		example: "  drship set-gi --force --gi 2CC51FDC765D6190:0000000000000000:4FE0DBE74A8BC653:0000000000000000:1:1:0:0:0:0:0 r0:bob/0",
		flags: func(fs *pflag.FlagSet) {
			fs.String("gi", "", "`IDENTIFIERS` and flags, as get-gi prints them")
			yesNo(fs, "force", "", false, "do it")
		},
		check: func(o map[string]string) error {
			if o["gi"] == "" {
				return errors.New("--gi is missing")
			}
			return nil
		},
		offline: true,
	})
}
