// Package verb is drship's command line: one file a verb, every failure turned into text and exit code in exit.go alone.
package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"drship/cmd/drship/control"
	"drship/cmd/drship/control/identity"

	"github.com/spf13/cobra"
)

// Deps is what the command line needs from outside. The zero value of every field but Args stands for the process's own.
type Deps struct {
	Args []string // the program's name and its arguments

	Daemon   DaemonFunc        // runs a node; nil in a build without one
	Offline  OfflineFunc       // verbs on metadata while no daemon runs; nil where they need one
	Generate identity.Generate // makes a node's key pair and certificate

	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Terminal       func() bool // somebody sits at Stdin and Stdout
	Dial           func(socketPath string) control.API
}

// OfflineFunc carries out a verb of a node whose daemon does not run.
type OfflineFunc func(ctx context.Context, o NodeOptions, r control.Request) (control.Reply, error)

// NodeOptions says which node is meant.
type NodeOptions struct {
	ConfigFile string // "" when none was given and none is in a usual place
	StateDir   string
	RunDir     string
	Node       string
}

// The usual places.
const (
	defaultStateDir = "/var/lib/drship"
	defaultRunDir   = "/run/drship"
)

var usualConfigs = []string{"/etc/drship.conf", "/etc/drbd.conf"}

// The bounds of how long a verb waits for the daemon's answer.
const (
	queryTimeout = 30 * time.Second // a daemon that is stopped or stuck must not hold up monitoring
	verbTimeout  = 10 * time.Minute
)

// app is one run of the program.
type app struct {
	deps    Deps
	node    NodeOptions
	client  control.API
	entered bool // a verb was found and its options were understood
	release func()
	drbd    bool // called by a name of DRBD's: its shapes, without what is ours
}

// Main runs the program and returns its exit code. Called by one of DRBD's names (a link), it takes that program's arguments.
func Main(ctx context.Context, d Deps) int {
	d.fill()
	if p, ok := personalities[filepath.Base(d.Args[0])]; ok {
		return p(ctx, d)
	}
	return run(ctx, d)
}

// run is Main under drship's own name.
func run(ctx context.Context, d Deps) int {
	a := &app{deps: d}
	root := a.root()
	root.SetArgs(d.Args[1:])
	cmd, err := root.ExecuteContextC(ctx)
	defer a.close()
	if err != nil && !a.entered {
		err = &usageError{err: err, command: cmd.CommandPath()}
	}
	return report(d.Stderr, "drship", err)
}

func (d *Deps) fill() {
	if len(d.Args) == 0 {
		d.Args = []string{"drship"}
	}
	if d.Getenv == nil {
		d.Getenv = os.Getenv
	}
	if d.Stdin == nil {
		d.Stdin = os.Stdin
	}
	if d.Stdout == nil {
		d.Stdout = os.Stdout
	}
	if d.Stderr == nil {
		d.Stderr = os.Stderr
	}
	if d.Terminal == nil {
		d.Terminal = func() bool {
			in, okIn := d.Stdin.(*os.File)
			out, okOut := d.Stdout.(*os.File)
			return okIn && okOut && terminalWidth(in) > 0 && terminalWidth(out) > 0
		}
	}
	if d.Dial == nil {
		d.Dial = func(path string) control.API { return control.Dial(path) }
	}
}

