package node

import (
	"context"

	"drship/cmd/drship/control"
)

// offline are the verbs that need nothing but the store and the disks.
var offline = map[string]bool{"create-md": true, "get-gi": true, "show-gi": true, "set-gi": true, "dump-md": true, "wipe-md": true, "apply-al": true, "dstate": true,
	"journal-export": true, "outdate": true, "invalidate": true, "forget-peer": true}

// Offline carries out one request of a node whose daemon does not run. Only what needs nothing but the store and the disks
// can be asked for.
func Offline(ctx context.Context, env Env, q control.Request) (control.Reply, error) {
	if !offline[q.Verb] {
		return control.Reply{}, &control.Error{What: q.Verb, Text: "the verb needs the daemon", Hint: "start it: drship daemon", Exit: control.ExitHard}
	}
	n, err := New(env)
	if err != nil {
		return control.Reply{}, err
	}
	return n.Do(ctx, q)
}
