package verb

import "github.com/spf13/cobra"

// family is a verb that only has others below it; by itself it prints its help.
func family(use, group, short, long, example string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, GroupID: group, Short: short, Long: long, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(members...)
	return cmd
}

// member is one of a family.
type member struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	run                       func(cmd *cobra.Command, args []string) error
}

func (m member) command() *cobra.Command {
	return &cobra.Command{Use: m.use, Short: m.short, Long: m.long, Example: m.example, Args: m.args, RunE: m.run}
}
