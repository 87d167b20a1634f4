package verb

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"drship/internal/face"

	"github.com/spf13/cobra"
)

func (a *app) events2() *cobra.Command {
	var f eventFlags
	cmd := &cobra.Command{
		Use:     "events2 [all|RES...]",
		GroupID: groupLook,
		Short:   "Print every change of state as it happens",
		Long: "Prints what exists, then a line for every change, in the form of drbdsetup events2. States that last for a moment only may be left out where " +
			"many change at once; the last one never is. With --poll an n on the input asks for what changed since, counters included, or with --now for everything; newlines are " +
			"ignored, anything else ends the verb.",
		Example:           "  drship events2\n  drship events2 --now r0\n  drship events2 --timestamps --statistics all\n  drship events2 --diff r0",
		ValidArgsFunction: a.completeNames,
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.now, "now", false, "print what exists, and end")
	fs.BoolVar(&f.poll, "poll", false, "read the input: n asks for an update")
	fs.BoolVar(&f.shape.Timestamps, "timestamps", false, "begin each line with the time")
	fs.BoolVar(&f.shape.Statistics, "statistics", false, "print counters too")
	fs.BoolVar(&f.shape.Full, "full", false, "after a change, print all that is to be told of the object, counters too")
	fs.StringVar(&f.diff, "diff", "", "after a change, print what it was as well: role:Secondary->Primary")
	fs.Lookup("diff").NoOptDefVal = "yes"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		if a.drbd {
			f.shape.Shape = face.Shape84
		}
		f.shape.Diff = f.diff != "" && f.diff != "no"
		return a.events(cmd.Context(), names(targets), f)
	}
	return cmd
}

// eventFlags choose what events2 prints, and when.
type eventFlags struct {
	now, poll bool
	diff      string
	shape     face.EventOptions
}

func (a *app) events(ctx context.Context, resources []string, f eventFlags) error {
	var polls <-chan struct{}
	if f.poll {
		polls = asked(a.deps.Stdin)
	}
	if f.now {
		return a.eventsNow(ctx, resources, f, polls)
	}
	snapshots, err := a.api().Watch(ctx, resources)
	if err != nil {
		return err
	}
	first := true
	var last []face.Resource
	for {
		select {
		case rs, open := <-snapshots:
			if !open {
				return lost(ctx)
			}
			events := face.Diff(last, rs)
			if first {
				events = face.Dump(rs)
			}
			first, last = false, rs
			if err := a.printEvents(events, f.shape); err != nil {
				return err
			}
		case _, open := <-polls:
			if !open && f.poll {
				return nil
			}
			rs, err := a.snapshot(ctx, resources)
			if err != nil {
				return err
			}
			if err := a.printEvents(face.DiffCounters(last, rs), f.shape); err != nil {
				return err
			}
			last = rs
		}
	}
}

// eventsNow prints what exists, once or, with polls, whenever one comes.
func (a *app) eventsNow(ctx context.Context, resources []string, f eventFlags, polls <-chan struct{}) error {
	for {
		rs, err := a.snapshot(ctx, resources)
		if err != nil {
			return err
		}
		if err := a.printEvents(face.Dump(rs), f.shape); err != nil || polls == nil {
			return err
		}
		select {
		case _, open := <-polls:
			if !open {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// asked sends for every n that is read, and closes the channel at anything else but a newline, and at the end. A read cannot be broken off: where
// the verb ends for another reason, the goroutine ends with the program.
func asked(r io.Reader) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		in := bufio.NewReader(r)
		for {
			c, err := in.ReadByte()
			switch {
			case err != nil || c != 'n' && c != '\n':
				return
			case c == 'n':
				out <- struct{}{}
			}
		}
	}()
	return out
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
