package verb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/state"
)

// adm is the command line of drbdadm.
type adm struct {
	*compat
	stacked    bool
	toTest     string
	shVarname  string
	command    string
	names      []string
	help       bool
	versionAsk bool
}

// admCommands maps drbdadm's commands to verbs of drship. Those that only look at the configuration are in admFacts.
var admCommands = map[string]string{
	"attach": "attach", "detach": "detach", "connect": "connect", "disconnect": "disconnect", "up": "up", "down": "down", "primary": "primary",
	"secondary": "secondary", "invalidate": "invalidate", "invalidate-remote": "invalidate-remote", "outdate": "outdate", "verify": "verify",
	"pause-sync": "pause-sync", "resume-sync": "resume-sync", "adjust": "adjust", "adjust-with-progress": "adjust", "wait-connect": "wait-connect",
	"wait-sync": "wait-sync", "wait-con-int": "wait-connect", "role": "role", "state": "role", "cstate": "cstate", "dstate": "dstate", "status": "status",
	"create-md": "create-md", "show-gi": "show-gi", "get-gi": "get-gi", "dump-md": "dump-md", "wipe-md": "wipe-md", "apply-al": "apply-al", "set-gi": "set-gi", "resize": "resize", "disk-options": "disk-options", "suspend-io": "suspend-io", "resume-io": "resume-io",
	"new-current-uuid": "new-current-uuid", "dump": "dump", "dump-xml": "dump",
}

// backendOptions maps the options of drbdsetup, of every generation, to ours; an empty name is accepted and has no meaning here.
var backendOptions = map[string]string{
	"--overwrite-data-of-peer": "--force", "-o": "--force", "--do-what-I-say": "--force", "--force": "--force", "-f": "--force",
	"--discard-my-data": "--discard-my-data", "-D": "--discard-my-data", "--tentative": "--tentative", "--clear-bitmap": "--clear-bitmap", "-c": "--clear-bitmap",
	"--reset-bitmap": "--reset-bitmap", "--start": "--start", "--stop": "--stop", "--wfc-timeout": "--timeout", "-t": "--timeout", "--timeout": "--timeout",
	"--degr-wfc-timeout": "", "-d": "", "--outdated-wfc-timeout": "", "--wait-after-sb": "--wait-after-sb", "-w": "--wait-after-sb",
	"--adopt": "--adopt", "--gi": "--gi", "--max-peers": "", "--peer-max-bio-size": "", "--al-stripes": "", "--al-stripe-size-kB": "",
	"--resync-rate": "--resync-rate", "--assume-clean": "--assume-clean", "--assume-peer-has-space": "",
	"--size": "--size", "--verbose": "--verbose", "--statistics": "--statistics", "--json": "--json", "--now": "--now", "--timestamps": "--timestamps",
}

// withValue are the backend options that take a value as the next argument.
var withValue = map[string]bool{"--start": true, "--stop": true, "--timeout": true, "--size": true, "--wfc-timeout": true, "-t": true, "--degr-wfc-timeout": true, "-d": true,
	"--outdated-wfc-timeout": true, "--gi": true, "--resync-rate": true, "--max-peers": true, "--peer-max-bio-size": true, "--al-stripes": true, "--al-stripe-size-kB": true}

func runDrbdadm(ctx context.Context, d Deps) int {
	a := &adm{compat: newCompat("drbdadm", d, exitUsage)}
	if err := a.parse(d.Args[1:]); err != nil {
		return a.report(err)
	}
	switch {
	case a.versionAsk:
		return a.report(a.printVersion())
	case a.help || a.command == "" || a.command == "help":
		return a.report(a.printUsage())
	case a.command == "hidden-commands":
		return a.report(a.printHidden())
	}
	return a.dispatch(ctx)
}

