package verb

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"drship/internal/face"

	"github.com/spf13/cobra"
)

func (a *app) events2() *cobra.Command {
	var now bool
	var o face.EventOptions
	cmd := &cobra.Command{
		Use:     "events2 [all|RES...]",
		GroupID: groupLook,
		Short:   "Print every change of state as it happens",
		Long: "Prints what exists, then a line for every change, in the form of drbdsetup events2. States that last for a moment only may be left out where " +
			"many change at once; the last one never is.",
		Example:           "  drship events2\n  drship events2 --now r0\n  drship events2 --timestamps --statistics all",
		ValidArgsFunction: a.completeNames,
	}
	fs := cmd.Flags()
	fs.BoolVar(&now, "now", false, "print what exists, and end")
	fs.BoolVar(&o.Timestamps, "timestamps", false, "begin each line with the time")
	fs.BoolVar(&o.Statistics, "statistics", false, "print counters too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		if a.drbd {
			o.Shape = face.Shape84
		}
		return a.events(cmd.Context(), names(targets), now, o)
	}
	return cmd
}

func (a *app) events(ctx context.Context, resources []string, now bool, o face.EventOptions) error {
	if now {
		rs, err := a.snapshot(ctx, resources)
		if err != nil {
			return err
		}
		return a.printEvents(face.Dump(rs), o)
	}
	snapshots, err := a.api().Watch(ctx, resources)
	if err != nil {
		return err
	}
	first := true
	var last []face.Resource
	for rs := range snapshots {
		events := face.Diff(last, rs)
		if first {
			events = face.Dump(rs)
		}
		first, last = false, rs
		if err := a.printEvents(events, o); err != nil {
			return err
		}
	}
	return lost(ctx)
}

// printEvents writes the events of one moment at once.
func (a *app) printEvents(events []face.Event, o face.EventOptions) error {
	var b bytes.Buffer
	at := time.Now()
	for _, e := range events {
		if e.Time.IsZero() {
			e.Time = at
		}
		if line, ok := e.Format(o); ok {
			b.WriteString(line + "\n")
		}
	}
	if _, err := a.deps.Stdout.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print events: %w", err)
	}
	return nil
}
