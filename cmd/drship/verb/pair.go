package verb

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"drship/cmd/drship/control"
	"drship/cmd/drship/control/identity"

	"github.com/spf13/cobra"
)

func (a *app) pair() *cobra.Command {
	var show, keep, remove bool
	cmd := &cobra.Command{
		Use:     "pair {NAME FINGERPRINT | --show | --remove NAME}",
		GroupID: groupNode,
		Short:   "Trust a peer's certificate by its fingerprint",
		Long: "Stores the fingerprint that the peer NAME must show, in the state directory; --show prints this node's own and those stored. " +
			"A running daemon takes it over at drship adjust, or when it gets SIGHUP.",
		Example: "  drship pair --show\n  drship pair bob sha256:1f2e…\n  drship pair --remove bob",
	}
	cmd.Flags().BoolVar(&show, "show", false, "print this node's fingerprint and those of its peers")
	cmd.Flags().BoolVar(&keep, "add", false, "keep what is stored for the peer: it may show either")
	cmd.Flags().BoolVar(&remove, "remove", false, "trust the peer no longer")
	cmd.MarkFlagsMutuallyExclusive("show", "add", "remove")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		want := 2
		switch {
		case show:
			want = 0
		case remove:
			want = 1
		}
		if len(args) != want {
			return fmt.Errorf("want NAME FINGERPRINT, or --show, or --remove NAME")
		}
		return nil
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case show:
			return a.showPins()
		case remove:
			return pinError(args[0], identity.Unpin(a.node.StateDir, args[0]))
		}
		return pinError(args[0], identity.Pin(a.node.StateDir, args[0], args[1], keep))
	}
	return cmd
}

func pinError(peer string, err error) error {
	if err == nil {
		return nil
	}
	return &control.Error{What: peer, Text: err.Error(), Exit: exitUsage}
}

func (a *app) showPins() error {
	own, err := identity.Load(a.node.StateDir)
	switch {
	case errors.Is(err, identity.ErrNone):
		fmt.Fprintf(a.deps.Stderr, "%s has no identity yet: drship keygen makes one\n", a.node.Node)
	case err != nil:
		return err
	default:
		fmt.Fprintf(a.deps.Stdout, "%s %s\n", a.node.Node, own.Fingerprint)
	}
	pins, err := identity.Pins(a.node.StateDir)
	if err != nil {
		return err
	}
	for _, peer := range slices.Sorted(maps.Keys(pins)) {
		for _, fp := range pins[peer] {
			fmt.Fprintf(a.deps.Stdout, "%s %s\n", peer, fp)
		}
	}
	return nil
}