// parse reads options and names in any order; what stands behind -- and begins with a hyphen belongs to the backend.
func (a *adm) parse(args []string) error {
	behind := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			behind = true
			continue
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if a.command == "" {
				a.command = arg
			} else {
				a.names = append(a.names, arg)
			}
			continue
		}
		var next string
		if i+1 < len(args) {
			next = args[i+1]
		}
		used, err := 0, error(nil)
		if !behind {
			used, err = a.general(arg, next)
		}
		if err != nil {
			return err
		}
		if behind || used == 0 {
			if used, err = a.backendOption(arg, next); err != nil {
				return err
			}
		}
		i += used - 1
	}
	return nil
}

// general takes an option of drbdadm itself and returns how many arguments it used; 0 where it is none of drbdadm's.
func (a *adm) general(arg, next string) (used int, err error) {
	name, value, joined := strings.Cut(arg, "=")
	bundled := !strings.HasPrefix(arg, "--") && len(arg) > 2 // -cFILE and -dv, as getopt has it
	if bundled {
		name, value, joined = arg[:2], arg[2:], true
	}
	text := func(into *string) (int, error) {
		if joined {
			*into = value
			return 1, nil
		}
		if next == "" {
			return 0, a.usage("drbdadm: option '%s' requires an argument\ntry 'drbdadm help'", name)
		}
		*into = next
		return 2, nil
	}
	var ignored string
	switch name {
	case "-d", "--dry-run":
		a.dry = true
	case "-v", "--verbose":
		a.verbose = true
	case "-S", "--stacked":
		a.stacked = true
	case "-V", "--version":
		a.versionAsk = true
	case "-h", "--help":
		a.help = true
	case "-c", "--config-file":
		return text(&a.node.ConfigFile)
	case "-t", "--config-to-test":
		return text(&a.toTest)
	case "-n", "--sh-varname":
		return text(&a.shVarname)
	case "-E", "--config-to-exclude", "-s", "--drbdsetup", "-m", "--drbdmeta", "-p", "--drbd-proxy-ctl", "-P", "--peer":
		return text(&ignored) // programs that are not called, and a peer that needs no choosing
	case "-W", "--setup-option":
		used, err = text(&ignored)
		if err == nil {
			_, err = a.backendOption(ignored, "")
		}
		return used, err
	default:
		return 0, nil
	}
	if bundled {
		return a.general("-"+value, next)
	}
	return 1, nil
}

// backendOption takes an option that drbdadm hands down.
func (c *compat) backendOption(arg, next string) (used int, err error) {
	name, value, joined := strings.Cut(arg, "=")
	ours, known := backendOptions[name]
	if !known {
		return 0, c.usage("%s: unrecognized option '%s'\ntry '%s help'", c.program, arg, c.program)
	}
	used = 1
	if withValue[name] && !joined {
		if next == "" {
			return 0, c.usage("%s: option '%s' requires an argument\ntry '%s help'", c.program, name, c.program)
		}
		value, joined, used = next, true, 2
	}
	if ours == "" {
		return used, nil
	}
	if joined {
		ours += "=" + value
	}
	c.options = append(c.options, ours)
	return used, nil
}

// dispatch runs the command.
func (a *adm) dispatch(ctx context.Context) int {
	if a.toTest != "" {
		if a.command != "dump" && a.command != "sh-nop" {
			return a.report(a.usage("drbdadm: --config-to-test works with dump and sh-nop only"))
		}
		a.node.ConfigFile = a.toTest
	}
	if err := a.load(); err != nil {
		return a.report(err)
	}
	if fact, ok := admFacts[a.command]; ok {
		return a.report(a.printFacts(fact))
	}
	verb, ok := admCommands[a.command]
	if !ok {
		return a.report(a.usage("drbdadm: Unknown command '%s'", a.command))
	}
	a.verb = verb
	targets, err := a.targets()
	if err != nil {
		return a.report(err)
	}
	if a.dry || a.verbose {
		for _, line := range a.allCalls(ctx, targets) {
			fmt.Fprintln(a.deps.Stdout, line)
		}
	}
	if a.dry {
		return 0
	}
	return a.run(ctx, a.line(verb, targets)...)
}

