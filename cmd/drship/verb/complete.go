package verb

import (
	"context"
	"slices"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"

	"github.com/spf13/cobra"
)

// completionTimeout bounds how long a shell waits for names.
const completionTimeout = 2 * time.Second

// completeNames offers the resources that are up, and those of the configuration.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if a.resolve() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var found []string
	if rs, err := a.api().Status(ctx, nil); err == nil {
		for _, r := range rs {
			found = append(found, r.Name)
		}
	}
	if c, err := config.Load(a.node.ConfigFile); err == nil {
		for _, r := range c.Resources {
			found = append(found, r.Name)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if len(args) == 0 {
		found = append(found, control.All)
	}
	return slices.DeleteFunc(found, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
}
