package verb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
)

// adm is the command line of drbdadm.
type adm struct {
	*compat
	stacked    bool
	toTest     string
	toExclude  string
	shVarname  string
	peer       string
	command    string
	names      []string
	help       bool
	versionAsk bool
}

func runDrbdadm(ctx context.Context, d Deps) int {
	a := &adm{compat: newCompat("drbdadm", d, exitUsage)}
	if err := a.parse(d.Args[1:]); err != nil {
		return a.report(err)
	}
	switch {
	case a.versionAsk:
		return a.report(a.printVersion())
	case a.help || a.command == "help":
		return a.report(a.printHelp())
	case a.command == "":
		return a.report(a.misused(nil, "No command specified"))
	case a.command == "hidden-commands":
		return a.report(a.printHidden())
	}
	return a.dispatch(ctx)
}

// misused prints the help and what is missing, on the output as drbdadm does.
func (a *adm) misused(c *admCommand, what string) error {
	if err := a.print(usageText(c, what)); err != nil {
		return err
	}
	return quiet(exitUsage)
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
		switch {
		case joined:
			*into = value
			return 1, nil
		case next != "":
			*into = next
			return 2, nil
		case strings.HasPrefix(name, "--"):
			return 0, a.usage("drbdadm: option '%s' requires an argument\ntry 'drbdadm help'", name)
		}
		return 0, a.usage("drbdadm: option requires an argument -- '%s'\ntry 'drbdadm help'", name[1:])
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
		used, err = text(&a.node.ConfigFile)
		a.ownConfig = true
		return used, err
	case "-t", "--config-to-test":
		return text(&a.toTest)
	case "-E", "--config-to-exclude":
		return text(&a.toExclude)
	case "-n", "--sh-varname":
		return text(&a.shVarname)
	case "-P", "--peer":
		return text(&a.peer)
	case "-s", "--drbdsetup", "-m", "--drbdmeta", "-p", "--drbd-proxy-ctl":
		return text(&ignored) // programs that are not called
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

// dispatch runs the command.
func (a *adm) dispatch(ctx context.Context) int {
	command := findCommand(a.command)
	if command == nil {
		return a.report(a.usage("drbdadm: Unknown command '%s'", a.command))
	}
	if a.toTest != "" && command.verb != "dump" && a.command != "sh-nop" {
		return a.report(a.usage("The --config-to-test (-t) option is only allowed with the dump and sh-nop commands"))
	}
	if why, none := meaningless[a.command]; none {
		fmt.Fprintf(a.deps.Stderr, "%s: %s\n", a.command, why)
		return 0
	}
	if err := a.load(a.dry || command.fact != nil || command.verb == "dump"); err != nil {
		return a.report(err)
	}
	if command.fact != nil {
		if command.fact.whole == nil && len(a.names) == 0 {
			return a.report(a.misused(command, "No resource names specified"))
		}
		return a.report(a.printFact(ctx, command.fact))
	}
	a.verb = command.verb
	if a.command == "state" {
		fmt.Fprintln(a.deps.Stderr, "'drbdadm state' is deprecated, use 'drbdadm role' instead.")
	}
	if a.verb == "wait-con-int" && !a.dry {
		return a.report(a.waitInteractive(ctx))
	}
	if len(a.names) == 0 && !slices.Contains([]string{"status", "dump", "wait-con-int"}, a.verb) {
		return a.report(a.misused(command, "No resource names specified"))
	}
	targets, err := a.targets()
	if err != nil {
		return a.report(err)
	}
	return a.carryOut(ctx, targets)
}

// carryOut prints the calls that stand for the command where they are asked for, and runs the verb.
func (a *adm) carryOut(ctx context.Context, targets []target) int {
	if a.dry || a.verbose {
		lines, err := a.allCalls(ctx, targets)
		if err != nil {
			return a.report(err)
		}
		for _, line := range lines {
			fmt.Fprintln(a.deps.Stdout, line)
		}
	}
	if a.dry {
		return 0
	}
	if a.verb == "dump" {
		run := &app{deps: a.deps, node: a.node, drbd: true}
		return a.report(run.dumpConfig(a.config, a.names, a.command == "dump-xml"))
	}
	return a.run(ctx, a.line(targets)...)
}

// line is the command line of drship that does the same.
func (a *adm) line(targets []target) []string {
	line := append([]string{a.verb}, a.options...)
	switch a.verb {
	case "dump":
		if a.command == "dump-xml" {
			line = append(line, "--xml")
		}
		return append(line, a.names...)
	case "connect", "disconnect":
		line = append(line, "--once")
	case "wait-connect", "wait-sync":
		line = append(line, a.waitOptions(targets)...)
	case "run-handler":
		line = append(line, "--handler="+a.command)
	case "status":
		if len(a.names) == 0 { // every configured one, so that one that is not up is an error, as with drbdadm
			for _, t := range targets {
				line = append(line, t.resource)
			}
			return line
		}
	}
	if a.ownConfig && slices.Contains([]string{"up", "attach", "connect", "create-md", "adjust", "syncer"}, a.verb) {
		line = append(line, "--follow="+absolute(a.node.ConfigFile))
	}
	if a.stacked || a.peer != "" {
		return append(line, spelled(targets)...)
	}
	return append(line, a.names...)
}

// waitOptions are those of the startup section, for a wait that has none of its own; several resources wait by the first one's.
func (a *adm) waitOptions(targets []target) []string {
	if len(a.options) > 0 || len(targets) == 0 {
		return nil
	}
	var out []string
	timeout, afterSplit := waitOf(a.config.Resource(targets[0].resource))
	if timeout > 0 {
		out = append(out, fmt.Sprintf("--timeout=%d", int(timeout/time.Second)))
	}
	if afterSplit {
		out = append(out, "--wait-after-sb")
	}
	return out
}

// spelled writes targets as drship reads them.
func spelled(targets []target) []string {
	var out []string
	for _, t := range targets {
		name := t.resource
		if t.peer != "" {
			name += ":" + t.peer
		}
		if t.volume >= 0 {
			name += fmt.Sprintf("/%d", t.volume)
		}
		out = append(out, name)
	}
	return out
}

// targets checks the names against the configuration; all stands for the resources of this host, those on top of others with --stacked.
func (a *adm) targets() ([]target, error) {
	named, err := parseTargets(a.names)
	if err != nil {
		return nil, a.usage("drbdadm: %v", err)
	}
	if len(a.names) == 0 || named[0].resource == control.All {
		return a.everyTarget()
	}
	for i := range named {
		if err := a.checkTarget(&named[i]); err != nil {
			return nil, err
		}
	}
	return named, nil
}

func (a *adm) everyTarget() ([]target, error) {
	var all []target
	for _, r := range a.local() {
		if a.verb == "dump" || r.Stacked == a.stacked {
			all = append(all, target{resource: r.Name, volume: control.AnyVolume, peer: a.peerOf(r)})
		}
	}
	switch {
	case len(all) > 0 || a.verb == "dump":
		return all, nil
	case len(a.config.Resources) == 0:
		return nil, a.usage("no resources defined!")
	case a.stacked:
		return nil, a.usage("WARN: nothing stacked for this host (%s), nothing to do in stacked mode!", a.node.Node)
	}
	return nil, a.usage("WARN: no normal resources defined for this host (%s)!?\nMisspelled name of the local machine with the 'on' keyword ?", a.node.Node)
}

// peerOf is the peer that --peer means, where the resource has it.
func (a *adm) peerOf(r *config.Resource) string {
	for _, p := range r.Peers(a.node.Node) {
		if a.peer != "" && slices.Contains(p.Host.Names, a.peer) {
			return p.Host.Name
		}
	}
	return ""
}

func (a *adm) checkTarget(t *target) error {
	name := spelled([]target{*t})[0]
	undefined := a.usage("'%s' not defined in your config (for this host).", name)
	r := a.config.Resource(t.resource)
	if r == nil {
		return undefined
	}
	h, err := r.Local(a.node.Node)
	switch {
	case a.verb == "dump":
		return nil
	case err != nil:
		return undefined
	case a.stacked && !r.Stacked:
		return a.usage("'%s' is a normal resource, and not available in stacked mode.", t.resource)
	case t.volume >= 0 && !slices.ContainsFunc(h.Volumes, func(v *config.Volume) bool { return int(v.Number) == t.volume }):
		return undefined
	case t.peer != "" && !slices.ContainsFunc(r.Peers(a.node.Node), func(p *config.Peer) bool { return slices.Contains(p.Host.Names, t.peer) }):
		return undefined
	}
	if t.peer == "" {
		t.peer = a.peerOf(r)
	}
	return nil
}

func (a *adm) allCalls(ctx context.Context, targets []target) ([]string, error) {
	var lines []string
	for _, t := range targets {
		r := a.config.Resource(t.resource)
		calls := a.calls(a.verb, r, t)
		if a.dry {
			calls = a.tried(a.verb, r, t)
		}
		if a.verb == "adjust" {
			var err error
			if calls, err = a.adjustCalls(ctx, r, t); err != nil {
				return nil, err
			}
		}
		lines = append(lines, calls...)
	}
	return lines, nil
}

// load reads the configuration, with what is to be tested beside it. What only prints it takes words as they are written: it is drbdsetup that knows
// them.
func (a *adm) load(prints bool) error {
	if a.toTest == "" && a.toExclude == "" && !prints {
		return a.compat.load()
	}
	run := &app{deps: a.deps, node: a.node}
	if err := run.resolve(); err != nil {
		return err
	}
	a.node = run.node
	if a.node.ConfigFile == "" {
		return a.noFile(nil)
	}
	read := config.LoadTest
	if prints {
		read = config.LoadAsWritten
	}
	c, err := read(a.node.ConfigFile, a.toTest, a.toExclude)
	a.config = c
	return a.noFile(err)
}
