package verb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"drship/cmd/drship/control"

	"github.com/spf13/cobra"
)

// DaemonFunc runs one node until ctx ends, then stops it in order and returns.
type DaemonFunc func(ctx context.Context, o DaemonOptions) error

// DaemonOptions is what a node is started with.
type DaemonOptions struct {
	ConfigFile string
	StateDir   string
	RunDir     string
	Node       string
	Logger     *slog.Logger
	// Reload receives when the configuration is to be read again (SIGHUP); requests that come while one waits are one.
	Reload <-chan struct{}
	// Ready is called once, when the control socket answers and every resource that starts by itself has been started.
	Ready func()
}

// stopTimeout bounds an orderly stop unless --stop-timeout says otherwise; it lies below systemd's 90 s.
const stopTimeout = 60 * time.Second

type daemonFlags struct {
	logFormat, logLevel, debugSocket string
	stop                             time.Duration
}

func (a *app) daemon() *cobra.Command {
	var f daemonFlags
	cmd := &cobra.Command{
		Use:     "daemon",
		GroupID: groupNode,
		Short:   "Run this node in the foreground",
		Long: "Runs the node with its resources until SIGTERM or SIGINT, which stop it in order; a second one ends it at once. SIGHUP reads the " +
			"configuration again: new resources appear, what runs goes on as it was set up until adjust. Logs go to the error output. Under systemd (Type=notify) it says when it is ready and answers the watchdog.",
		Example: "  drship daemon\n  drship daemon --node alice -c a.conf --state-dir a/state --run-dir a/run --log-level debug",
		Args:    cobra.NoArgs,
	}
	env := func(name, otherwise string) string {
		if v := a.deps.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	fs := cmd.Flags()
	fs.StringVar(&f.logFormat, "log-format", env("DRSHIP_LOG_FORMAT", "text"), "`FORMAT` of the log: text or json ($DRSHIP_LOG_FORMAT)")
	fs.StringVar(&f.logLevel, "log-level", env("DRSHIP_LOG_LEVEL", "info"), "least `LEVEL` logged: debug, info, warn or error ($DRSHIP_LOG_LEVEL)")
	fs.StringVar(&f.debugSocket, "debug-socket", "", "serve profiles (pprof) on this unix socket `PATH`, mode 0600")
	fs.DurationVar(&f.stop, "stop-timeout", stopTimeout, "longest `TIME` an orderly stop may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := a.logger(f.logFormat, f.logLevel)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		return a.runDaemon(cmd.Context(), f, log)
	}
	return cmd
}

func (a *app) logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %s: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(a.deps.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.deps.Stderr, o)), nil
	}
	return nil, fmt.Errorf("--log-format %s: want text or json", format)
}

// runDaemon runs the node between its signals.
func (a *app) runDaemon(ctx context.Context, f daemonFlags, log *slog.Logger) error {
	if a.deps.Daemon == nil {
		return &control.Error{Text: "this build has no daemon", Exit: exitHard}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reload := make(chan struct{}, 1)
	sd := newSupervisor(a.deps.Getenv, control.SocketPath(a.node.RunDir), log)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	if f.debugSocket != "" {
		serve, err := listenDebug(f.debugSocket, log)
		if err != nil {
			return err
		}
		helpers.Go(func() { serve(ctx) })
	}
	ready := make(chan struct{})
	helpers.Go(func() { sd.run(ctx, ready) })
	done := make(chan error, 1) // the node's goroutine ends with the process where it does not stop in time
	go func() {
		done <- a.deps.Daemon(ctx, DaemonOptions{ConfigFile: a.node.ConfigFile, StateDir: a.node.StateDir, RunDir: a.node.RunDir, Node: a.node.Node,
			Logger: log, Reload: reload, Ready: sync.OnceFunc(func() { close(ready) })})
	}()
	log.Info("starting", "version", buildVersion().version, "node", a.node.Node, "config", a.node.ConfigFile, "pid", os.Getpid())
	err := attend(signals, reload, done, stop, f.stop, log)
	stop()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// attend waits for the node to end, and passes signals on until it does.
func attend(signals <-chan os.Signal, reload chan<- struct{}, done <-chan error, stop func(), bound time.Duration, log *slog.Logger) error {
	var deadline <-chan time.Time
	for {
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) && deadline != nil {
				return nil
			}
			return err
		case <-deadline:
			return &control.Error{Text: fmt.Sprintf("the node did not stop within %v", bound), Hint: "what was in flight is recovered at the next start", Exit: exitHard}
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				select {
				case reload <- struct{}{}:
				default: // one is waiting already
				}
			case deadline != nil:
				return &control.Error{Text: "ended by a second " + s.String() + " while stopping", Exit: exitHard}
			default:
				log.Info("stopping", "signal", s.String(), "within", bound)
				timer := time.NewTimer(bound)
				defer timer.Stop()
				deadline = timer.C
				stop()
			}
		}
	}
}
