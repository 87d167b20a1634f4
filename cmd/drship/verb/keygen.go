package verb

import (
	"errors"
	"fmt"

	"drship/cmd/drship/control"
	"drship/cmd/drship/control/identity"

	"github.com/spf13/cobra"
)

func (a *app) keygen() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "keygen",
		GroupID: groupNode,
		Short:   "Make this node's key and certificate, print the fingerprint",
		Long: "Makes the certificate that this node shows to its peers, in the state directory, and prints its fingerprint. Take that to the peer: " +
			"drship pair there, or certificate-fingerprint in the configuration.",
		Example: "  drship keygen\n  ssh bob drship pair alice $(drship keygen)",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace an identity that is there: peers that pinned it will refuse this node until they are paired again")
	cmd.RunE = func(*cobra.Command, []string) error {
		if a.deps.Generate == nil {
			return &control.Error{Text: "this build cannot make keys", Exit: exitHard}
		}
		fp, err := identity.Create(a.node.StateDir, a.node.Node, a.deps.Generate, force)
		if errors.Is(err, identity.ErrExists) {
			return a.hasIdentity()
		}
		if err != nil {
			return fmt.Errorf("make identity of %s: %w", a.node.Node, err)
		}
		_, err = fmt.Fprintln(a.deps.Stdout, fp)
		return err
	}
	return cmd
}

func (a *app) hasIdentity() error {
	own, err := identity.Load(a.node.StateDir)
	if err != nil {
		return err
	}
	return &control.Error{What: a.node.StateDir, Text: "this node has an identity already: " + own.Fingerprint,
		Hint: "drship pair --show prints it; --force replaces it", Exit: exitFailed}
}
