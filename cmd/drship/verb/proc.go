package verb

import (
	"context"
	"fmt"
	"io"

	"drship/internal/face"

	"github.com/spf13/cobra"
)

func (a *app) proc() *cobra.Command {
	var shape, peer string
	cmd := &cobra.Command{
		Use:     "proc",
		GroupID: groupLook,
		Short:   "Show /proc/drbd as DRBD 8.4 would",
		Long:    "Prints what /proc/drbd holds on a node that runs DRBD 8.4, for people and scripts that read that. The daemon keeps the same in the file <run-dir>/proc-drbd. A line tells of one peer: with several of them, of the one that stands worst.",
		Example: "  drship proc\n  watch -n1 drship proc\n  drship proc --shape 8.3",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&shape, "shape", "8.4", "`DRBD`'s version to look like: 8.4, 8.3 or 0.7")
	cmd.Flags().StringVar(&peer, "peer", "", "tell of this peer `NAME`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		version, o, err := procShape(shape)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		o.Peer = peer
		rs, err := a.snapshot(cmd.Context(), nil)
		if err != nil {
			return err
		}
		return face.Proc(a.deps.Stdout, version, rs, o)
	}
	return cmd
}

// WriteProc prints what /proc/drbd would hold on a node that runs DRBD 8.4.
func WriteProc(w io.Writer, rs []face.Resource) error {
	version, o, err := procShape("8.4")
	if err != nil {
		return err
	}
	return face.Proc(w, version, rs, o)
}

// procShape is the head and the shape of /proc/drbd for a version of DRBD.
func procShape(name string) (face.Version, face.ProcOptions, error) {
	b := buildVersion()
	build := "GIT-hash: " + b.commit + " build by drship"
	switch name {
	case "8.4":
		return face.Version{Number: "8.4.11", API: 1, Proto: "86-101", Build: build}, face.ProcOptions{Shape: face.Shape84}, nil
	case "8.3":
		return face.Version{Number: "8.3.16", API: 88, Proto: "86-97", Build: build}, face.ProcOptions{Shape: face.Shape83}, nil
	case "0.7":
		return face.Version{Number: "0.7.25", API: 79, Proto: "74", Build: "SVN Revision: 0 build by drship"}, face.ProcOptions{Shape: face.Shape07}, nil
	}
	return face.Version{}, face.ProcOptions{}, fmt.Errorf("--shape %s: want 8.4, 8.3 or 0.7", name)
}

// snapshot asks the daemon for the state of the named resources, of all where none is named.
func (a *app) snapshot(ctx context.Context, resources []string) ([]face.Resource, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return a.api().Status(ctx, resources)
}