// line is the command line of drship that does the same.
func (a *adm) line(verb string, targets []target) []string {
	line := append([]string{verb}, a.options...)
	if a.command == "dump-xml" {
		line = append(line, "--xml")
	}
	switch verb {
	case "dump":
		return append(line, a.names...)
	case "connect":
		line = append(line, "--once")
	}
	if verb == "status" && len(a.names) == 0 { // every configured one, so that one that is not up is an error, as with drbdadm
		for _, t := range targets {
			line = append(line, t.resource)
		}
		return line
	}
	return append(line, a.names...)
}

// targets checks the names against the configuration.
func (a *adm) targets() ([]target, error) {
	named, err := parseTargets(a.names)
	if err != nil {
		return nil, a.usage("drbdadm: %v", err)
	}
	if len(a.names) == 0 && a.verb != "status" && a.verb != "dump" {
		return nil, a.usage("drbdadm: Missing resource name or 'all'.\ntry 'drbdadm help'")
	}
	if len(a.names) == 0 || named[0].resource == control.All {
		local := a.local()
		if len(local) == 0 && a.verb != "dump" {
			return nil, a.usage("WARN: no normal resources defined for this host (%s)!?\nMisspelled name of the local machine with the 'on' keyword ?", a.node.Node)
		}
		named = nil
		for _, r := range local {
			named = append(named, target{resource: r.Name, volume: control.AnyVolume})
		}
		return named, nil
	}
	for _, t := range named {
		r := a.config.Resource(t.resource)
		if r == nil {
			return nil, a.usage("'%s' not defined in your config (for this host).", t.resource)
		}
		if _, err := r.Local(a.node.Node); err != nil && a.verb != "dump" {
			return nil, a.usage("'%s' not defined in your config (for this host).", t.resource)
		}
	}
	return named, nil
}

func (a *adm) allCalls(ctx context.Context, targets []target) []string {
	var running []face.Resource
	if a.verb == "adjust" { // what runs already needs no step; without a daemon nothing runs
		run := &app{deps: a.deps, node: a.node}
		running, _ = run.snapshot(ctx, nil)
		run.close()
	}
	var lines []string
	for _, t := range targets {
		r := a.config.Resource(t.resource)
		i := slices.IndexFunc(running, func(s face.Resource) bool { return s.Name == t.resource })
		if i >= 0 {
			lines = append(lines, a.missing(r, &running[i], t)...)
			continue
		}
		lines = append(lines, a.calls(a.verb, r, t)...)
	}
	return lines
}

// missing lists the calls that bring a resource that is up to where the configuration wants it.
func (a *adm) missing(r *config.Resource, running *face.Resource, t target) []string {
	var lines []string
	for _, v := range running.Volumes {
		if v.Disk == state.Diskless && (t.volume == control.AnyVolume || t.volume == int(v.Number)) {
			lines = append(lines, a.calls("attach", r, target{resource: t.resource, volume: int(v.Number)})...)
		}
	}
	for _, p := range running.Peers {
		if p.Conn == state.StandAlone && (t.peer == "" || t.peer == p.Name) {
			lines = append(lines, a.calls("connect", r, target{resource: t.resource, volume: control.AnyVolume, peer: p.Name})...)
		}
	}
	return lines
}

// hidden are the commands that drbdadm's help does not show.
func hidden(command string) bool {
	return strings.HasPrefix(command, "sh-") || slices.Contains([]string{"state", "suspend-io", "resume-io", "new-current-uuid", "wait-sync", "set-gi"}, command)
}

func admNames(wantHidden bool) []string {
	all := slices.Collect(maps.Keys(admCommands))
	all = slices.AppendSeq(all, maps.Keys(admFacts))
	all = slices.DeleteFunc(all, func(name string) bool { return hidden(name) != wantHidden })
	if !wantHidden {
		all = append(all, "hidden-commands")
	}
	slices.Sort(all)
	return all
}
