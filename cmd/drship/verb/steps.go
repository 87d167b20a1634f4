package verb

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// steps are the single steps of up and down, and further verbs that DRBD has for scripts: hidden here as most of them are there.
func (a *app) steps() []*cobra.Command {
	var out []*cobra.Command
	for _, s := range []struct {
		verb, short, long string
		example           string // "" for the verb with a resource
		shown             bool
		flags             func(*pflag.FlagSet)
	}{
		{verb: "new-resource", short: "Refuse where the resource is up",
			long:  "A step of up in DRBD. Here the configuration makes a resource, and attach and connect bring it up: options that are given are set.",
			flags: func(fs *pflag.FlagSet) { hiddenOptions(fs, "options") }},
		{verb: "new-minor", short: "Refuse where the volume is up", long: "A step of up in DRBD. Here the configuration makes a volume."},
		{verb: "del-minor", short: "Refuse where the volume is attached", long: "A step of down in DRBD. Here detach leaves nothing of a volume to delete."},
		{verb: "del-resource", short: "End what is left of a resource that is detached and disconnected", long: "A step of down in DRBD."},
		{verb: "new-peer", short: "Refuse where the peer is connected", long: "A step of up in DRBD 9. Here the configuration makes peers known; options that are given are set.",
			flags: func(fs *pflag.FlagSet) { hiddenOptions(fs, "net") }},
		{verb: "del-peer", short: "Disconnect from a peer", long: "A step of down in DRBD 9. The peer stays in the configuration: forget-peer frees what is kept for it."},
		{verb: "new-path", short: "Refuse where the configuration has no such peer", long: "A step of up in DRBD 9. Here paths come from the configuration."},
		{verb: "del-path", short: "Refuse where the peer is connected", long: "A step of down in DRBD 9. Here paths come from the configuration."},
		{verb: "forget-peer", shown: true, short: "Free what is kept for a peer that will not come back", long: "Frees the bitmap of a peer that is not connected, and takes its positions out of the reckoning of what the journal has to keep.",
			flags: func(fs *pflag.FlagSet) { yesNo(fs, "force", "", false, "do it") }},
		{verb: "rename-resource", short: "Go on under another name",
			long: "Gives what is kept of a resource to the one that the configuration has in its place: metadata, journal, bitmaps, reports of verifies. Change the name in " +
				"the configuration of every node, and rename on each while the resource is down: peers find each other by the name.",
			example: "  drship down r0 && sed -i s/r0/data/ /etc/drship.conf\n  drship rename-resource --from r0 data && drship up data", shown: true,
			flags: func(fs *pflag.FlagSet) { fs.String("from", "", "the `NAME` that it had") }},
		{verb: "check-resize", short: "Note the size of the disks", long: "DRBD moves its metadata by it when a disk grew while it was down. Metadata is not on the disk here: there is nothing to move. resize takes the new size."},
		{verb: "peer-role", short: "Print the roles of the peers"},
		{verb: "run-handler", short: "Run a handler of the configuration by hand",
			flags: func(fs *pflag.FlagSet) { fs.String("handler", "", "`NAME` of the handler") }},
	} {
		if s.example == "" {
			s.example = "  drship " + s.verb + " r0"
		}
		out = append(out, a.command(request{verb: s.verb, group: groupRun, short: s.short, long: s.long, flags: s.flags, example: s.example, hidden: !s.shown}))
	}
	return out
}

// hiddenOptions lets a verb take the options of a section, as drbdsetup's connect and attach do; help does not list them.
func hiddenOptions(fs *pflag.FlagSet, section string) {
	known := map[string]bool{}
	fs.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	optionFlags(fs, section)
	fs.VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || !known[f.Name] })
}
