package verb

import (
	"context"
	"errors"
	"fmt"

	"drship/cmd/drship/control"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// request describes a verb that the daemon carries out: the command line only parses it, sends it and prints the answer.
type request struct {
	verb    string
	group   string
	short   string
	long    string
	example string
	flags   func(*pflag.FlagSet)             // options; each that is given travels by its name
	check   func(map[string]string) error    // refuses options that do not go together; nil for none
	remark  func(map[string]string) []string // what to say on the error output of options that are accepted; nil for nothing
	offline bool                             // may be done without a daemon
	follows bool                             // does what the configuration says: the daemon reads it again before
	hidden  bool
}

// sendFunc carries out a request.
type sendFunc func(context.Context, control.Request) (control.Reply, error)

// command makes the cobra command of a request.
func (a *app) command(r request) *cobra.Command {
	cmd := &cobra.Command{
		Use:               r.verb + " {all|RES|RES/VOL|RES:PEER}...",
		GroupID:           r.group,
		Short:             r.short,
		Long:              r.long,
		Example:           r.example,
		Hidden:            r.hidden,
		Args:              someNames,
		ValidArgsFunction: a.completeNames,
	}
	if r.flags != nil {
		r.flags(cmd.Flags())
	}
	if r.follows {
		cmd.Flags().String("follow", "", "refuse unless `FILE` is what the daemon follows")
		cmd.Flags().Lookup("follow").Hidden = true
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		options := given(cmd.LocalNonPersistentFlags())
		if r.check != nil {
			if err := r.check(options); err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
		}
		if r.remark != nil {
			for _, line := range r.remark(options) {
				fmt.Fprintf(a.deps.Stderr, "%s\n", line)
			}
		}
		send := a.do
		if r.offline {
			send = a.doOffline
		}
		return a.each(cmd.Context(), r.verb, targets, options, send)
	}
	return cmd
}

// given collects the options that stand on the command line, as a Request carries them.
func given(fs *pflag.FlagSet) map[string]string {
	options := map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Changed || f.Name == "help" {
			return
		}
		switch v := f.Value.String(); {
		case f.Value.Type() != "bool":
			options[f.Name] = v
		case v == "true":
			options[f.Name] = "yes"
		default:
			options[f.Name] = "no"
		}
	})
	if len(options) == 0 {
		return nil
	}
	return options
}

// each sends a verb for every target and prints what comes back. It goes on behind a failure, but for one that will meet
// every other target too.
func (a *app) each(ctx context.Context, verb string, ts []target, options map[string]string, send sendFunc) error {
	var failed failures
	for _, t := range ts {
		reply, err := send(ctx, control.Request{Verb: verb, Resource: t.resource, Volume: t.volume, Peer: t.peer, Options: options})
		if err != nil {
			failed = append(failed, err)
			if hopeless(err) {
				break
			}
			continue
		}
		for i := range reply.Results {
			if err := a.print(&reply.Results[i]); err != nil {
				failed = append(failed, err)
			}
		}
	}
	if failed == nil {
		return nil
	}
	return failed
}

// hopeless reports whether trying the next target makes no sense, as drbdadm has it: its backend failed hard.
func hopeless(err error) bool {
	_, _, code := explain("", err)
	return code >= exitHard
}

// print shows the answer of one result; its failure is returned.
func (a *app) print(r *control.Result) error {
	for _, line := range r.Lines {
		if _, err := fmt.Fprintln(a.deps.Stdout, line); err != nil {
			return fmt.Errorf("print answer: %w", err)
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	if r.Text != "" {
		if _, err := fmt.Fprintln(a.deps.Stdout, r.Text); err != nil {
			return fmt.Errorf("print answer: %w", err)
		}
	}
	return nil
}

// do sends one request to the daemon.
func (a *app) do(ctx context.Context, r control.Request) (control.Reply, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, verbTimeout,
		&control.Error{What: r.Resource, Text: fmt.Sprintf("%s: no answer within %v", r.Verb, verbTimeout), Hint: "the daemon may still be at it: drship status", Exit: exitHard})
	defer cancel()
	return a.api().Do(ctx, r)
}

// doOffline sends one request to the daemon, or carries it out in this process where none runs.
func (a *app) doOffline(ctx context.Context, r control.Request) (control.Reply, error) {
	reply, err := a.do(ctx, r)
	if a.deps.Offline == nil || !control.NoDaemon(err) {
		return reply, err
	}
	reply, err = a.deps.Offline(ctx, a.node, r)
	if err != nil && errors.As(err, new(*control.Error)) {
		return reply, err
	}
	if err != nil {
		return reply, fmt.Errorf("%s %s: %w", r.Verb, r.Resource, err)
	}
	return reply, nil
}
