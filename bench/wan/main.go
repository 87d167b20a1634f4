package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"drship/bench/wan/tun"
)

const usage = `usage: wan line [flags] [-- command]   a bad line between two network namespaces
       wan bench [flags]               what is carried over it, beside TCP and a single QUIC connection
Each takes -h.
`

func main() {
	tun.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "wan:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "line":
			return runLine(ctx, args[1:])
		case "bench":
			return runBench(ctx, args[1:])
		case quicSink:
			return runSink(ctx, args[1:])
		case quicSource:
			return runSource(ctx, args[1:])
		}
	}
	fmt.Fprint(os.Stderr, usage)
	return flag.ErrHelp
}
