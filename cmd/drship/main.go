// Command drship replicates volumes to another site. Called as drbdadm, drbdsetup, drbdmeta or drbd-overview it takes their arguments.
package main

import (
	"context"
	"log/slog"
	"os"

	"drship/cmd/drship/control"
	"drship/cmd/drship/node"
	"drship/cmd/drship/verb"
	"drship/wan"
)

func main() {
	os.Exit(verb.Main(context.Background(), verb.Deps{Args: os.Args, Daemon: daemon, Offline: offline, Generate: wan.GenerateIdentity}))
}

func daemon(ctx context.Context, o verb.DaemonOptions) error {
	return node.Run(ctx, node.Env{ConfigFile: o.ConfigFile, StateDir: o.StateDir, RunDir: o.RunDir, Node: o.Node, Logger: o.Logger,
		Reload: o.Reload, Ready: o.Ready, RenderProc: verb.WriteProc})
}

func offline(ctx context.Context, o verb.NodeOptions, q control.Request) (control.Reply, error) {
	return node.Offline(ctx, node.Env{ConfigFile: o.ConfigFile, StateDir: o.StateDir, RunDir: o.RunDir, Node: o.Node, Logger: slog.New(slog.DiscardHandler)}, q)
}
