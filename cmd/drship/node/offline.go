package node

import (
	"context"

	"drship/cmd/drship/control"
)

// Offline carries out one request of a node whose daemon does not run. Only what needs nothing but the store and the disks
// can be asked for.
func Offline(ctx context.Context, env Env, q control.Request) (control.Reply, error) {
	if q.Verb != "create-md" {
		return control.Reply{}, &control.Error{What: q.Verb, Text: "the verb needs the daemon", Hint: "start it: drship daemon", Exit: control.ExitHard}
	}
	n, err := New(env)
	if err != nil {
		return control.Reply{}, err
	}
	return n.Do(ctx, q)
}
