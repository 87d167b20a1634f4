package verb

import (
	"fmt"
	"maps"
	"slices"

	"drship/internal/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// until is said of every verb that changes an option for now.
const until = "What is set holds until the next adjust, without a change of the configuration; show prints what is in force. "

func (a *app) diskOptions() *cobra.Command {
	return a.command(request{
		verb:    "disk-options",
		group:   groupData,
		short:   "Change options of disks and resyncs for now",
		long:    "Sets options of disk { … }. " + until + "--resync-rate 0 goes back to what is configured or measured. al-extents takes effect at once: the disks are let go of and taken again under clients, who wait for a moment.",
		example: "  drship disk-options --resync-rate=80M r0\n  drship disk-options --c-max-rate=200M --on-io-error=pass_on r0/0\n  drship disk-options --set-defaults r0",
		flags:   func(fs *pflag.FlagSet) { resyncRate(fs); optionFlags(fs, "disk") },
		remark:  func(o map[string]string) []string { return remarks("disk", o) },
	})
}

func (a *app) peerDeviceOptions() *cobra.Command {
	return a.command(request{
		verb:    "peer-device-options",
		group:   groupData,
		short:   "Change options of resyncs for now",
		long:    "DRBD 9's name for what steers a resync: sets those options of disk { … } for all peers, or for one where RES:PEER names it; the volumes of a peer are resynced together, so that RES:PEER/VOL stands for all of them. " + until,
		example: "  drship peer-device-options --c-max-rate=200M r0\n  drship peer-device-options --resync-rate=0 r0:bob/0",
		flags:   func(fs *pflag.FlagSet) { resyncRate(fs); optionFlags(fs, "disk") },
		remark:  func(o map[string]string) []string { return remarks("disk", o) },
	})
}

func (a *app) netOptions() *cobra.Command {
	return a.command(request{
		verb:  "net-options",
		group: groupRun,
		short: "Change options of connections for now",
		long: "Sets options of net { … }. " + until + "Options that a connection is made with, such as protocol, timeouts and the secret, end it for a moment: it is " +
			"made again at once, and the journal sends what was written meanwhile.",
		example: "  drship net-options --protocol=A r0\n  drship net-options --after-sb-0pri=discard-zero-changes r0:bob\n  drship net-options --set-defaults --protocol=C r0",
		flags:   func(fs *pflag.FlagSet) { optionFlags(fs, "net") },
		remark:  func(o map[string]string) []string { return remarks("net", o) },
	})
}

func (a *app) resourceOptions() *cobra.Command {
	return a.command(request{
		verb:    "resource-options",
		group:   groupRun,
		short:   "Change options of resources for now",
		long:    "Sets options of options { … }. " + until,
		example: "  drship resource-options --on-no-data-accessible=suspend-io r0",
		flags:   func(fs *pflag.FlagSet) { optionFlags(fs, "options") },
		remark:  func(o map[string]string) []string { return remarks("options", o) },
	})
}

func (a *app) syncer() *cobra.Command {
	return a.command(request{
		verb:    "syncer",
		follows: true,
		group:   groupData,
		short:   "Take over the options that the configuration has changed (DRBD 8.3's name)",
		long:    "Takes over what adjust would of the options of disks, connections and resources, and neither attaches nor connects anything.",
		example: "  drship syncer r0",
		hidden:  true,
	})
}

// resyncRate has a flag of its own: 0 ends what it set.
func resyncRate(fs *pflag.FlagSet) {
	fs.Var(newSize(1<<10), "resync-rate", "bytes a second: a number of KiB, or with a suffix K, M, G; 0: as configured or measured")
}

// optionFlags adds the options of a section as flags. Their values travel as they were written; the node knows what they may be.
func optionFlags(fs *pflag.FlagSet, section string) {
	yesNo(fs, "set-defaults", "", false, "put every option that is not given to its default")
	for _, o := range config.SectionOptions(section) {
		if fs.Lookup(o.Name) != nil {
			continue
		}
		fs.String(o.Name, "", o.Note)
		if o.Kind == config.Bool {
			fs.Lookup(o.Name).NoOptDefVal = "yes"
		}
	}
}

// remarks says of options that are accepted why they have no effect.
func remarks(section string, options map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(options)) {
		o, ok := config.FindOption(section, name)
		if ok && (o.Class == config.NoEffect || o.Class == config.NotYet) && !config.Show(section, name, options[name]).Default {
			out = append(out, fmt.Sprintf("%s: accepted without effect: %s", name, o.Note))
		}
	}
	return out
}
