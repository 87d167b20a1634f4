package verb

import (
	"drship/internal/face"

	"github.com/spf13/cobra"
)

func (a *app) overview() *cobra.Command {
	return &cobra.Command{
		Use:               "overview [all|RES...]",
		GroupID:           groupLook,
		Short:             "Show one line a volume, as drbd-overview does",
		Example:           "  drship overview",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := parseTargets(args)
			if err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			rs, err := a.snapshot(cmd.Context(), names(targets))
			if err != nil {
				return err
			}
			return face.Overview(a.deps.Stdout, rs)
		},
	}
}