// The groups that help shows verbs in.
const (
	groupLook  = "look"
	groupRun   = "run"
	groupData  = "data"
	groupNode  = "node"
	groupTools = "tools"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "drship",
		Short: "Replicate block devices to another site, write order kept",
		Long: "drship replicates volumes to another site in the order of their writes. One daemon runs a node (drship daemon); every other " +
			"verb talks to it over its control socket. Configuration, states and verbs are DRBD's.",
		Example:       "  drship up all\n  drship primary --force r0\n  drship status",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Name() != "daemon" { // which attends to its signals itself
				ctx, release := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				cmd.SetContext(ctx)
				a.release = release
			}
			return a.resolve()
		},
	}
	root.SetOut(a.deps.Stdout)
	root.SetErr(a.deps.Stderr)
	root.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupRun, Title: "Resources and roles:"},
		&cobra.Group{ID: groupData, Title: "Data:"},
		&cobra.Group{ID: groupNode, Title: "The node:"},
		&cobra.Group{ID: groupTools, Title: "Tools:"},
	)
	root.SetHelpCommandGroupID(groupTools)
	root.SetCompletionCommandGroupID(groupTools)
	a.globals(root)
	for _, c := range a.commands() {
		a.note(c)
		root.AddCommand(c)
	}
	return root
}

// note marks the moment when a command line was understood: failures before it are those of its writer.
func (a *app) note(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.note(c)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.entered = true
			return run(cmd, args)
		}
	}
}

// someNames asks for at least one name, in words that help.
func someNames(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("name a resource, or all")
	}
	return nil
}

// globals are the options of every verb, each with an environment variable behind it.
func (a *app) globals(root *cobra.Command) {
	env := func(name, otherwise string) string {
		if v := a.deps.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	fs := root.PersistentFlags()
	fs.StringVarP(&a.node.ConfigFile, "config-file", "c", env("DRSHIP_CONFIG", ""), "configuration `FILE` ($DRSHIP_CONFIG, else /etc/drship.conf, else /etc/drbd.conf)")
	fs.StringVar(&a.node.StateDir, "state-dir", env("DRSHIP_STATE_DIR", defaultStateDir), "`DIR` for what the node keeps ($DRSHIP_STATE_DIR)")
	fs.StringVar(&a.node.RunDir, "run-dir", env("DRSHIP_RUN_DIR", defaultRunDir), "`DIR` for sockets ($DRSHIP_RUN_DIR)")
	fs.StringVar(&a.node.Node, "node", env("DRSHIP_NODE", ""), "`NAME` of this node in the configuration ($DRSHIP_NODE, else the host name)")
}

// resolve fills in what was not given.
func (a *app) resolve() error {
	if a.node.ConfigFile == "" {
		for _, path := range usualConfigs {
			if _, err := os.Stat(path); err == nil {
				a.node.ConfigFile = path
				break
			}
		}
	}
	if a.node.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the name of this node: %w", err)
		}
		a.node.Node = name
	}
	return nil
}

// api is the daemon; it is called when it is first asked for something.
func (a *app) api() control.API {
	if a.client == nil {
		a.client = a.deps.Dial(control.SocketPath(a.node.RunDir))
	}
	return a.client
}

func (a *app) close() {
	if a.release != nil {
		a.release()
	}
	if c, ok := a.client.(interface{ Close() }); ok {
		c.Close()
	}
}

func (a *app) commands() []*cobra.Command {
	return append(a.steps(), []*cobra.Command{
		a.status(), a.role(), a.cstate(), a.dstate(), a.proc(), a.overview(), a.show(), a.events2(), a.getGI(), a.showGI(), a.explain(), a.link(), a.waitConnect(), a.waitSync(),
		a.up(), a.down(), a.attach(), a.detach(), a.connect(), a.disconnect(), a.primary(), a.secondary(), a.adjust(), a.suspendIO(), a.resumeIO(),
		a.createMD(), a.dumpMD(), a.wipeMD(), a.applyAL(), a.setGI(), a.resize(), a.invalidate(), a.invalidateRemote(), a.outdate(), a.verify(), a.history(), a.diskOptions(), a.peerDeviceOptions(), a.netOptions(), a.resourceOptions(), a.syncer(), a.pauseSync(), a.resumeSync(), a.pause(), a.resume(), a.newCurrentUUID(), a.journal(),
		a.daemon(), a.keygen(), a.pair(), a.device(),
		a.dump(), a.man(), a.version(),
	}...)
}
