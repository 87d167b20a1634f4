package verb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/block"
)

// target is what a name on the command line stands for.
type target struct {
	resource string // or control.All
	volume   int    // control.AnyVolume for all
	peer     string // "" for all
}

// parseTarget reads all, RES, RES/VOL, RES:PEER and RES:PEER/VOL.
func parseTarget(s string) (target, error) {
	t := target{volume: control.AnyVolume}
	name, volume, hasVolume := strings.Cut(s, "/")
	if hasVolume {
		n, err := strconv.ParseUint(volume, 10, 16)
		if err != nil || n >= block.MaxVolumes {
			return t, fmt.Errorf("%q: volume must be a number from 0 to %d", s, block.MaxVolumes-1)
		}
		t.volume = int(n)
	}
	name, peer, hasPeer := strings.Cut(name, ":")
	if name == "" || hasPeer && peer == "" || strings.ContainsAny(name+peer, " \t\n:/") {
		return t, fmt.Errorf("%q is not a resource: want all, RES, RES/VOL or RES:PEER", s)
	}
	if name == control.All && (hasPeer || hasVolume) {
		return t, fmt.Errorf("%q: all stands alone", s)
	}
	t.resource, t.peer = name, peer
	return t, nil
}

// parseTargets reads the names of a verb; all must be the only one.
func parseTargets(args []string) ([]target, error) {
	var ts []target
	for _, arg := range args {
		t, err := parseTarget(arg)
		if err != nil {
			return nil, err
		}
		if t.resource == control.All && len(args) > 1 {
			return nil, errors.New("all stands alone, without other names")
		}
		ts = append(ts, t)
	}
	return ts, nil
}

// names are the resources to ask a status for; nil, for every one, where no name or all is given.
func names(ts []target) []string {
	var out []string
	for _, t := range ts {
		if t.resource == control.All {
			return nil
		}
		out = append(out, t.resource)
	}
	return out
}
