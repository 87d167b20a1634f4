package node

import (
	"context"
	"fmt"

	"drship/cmd/drship/control"
	"drship/internal/state"
)

// The single steps of DRBD's up and down. The configuration makes resources, volumes, peers and paths here, so that a step that makes one has
// nothing to do but to refuse what is there already, and a step that deletes one to refuse what is in use.

// holdsVolume reports whether the volume that a request means is attached.
func (r *Resource) holdsVolume(q *control.Request) bool {
	a := r.attachment()
	return a != nil && (q.Volume == control.AnyVolume || a.holds(uint16(q.Volume)))
}

func verbNewResource(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.isUp() {
		return nil, state.Refused(state.ErrInvalidRequest, "resource exists")
	}
	return verbResourceOptions(ctx, r, q)
}

func verbNewMinor(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.holdsVolume(q) {
		return nil, state.Refused(state.ErrVolumeExists, "")
	}
	return nil, nil
}

func verbDelMinor(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.holdsVolume(q) {
		return nil, state.Refused(state.ErrMinorConfigured, "detach it first: drship detach %s", r.name)
	}
	return nil, nil
}

func verbDelResource(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	switch {
	case !r.isUp():
		return nil, state.Refused(state.ErrResourceUnknown, "")
	case r.anyWanted(""):
		return nil, state.Refused(state.ErrNetConfigured, "disconnect first: drship disconnect %s", r.name)
	case r.attachment() != nil:
		return nil, state.Refused(state.ErrResourceInUse, "detach first: drship detach %s", r.name)
	}
	return nil, r.takeDown(ctx)
}

// anyWanted reports whether a peer, or the one that is named, is connected or being waited for.
func (r *Resource) anyWanted(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if p.wanted && (name == "" || p.name == name) {
			return true
		}
	}
	return false
}

func verbNewPeer(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.anyWanted(q.Peer) {
		return nil, state.Refused(state.ErrNetConfigured, "")
	}
	return verbNetOptions(ctx, r, q)
}

func verbDelPath(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.anyWanted(q.Peer) {
		return nil, state.Refused(state.ErrNetConfigured, "disconnect first: drship disconnect %s", r.name)
	}
	return nil, nil
}

// verbNothing is for steps that have nothing to do here.
func verbNothing(context.Context, *Resource, *control.Request) ([]string, error) { return nil, nil }

func verbPeerRole(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	if !r.isUp() {
		return nil, &control.Error{Code: int(state.ErrMinorInvalid), Text: state.CodeText(state.ErrMinorInvalid), Hint: "bring it up: drship up " + r.name}
	}
	var out []string
	for _, p := range r.snapshot().Peers {
		if q.Peer == "" || q.Peer == p.Name {
			out = append(out, p.Role.String())
		}
	}
	return out, nil
}

// verbRunHandler runs a handler by hand; its exit code is the answer, as when drbdadm is called by the kernel.
func verbRunHandler(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	name := q.Options["handler"]
	if !r.hasHandler(name) {
		return nil, nil
	}
	if code := r.runHelper(name, r.peerNamed(q.Peer), nil); code > 0 {
		return nil, &refused{exit: code, text: fmt.Sprintf("the handler %s ended with exit code %d", name, code)}
	} else if code < 0 {
		return nil, &refused{exit: control.ExitHard, text: fmt.Sprintf("the handler %s could not be run, or ran for longer than %v", name, helperLimit)}
	}
	return nil, nil
}
