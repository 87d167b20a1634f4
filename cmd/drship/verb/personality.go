package verb

import "context"

// personalities are the programs of DRBD that this one answers for when it is called by their names.
var personalities = map[string]func(context.Context, Deps) int{}
