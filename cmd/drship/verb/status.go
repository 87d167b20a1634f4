package verb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"drship/internal/face"

	"github.com/spf13/cobra"
)

// statusFlags choose what status prints.
type statusFlags struct {
	json, watch bool
	text        face.StatusOptions
}

func (a *app) status() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:     "status [all|RES...]",
		GroupID: groupLook,
		Short:   "Show the state of resources",
		Long: "Shows roles, disks, connections, lag and resyncs in the form of DRBD 9. --json prints the keys of drbdsetup status --json, and ours beside them. " +
			"--watch shows it again after every change: on a terminal in place, else one after another (with --json one line a time).",
		Example:           "  drship status\n  drship status --verbose --statistics r0\n  drship status --json | jq '.[].role'\n  drship status --watch",
		ValidArgsFunction: a.completeNames,
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.BoolVarP(&f.watch, "watch", "w", false, "go on, and print again after every change")
	fs.BoolVarP(&f.text.Verbose, "verbose", "v", false, "print what is usual as well")
	fs.BoolVarP(&f.text.Statistics, "statistics", "s", false, "print counters")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		f.text.Ours = !a.drbd
		if a.drbd {
			f.text.Shape = face.Shape84
		}
		if f.watch {
			return a.watchStatus(cmd.Context(), names(targets), f)
		}
		rs, err := a.snapshot(cmd.Context(), names(targets))
		if err != nil {
			return err
		}
		if len(rs) == 0 && !f.json && !a.drbd {
			fmt.Fprintln(a.deps.Stderr, "# No resource is up. Bring one up with: drship up {all|RES}")
		}
		return f.print(a.deps.Stdout, rs)
	}
	return cmd
}

func (f statusFlags) print(w io.Writer, rs []face.Resource) error {
	if f.json {
		return face.StatusJSON(w, rs)
	}
	return face.Status(w, rs, f.text)
}

// watchStatus prints each snapshot that looks different from the one before.
func (a *app) watchStatus(ctx context.Context, resources []string, f statusFlags) error {
	snapshots, err := a.api().Watch(ctx, resources)
	if err != nil {
		return err
	}
	clear := ""
	if out, ok := a.deps.Stdout.(*os.File); ok && terminalWidth(out) > 0 && !f.json {
		clear = "\x1b[H\x1b[2J"
		f.text.Width = terminalWidth(out)
	}
	var last, page bytes.Buffer
	for rs := range snapshots {
		page.Reset()
		if err := f.print(&page, rs); err != nil {
			return err
		}
		if bytes.Equal(page.Bytes(), last.Bytes()) {
			continue
		}
		last.Reset()
		last.Write(page.Bytes())
		text := append([]byte(clear), page.Bytes()...)
		if f.json {
			if text, err = oneLine(page.Bytes()); err != nil {
				return err
			}
		}
		if _, err := a.deps.Stdout.Write(text); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
	}
	return lost(ctx)
}

// oneLine makes a line of a JSON text, so that readers of a stream need not look for its end.
func oneLine(text []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("print status: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// lost says why a stream of snapshots ended: the caller had enough, which is no failure, or the daemon is gone.
func lost(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return errLost
}
