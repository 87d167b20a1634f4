// Command drship replicates volumes to another site. Called as drbdadm, drbdsetup, drbdmeta or drbd-overview it takes their arguments.
package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"

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
		Reload: o.Reload, Ready: o.Ready, Sized: limitMemory, RenderProc: verb.WriteProc})
}

// What a daemon is meant to stay within, and what each resource may add, in bytes.
const (
	memoryBase     = 128 << 20
	memoryResource = 112 << 20
)

// limitMemory makes the collector work harder before the process grows beyond what its resources need at most: bursts would
// leave twice that behind. GOMEMLIMIT overrides it.
func limitMemory(resources int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryBase + int64(resources)*memoryResource)
	}
}

func offline(ctx context.Context, o verb.NodeOptions, q control.Request) (control.Reply, error) {
	return node.Offline(ctx, node.Env{ConfigFile: o.ConfigFile, StateDir: o.StateDir, RunDir: o.RunDir, Node: o.Node, Logger: slog.New(slog.DiscardHandler)}, q)
}
