package verb

import (
	"fmt"
	"strings"

	"drship/internal/config"
)

// setupCommand is one command of drbdsetup, of 8.4 or 9.
type setupCommand struct {
	name, verb string
	args       string // for the help
	options    []string
	everything bool   // may stand without an object
	why        string // why it has no meaning here
}

// setupTable lists drbdsetup's commands in the order in which its help has them.
func setupTable() []setupCommand {
	events := []string{"timestamps", "statistics", "now", "poll", "full", "color=...", "diff=..."}
	wait := []string{"wfc-timeout=(0 ... 300000)", "degr-wfc-timeout=(0 ... 300000)", "outdated-wfc-timeout=(0 ... 300000)", "wait-after-sb={yes|no}"}
	minor, resource, peer := "{minor}", "{resource}", "{resource} {peer_node_id}"
	return []setupCommand{
		{name: "primary", args: minor, options: []string{"force"}}, {name: "secondary", args: minor, options: []string{"force"}},
		{name: "attach", args: "{minor} {lower_dev} {meta_data_dev} {meta_data_index}"}, {name: "disk-options", args: minor, options: []string{"set-defaults"}},
		{name: "detach", args: minor, options: []string{"force"}}, {name: "connect", args: peer, options: []string{"tentative", "discard-my-data"}},
		{name: "net-options", args: peer, options: []string{"set-defaults"}}, {name: "disconnect", args: peer, options: []string{"force"}},
		{name: "resize", args: minor, options: []string{"size=(0 ... )", "assume-peer-has-space", "assume-clean"}},
		{name: "resource-options", args: resource, options: []string{"set-defaults"}},
		{name: "new-current-uuid", args: minor, options: []string{"clear-bitmap"}}, {name: "invalidate", args: minor, options: []string{"reset-bitmap={yes|no}"}},
		{name: "invalidate-remote", args: minor, options: []string{"reset-bitmap={yes|no}"}},
		{name: "pause-sync", args: minor}, {name: "resume-sync", args: minor}, {name: "suspend-io", args: minor}, {name: "resume-io", args: minor},
		{name: "outdate", args: minor}, {name: "verify", args: minor, options: []string{"start=(0 ... )", "stop=(0 ... )"}}, {name: "down", args: resource},
		{name: "state", verb: "role", args: minor}, {name: "role", args: minor}, {name: "sh-status", args: minor, everything: true}, {name: "cstate", args: minor}, {name: "dstate", args: minor},
		{name: "show-gi", args: minor}, {name: "get-gi", args: minor}, {name: "show", args: "{ {resource} | {minor} | all }", options: []string{"show-defaults", "json"}, everything: true},
		{name: "status", args: "{ {resource} | all }", options: []string{"verbose", "statistics", "color=...", "json"}, everything: true},
		{name: "check-resize", args: minor},
		{name: "events", why: "DRBD 8.3's event stream is not spoken here; scripts of our time read events2"},
		{name: "events2", args: "{ {resource} | all }", options: events, everything: true},
		{name: "wait-connect", args: minor, options: wait}, {name: "wait-sync", args: minor, options: wait},
		{name: "new-resource", args: resource}, {name: "new-minor", args: "{resource} {minor} {volume}"}, {name: "del-minor", args: minor}, {name: "del-resource", args: resource},
		{name: "new-peer", args: peer}, {name: "del-peer", args: peer}, {name: "new-path", args: peer + " {local-addr} {remote-addr}"}, {name: "del-path", args: peer + " {local-addr} {remote-addr}"},
		{name: "peer-device-options", args: peer + " {volume}", options: []string{"set-defaults"}}, {name: "forget-peer", args: peer},
		{name: "wait-connect-volume", verb: "wait-connect", args: peer + " {volume}", options: wait}, {name: "wait-connect-connection", verb: "wait-connect", args: peer, options: wait},
		{name: "wait-connect-resource", verb: "wait-connect", args: resource, options: wait},
		{name: "wait-sync-volume", verb: "wait-sync", args: peer + " {volume}", options: wait}, {name: "wait-sync-connection", verb: "wait-sync", args: peer, options: wait},
		{name: "wait-sync-resource", verb: "wait-sync", args: resource, options: wait},
		{name: "peer-role", args: peer}, {name: "syncer", args: minor},
		{name: "rename-resource", args: "{resource} {new_name}"},
	}
}

func findSetup(name string) *setupCommand {
	for _, c := range setupTable() {
		if c.name == name {
			if c.verb == "" {
				c.verb = c.name
			}
			return &c
		}
	}
	return nil
}

// setupUsage is printed where drbdsetup is not told what to do; its exit code is 20 as with the real one.
func setupUsage() string {
	var b strings.Builder
	b.WriteString("\nUSAGE: drbdsetup command device arguments options\n\nDevice is usually /dev/drbdX or /dev/drbd/X.\n\nCommands are:\n")
	table := setupTable()
	n := 0
	for _, c := range table {
		if c.why != "" {
			continue
		}
		if n%3 == 0 {
			b.WriteString("   ")
		}
		fmt.Fprintf(&b, " %-24s", c.name)
		if n++; n%3 == 0 {
			b.WriteByte('\n')
		}
	}
	if n%3 != 0 {
		b.WriteByte('\n')
	}
	b.WriteString("\nTo get more details about a command issue 'drbdsetup help cmd'.\n")
	return b.String()
}

// setupHelp prints the help of one command; without one it is misused, as with the real drbdsetup.
func (c *compat) setupHelp(words []string) error {
	if len(words) == 0 {
		return c.usage("%s", setupUsage())
	}
	command := findSetup(words[0])
	if command == nil {
		return c.usage("%s: Unknown command\ntry 'drbdsetup help'", words[0])
	}
	if command.why != "" {
		return c.print(fmt.Sprintf("drbdsetup %s: %s\n", command.name, command.why))
	}
	options := command.options
	if section, ok := sectionsOf[command.name]; ok {
		for _, o := range config.SectionOptions(section) {
			options = append(options, o.Name+"="+valueRange(o))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "USAGE:\n drbdsetup %s %s", command.name, command.args)
	width := 200 // the options begin on a line of their own
	for _, o := range options {
		word := " [--" + o + "]"
		if width+len(word) > 78 {
			b.WriteString("\n   ")
			width = 3
		}
		b.WriteString(word)
		width += len(word)
	}
	return c.print(b.String() + "\n")
}

// valueRange is what an option takes, as drbdsetup writes it.
func valueRange(o config.Option) string {
	switch o.Kind {
	case config.Bool:
		return "{yes|no}"
	case config.Number:
		return fmt.Sprintf("(%d ... %d)", o.Min, o.Max)
	case config.Enum:
		return "{" + strings.Join(o.Values, "|") + "}"
	}
	return "<str>"
}
