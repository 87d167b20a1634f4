package verb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/face"
	"drship/internal/state"

	"github.com/spf13/cobra"
)

// waitVerb is wait-connect or wait-sync.
type waitVerb struct {
	name, short, long, example string
	// reached says of one peer whether its wait is over. A wait that cannot end by itself is an error.
	reached func(r *face.Resource, p *face.Peer, t target) bool
	watch   bool // show progress on a terminal
}

func (a *app) waitConnect() *cobra.Command { return a.wait(connected()) }

// connected is the wait for connections.
func connected() waitVerb {
	return waitVerb{
		name:    "wait-connect",
		short:   "Wait until the peers are connected",
		example: "  drship wait-connect r0\n  drship wait-connect --timeout 60 all",
		reached: func(r *face.Resource, p *face.Peer, t target) bool {
			return everyVolume(r, p, t, func(_ *face.Volume, v *face.PeerVolume) bool { return p.VolumeConn(v) >= state.Connected })
		},
	}
}

func (a *app) waitSync() *cobra.Command {
	return a.wait(waitVerb{
		name:    "wait-sync",
		short:   "Wait until both sides hold the same data",
		long:    "Waits until the peers are connected and every volume is UpToDate on both sides. On a terminal it shows how far a resync is.",
		example: "  drship wait-sync r0\n  drship wait-sync --timeout 3600 r0/1",
		watch:   true,
		reached: func(r *face.Resource, p *face.Peer, t target) bool {
			return everyVolume(r, p, t, func(local *face.Volume, v *face.PeerVolume) bool {
				c := p.VolumeConn(v)
				settled := c == state.Connected || c == state.VerifyS || c == state.VerifyT
				return settled && local.Disk == state.UpToDate && v.Disk == state.UpToDate
			})
		},
	})
}

// everyVolume reports whether good holds for each volume that the target means; a volume that the peer has not told of is not good.
func everyVolume(r *face.Resource, p *face.Peer, t target, good func(*face.Volume, *face.PeerVolume) bool) bool {
	for i := range r.Volumes {
		local := &r.Volumes[i]
		if t.volume != control.AnyVolume && t.volume != int(local.Number) {
			continue
		}
		if v := p.Volume(local.Number); v == nil || !good(local, v) {
			return false
		}
	}
	return true
}

func (a *app) wait(w waitVerb) *cobra.Command {
	var timeout secondsValue
	var afterSplit bool
	cmd := &cobra.Command{
		Use:               w.name + " {all|RES|RES/VOL|RES:PEER}...",
		GroupID:           groupLook,
		Short:             w.short,
		Long:              w.long,
		Example:           w.example,
		Args:              someNames,
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().VarP(&timeout, "timeout", "t", "give up after `SECONDS`, with exit code 5; 0 waits for ever")
	cmd.Flags().BoolVar(&afterSplit, "wait-after-sb", false, "go on waiting for a peer that is StandAlone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args)
		if err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		ctx := cmd.Context()
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout))
			defer cancel()
		}
		return a.waitFor(ctx, w, targets, afterSplit)
	}
	return cmd
}

// waitFor follows snapshots until every target is reached, ctx ends or the daemon goes away.
func (a *app) waitFor(ctx context.Context, w waitVerb, targets []target, afterSplit bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	snapshots, err := a.api().Watch(ctx, names(targets))
	if err != nil {
		return timedOut(w.name, "", err)
	}
	var show *meter
	if w.watch {
		show = newMeter(a.deps.Stderr)
		defer show.end()
	}
	missing := ""
	for rs := range snapshots {
		missing, err = w.judge(rs, targets, afterSplit)
		if err != nil || missing == "" {
			return err
		}
		show.draw(rs)
	}
	if err := context.Cause(ctx); err != nil {
		return timedOut(w.name, missing, err)
	}
	return errLost
}

// judge returns what is still missing, "" when nothing is.
func (w waitVerb) judge(rs []face.Resource, targets []target, afterSplit bool) (missing string, err error) {
	for _, t := range targets {
		found := false
		for i := range rs {
			r := &rs[i]
			if t.resource != control.All && t.resource != r.Name {
				continue
			}
			found = true
			for j := range r.Peers {
				p := &r.Peers[j]
				if t.peer != "" && t.peer != p.Name || w.reached(r, p, t) {
					continue
				}
				if p.Conn == state.StandAlone && !afterSplit {
					return "", standAlone(r, p)
				}
				missing = fmt.Sprintf("%s: peer %s is %s", r.Name, p.Name, p.Conn)
			}
		}
		if !found && t.resource != control.All {
			return "", notUp(t.resource)
		}
	}
	return missing, nil
}

// notUp is the refusal of a verb that looks at what runs.
func notUp(resource string) error {
	return &control.Error{Code: state.ErrResourceUnknown, What: resource, Text: state.CodeText(state.ErrResourceUnknown), Hint: "bring it up: drship up " + resource}
}

// standAlone says that waiting is in vain. DRBD's exit code for it is that of a wait that ran out of time.
func standAlone(r *face.Resource, p *face.Peer) error {
	text := fmt.Sprintf("peer %s is StandAlone and will not connect by itself", p.Name)
	if p.Error != "" {
		text += ": " + p.Error
	}
	return &control.Error{What: r.Name, Text: text, Hint: "drship connect " + r.Name + "; or wait for somebody else to do so: --wait-after-sb", Exit: exitTimeout}
}

// errLost ends a verb that follows the daemon when that goes away.
var errLost = &control.Error{Text: "the daemon went away", Hint: "look at its log, and ask again once it is back", Exit: exitHard}

func timedOut(verb, missing string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := verb + ": time is up"
	if missing != "" {
		text += ", " + missing
	}
	return &control.Error{Text: text, Exit: exitTimeout}
}
