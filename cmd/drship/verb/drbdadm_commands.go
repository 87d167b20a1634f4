package verb

// audience is who a command of drbdadm is for: help shows the first kind, hidden-commands the others.
type audience uint8

const (
	forUsers   audience = iota
	forScripts          // helpers of shell scripts
	forKernel           // handlers
	forExperts
	unlisted // of another generation, or an alias
)

// admCommand is one command of drbdadm: a verb of drship, or a fact of the configuration.
type admCommand struct {
	name     string
	verb     string
	audience audience
	fact     *fact
}

// admTable lists drbdadm's commands in the order in which its help has them, those that only 9 has behind.
func admTable() []admCommand {
	var table []admCommand
	add := func(who audience, names ...string) {
		for _, name := range names {
			table = append(table, admCommand{name: name, verb: name, audience: who})
		}
	}
	add(forUsers, "attach", "status", "disk-options", "detach", "connect", "net-options", "disconnect", "up", "resource-options", "down", "primary", "secondary",
		"invalidate", "invalidate-remote", "outdate", "resize", "verify", "pause-sync", "resume-sync", "adjust", "adjust-with-progress", "wait-connect",
		"wait-con-int", "role", "cstate", "dstate", "dump", "dump-xml", "create-md", "show-gi", "get-gi", "dump-md", "wipe-md", "apply-al",
		"wait-sync", "forget-peer", "peer-device-options", "new-peer", "del-peer", "new-path", "del-path")
	for _, f := range admFacts() {
		table = append(table, admCommand{name: f.name, audience: forScripts, fact: &f})
	}
	add(forScripts, "proxy-up", "proxy-down", "new-resource")
	for _, name := range handlerCommands {
		table = append(table, admCommand{name: name, verb: "run-handler", audience: forKernel})
	}
	add(forExperts, "sh-new-minor", "new-minor", "del-minor", "suspend-io", "resume-io", "set-gi", "new-current-uuid", "check-resize")
	add(unlisted, "state", "syncer", "peer-role", "dump-superblock", "repair-md")
	for i := range table {
		if verb, other := admVerbs[table[i].name]; other {
			table[i].verb = verb
		}
	}
	return table
}

// admVerbs are the commands whose verb is called otherwise here.
var admVerbs = map[string]string{
	"adjust-with-progress": "adjust", "state": "role", "dump-xml": "dump", "sh-new-minor": "new-minor", "dump-superblock": "dump-md",
}

// handlerCommands run a handler of the configuration by hand.
var handlerCommands = []string{"before-resync-target", "after-resync-target", "before-resync-source", "pri-on-incon-degr", "pri-lost-after-sb", "fence-peer",
	"unfence-peer", "local-io-error", "pri-lost", "initial-split-brain", "split-brain", "out-of-sync", "quorum-lost", "disconnected"}

// meaningless are commands that are understood and have nothing to do here, with what is said of them.
var meaningless = map[string]string{
	"proxy-up":   "no proxy is needed: the journal holds what waits for the line, and wan { compression … } makes it small",
	"proxy-down": "no proxy is needed: the journal holds what waits for the line, and wan { compression … } makes it small",
	"repair-md":  "metadata lives in the state directory's store, which repairs itself when it is opened",
}

func findCommand(name string) *admCommand {
	for _, c := range admTable() {
		if c.name == name {
			return &c
		}
	}
	return nil
}
