package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/state"
)

// personalities are the programs of DRBD that this one answers for when it is called by their names. Each reads its own
// command line and runs a verb of drship with it; what comes out, texts and exit codes, is what DRBD's users know.
var personalities = map[string]func(context.Context, Deps) int{
	"drbdadm":       runDrbdadm,
	"drbdsetup":     runDrbdsetup,
	"drbdsetup-84":  runDrbdsetup,
	"drbdmeta":      runDrbdmeta,
	"drbd-overview": runOverview,
}

// backend is the name under which calls of the lower program are shown: the one of the 8.4 generation, whose shapes are used.
const backend = "drbdsetup-84"

// compat is one run under a name of DRBD's.
type compat struct {
	program string
	deps    Deps
	node    NodeOptions
	config  *config.Config // nil until load

	dry, verbose bool
	ownConfig    bool   // a file was named on the command line
	verb         string // of drship
	options      []string
	usageExit    int
}

// newCompat takes the places of configuration and state from the environment; the programs have options for the first alone.
func newCompat(program string, d Deps, usageExit int) *compat {
	c := &compat{program: program, deps: d, usageExit: usageExit}
	c.node.ConfigFile = d.Getenv("DRSHIP_CONFIG")
	c.node.Node = d.Getenv("DRSHIP_NODE")
	if c.node.RunDir = d.Getenv("DRSHIP_RUN_DIR"); c.node.RunDir == "" {
		c.node.RunDir = defaultRunDir
	}
	return c
}

// load reads the configuration once.
func (c *compat) load() error {
	if c.config != nil {
		return nil
	}
	a := &app{deps: c.deps, node: c.node}
	if err := a.resolve(); err != nil {
		return err
	}
	c.node = a.node
	cfg, err := a.loadConfig(nil)
	c.config = cfg
	return c.noFile(err)
}

// noFile puts the absence of the configuration in DRBD's words: of the usual one, and of one that was named.
func (c *compat) noFile(err error) error {
	switch {
	case c.node.ConfigFile == "":
		return &control.Error{Text: "Can not open '/etc/drbd.conf': No such file or directory", Exit: exitConfig}
	case errors.Is(err, fs.ErrNotExist) && c.ownConfig:
		return &control.Error{Text: "Can not open '" + c.node.ConfigFile + "'.", Exit: exitHard}
	case errors.Is(err, fs.ErrNotExist):
		return &control.Error{Text: "Can not open '" + c.node.ConfigFile + "': No such file or directory", Exit: exitConfig}
	}
	return err
}

// local returns the resources of this host.
func (c *compat) local() []*config.Resource {
	var rs []*config.Resource
	for _, r := range c.config.Resources {
		if _, err := r.Local(c.node.Node); err == nil {
			rs = append(rs, r)
		}
	}
	return rs
}

// usage is a command line that the program does not understand.
func (c *compat) usage(format string, args ...any) error {
	return &control.Error{Text: fmt.Sprintf(format, args...), Exit: c.usageExit}
}

// run runs a verb of drship and reports as DRBD does.
func (c *compat) run(ctx context.Context, args ...string) int {
	a := &app{deps: c.deps, drbd: true}
	root := a.root()
	var globals []string
	for name, value := range map[string]string{"--config-file": c.node.ConfigFile, "--node": c.node.Node} {
		if value != "" {
			globals = append(globals, name, value)
		}
	}
	root.SetArgs(append(globals, args...))
	err := root.ExecuteContext(ctx)
	defer a.close()
	if err != nil && !a.entered {
		err = c.usage("%s: %v\ntry '%s help'", c.program, err, c.program)
	}
	return c.report(err)
}

// report prints a failure in DRBD's shape and returns the exit code.
func (c *compat) report(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*control.Error](err); ok && c.program == "drbdsetup" && e.Exit == exitUsage && e.Code == 0 && c.config != nil && c.resource(e.What) == nil {
		err = notUp(e.What) // drbdsetup knows what runs, not what is configured
	}
	if list, ok := errors.AsType[failures](err); ok {
		worst := 0
		for _, e := range list {
			worst = max(worst, c.report(e))
		}
		return worst
	}
	_, hint, code := explain(c.program, err)
	if wrong, ok := errors.AsType[config.ErrorList](err); ok {
		fmt.Fprintln(c.deps.Stderr, wrong.DRBD())
		return wrong.DRBDExit()
	}
	e, ok := errors.AsType[*control.Error](err)
	switch {
	case ok && (e.Code != 0 || e.Exit == exitMetadata):
		c.refused(e, code)
		return code
	case hint != "":
		hint = "\n" + hint
	}
	if ok && onMetadata[c.verb] {
		err = errors.New(e.Text) // it names its object itself
	}
	if text := err.Error(); text != "" && !errors.As(err, new(quiet)) {
		fmt.Fprintf(c.deps.Stderr, "%s%s\n", strings.TrimRight(text, "\n"), hint)
	}
	return code
}

