package verb

import (
	"bytes"
	"fmt"
	"slices"

	"drship/cmd/drship/control"
	"drship/internal/config"

	"github.com/spf13/cobra"
)

func (a *app) dump() *cobra.Command {
	var xml, quiet bool
	cmd := &cobra.Command{
		Use:     "dump [all|RES...]",
		GroupID: groupTools,
		Short:   "Read the configuration and print it as it was understood",
		Long: "Reads the configuration file with all that it includes and prints it back, in DRBD's form. Errors name file, line and column. " +
			"Options that are accepted without effect are named on the error output. Needs no daemon.",
		Example:           "  drship dump\n  drship dump --xml r0\n  drship -c new.conf dump --quiet && echo fine",
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().BoolVar(&xml, "xml", false, "print XML, as drbdadm dump-xml does")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing, only check")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := a.loadConfig(args)
		if err != nil {
			return err
		}
		for _, w := range c.Warnings {
			fmt.Fprintf(a.deps.Stderr, "%s\n", w)
		}
		if quiet {
			return nil
		}
		return a.dumpConfig(c, args, xml)
	}
	return cmd
}

func (a *app) dumpConfig(c *config.Config, resources []string, xml bool) error {
	var out bytes.Buffer
	dump := c.DumpWith
	if xml {
		dump = c.DumpXMLWith
	}
	if err := dump(&out, config.DumpOptions{Node: a.node.Node, Resources: onlyNamed(resources), Timeouts: a.drbd}); err != nil {
		return fmt.Errorf("dump configuration: %w", err)
	}
	if _, err := out.WriteTo(a.deps.Stdout); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}

// onlyNamed is nil, for everything, where no name is given or all is.
func onlyNamed(resources []string) []string {
	if len(resources) == 0 || slices.Contains(resources, control.All) {
		return nil
	}
	return resources
}

// loadConfig reads the configuration, and checks that it has the named resources.
func (a *app) loadConfig(resources []string) (*config.Config, error) {
	if a.node.ConfigFile == "" {
		return nil, &control.Error{Text: "no configuration file: neither " + usualConfigs[0] + " nor " + usualConfigs[1] + " is there",
			Hint: "name one by --config-file or DRSHIP_CONFIG", Exit: exitConfig}
	}
	c, err := config.Load(a.node.ConfigFile)
	if err != nil {
		return nil, err
	}
	targets, err := parseTargets(resources)
	if err != nil {
		return nil, &usageError{err: err, command: "drship dump"}
	}
	for _, name := range names(targets) {
		if c.Resource(name) == nil {
			return nil, unknownResource(name, a.node.ConfigFile)
		}
	}
	return c, nil
}

func unknownResource(name, file string) error {
	return &control.Error{Text: fmt.Sprintf("'%s' not defined in your config (for this host).", name), Hint: "resources are defined in " + file, Exit: exitUsage}
}
