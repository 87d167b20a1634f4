package verb

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupTools,
		Short:   "Print the version of this program",
		Example: "  drship version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			_, err := fmt.Fprintf(a.deps.Stdout, "drship %s\ncommit %s\n%s\n", v.version, v.commit, v.toolchain)
			return err
		},
	}
}

type build struct{ version, commit, toolchain string }

// buildVersion is what the toolchain wrote into the program, so that nobody keeps a version by hand.
func buildVersion() build {
	b := build{version: "(devel)", commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.toolchain = info.GoVersion
	if info.Main.Version != "" {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.commit = s.Value + b.commit[len("unknown"):]
		case s.Key == "vcs.modified" && s.Value == "true":
			b.commit += " (modified)"
		}
	}
	return b
}
