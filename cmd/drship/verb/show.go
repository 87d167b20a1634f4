package verb

import (
	"context"
	"encoding/json"
	"fmt"

	"drship/cmd/drship/control"
	"drship/internal/setup"

	"github.com/spf13/cobra"
)

func (a *app) show() *cobra.Command {
	var asJSON, defaults bool
	cmd := &cobra.Command{
		Use:     "show [all|RES...]",
		GroupID: groupLook,
		Short:   "Print what runs, with the options in force",
		Long: "Prints the disks, connections and options that resources run with, in the form of drbdsetup show. It differs from dump where the configuration was changed " +
			"since, or an option was set for now; adjust makes both the same.",
		Example:           "  drship show\n  drship show --show-defaults r0\n  drship show --json r0",
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&defaults, "show-defaults", false, "print options that are at their default too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		resources, err := a.setups(cmd.Context(), names(targets))
		if err != nil {
			return err
		}
		if !asJSON {
			return setup.Show(a.deps.Stdout, resources, defaults)
		}
		raw, err := json.MarshalIndent(resources, "", "  ")
		if err != nil {
			return fmt.Errorf("show: %w", err)
		}
		if _, err := fmt.Fprintf(a.deps.Stdout, "%s\n", raw); err != nil {
			return fmt.Errorf("show: %w", err)
		}
		return nil
	}
	return cmd
}

// setups asks the daemon what runs of the named resources, of all where no name is given. One that is named and does not run is an error.
func (a *app) setups(ctx context.Context, resources []string) ([]setup.Resource, error) {
	asked := resources
	if len(asked) == 0 {
		asked = []string{control.All}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	out := []setup.Resource{}
	for _, name := range asked {
		reply, err := a.api().Do(ctx, control.Request{Verb: "show", Resource: name, Volume: control.AnyVolume})
		if err != nil {
			return nil, err
		}
		for i := range reply.Results {
			r := &reply.Results[i]
			if err := r.Err(); err != nil {
				return nil, err
			}
			if len(r.Lines) == 0 && len(resources) > 0 {
				return nil, notUp(r.Resource)
			}
			for _, line := range r.Lines {
				var s setup.Resource
				if err := json.Unmarshal([]byte(line), &s); err != nil {
					return nil, fmt.Errorf("read what runs of %s: %w", r.Resource, err)
				}
				out = append(out, s)
			}
		}
	}
	return out, nil
}