// refused prints a refusal as drbdsetup does: the object, the code, what more there is to say; then, as drbdadm does, the call that failed.
func (c *compat) refused(e *control.Error, code int) {
	var b strings.Builder
	subject := *e
	if r := c.resource(e.What); r != nil && perMinor[c.verb] {
		if h, err := r.Local(c.node.Node); err == nil && len(h.Volumes) > 0 {
			subject.What = fmt.Sprint(h.Volumes[0].Minor)
		}
	}
	if c.verb == "disconnect" && e.Code == state.ErrInvalidRequest {
		subject.What = "??" // the connection that is not there has no name
	}
	if e.Exit == exitMetadata {
		fmt.Fprintln(&b, e.Text) // it names its object itself
	} else if (c.verb == "status" || c.verb == "show") && e.Code == state.ErrResourceUnknown {
		fmt.Fprintf(&b, "%s: No such resource\n", e.What)
	} else {
		fmt.Fprintln(&b, subject.Error())
	}
	if more := kernelInfo(c.verb, e); more != "" && e.Code != 0 {
		fmt.Fprintf(&b, "additional info from kernel:\n%s\n", more)
	} else if more != "" {
		fmt.Fprintln(&b, more)
	}
	if r := c.resource(e.What); r != nil && c.program == "drbdadm" {
		if calls := c.calls(c.verb, r, target{resource: r.Name, volume: control.AnyVolume}); len(calls) > 0 {
			failed := calls[len(calls)-1]
			if c.verb == "resize" {
				failed = calls[0]
			}
			fmt.Fprintf(&b, "Command '%s' terminated with exit code %d\n", withoutSecret(failed), code)
		}
		if c.verb == "create-md" {
			fmt.Fprintf(&b, "drbdadm create-md %s: exited with code %d\n", r.Name, code)
		}
	}
	io.WriteString(c.deps.Stderr, b.String()) //nolint:errcheck // there is nobody else to tell
}

// onMetadata are the verbs that drbdmeta carries out, which does not begin with the name of the resource.
var onMetadata = map[string]bool{"create-md": true, "dump-md": true, "wipe-md": true, "apply-al": true, "set-gi": true, "get-gi": true, "show-gi": true}

// withoutSecret hides what a failure must not carry into logs; a dry run, which is asked for, shows it as drbdadm does.
func withoutSecret(call string) string {
	const option = " --shared-secret="
	head, rest, found := strings.Cut(call, option)
	if !found {
		return call
	}
	_, behind, more := strings.Cut(rest, " --") // a secret may have spaces
	if more {
		behind = " --" + behind
	}
	return head + option + "..." + behind
}

// perMinor are the verbs that 8.4 addresses to a minor, and names it in what it prints.
var perMinor = map[string]bool{"primary": true, "secondary": true, "attach": true, "detach": true, "role": true, "cstate": true, "dstate": true, "invalidate": true,
	"invalidate-remote": true, "outdate": true, "verify": true, "pause-sync": true, "resume-sync": true, "suspend-io": true, "resume-io": true, "new-current-uuid": true, "disk-options": true, "resize": true}

func kernelInfo(verb string, e *control.Error) string {
	switch {
	case e.Code == state.ErrMinorInvalid:
		return "unknown minor"
	case e.Code == state.ErrInvalidRequest && verb == "disconnect":
		return "unknown connection"
	case e.Code == state.SSDeviceInUse && verb == "down":
		return "failed to demote"
	case e.Code >= 0 && e.Code != state.ErrResourceUnknown: // of a refused change of state DRBD says no more than its code
		return e.Hint
	}
	return ""
}

func (c *compat) resource(name string) *config.Resource {
	if c.config == nil {
		return nil
	}
	return c.config.Resource(name)
}

func runOverview(ctx context.Context, d Deps) int {
	c := newCompat("drbd-overview", d, exitUsage)
	return c.run(ctx, "overview")
}
