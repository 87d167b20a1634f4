package node

import (
	"context"
	"fmt"

	"drship/internal/state"
)

// The values of on-io-error.
const (
	ioPassOn      = "pass_on"
	ioCallHandler = "call-local-io-error"
)

// DiskFailed implements sender.Hooks and receiver.Hooks. The disk is given up unless on-io-error says pass_on. A Secondary is Diskless then: its peer goes
// on, and what is written meanwhile follows once the disk is attached again. A Primary has its peer carry out its clients' requests, those
// that failed included. Where no peer can, it keeps the disk that it has: the client hears of the error, and the blocks are marked.
func (h hooks) DiskFailed(volume uint16, err error) {
	r := h.r
	r.log.Error("backing disk failed a request", "volume", volume, "err", err)
	r.mu.Lock()
	policy := ""
	if v := r.volumeConfig(volume); v != nil {
		policy = v.DiskOptions.OnIOError
	}
	a, serving := r.att, r.role == state.Primary && r.remote == nil
	i := -1
	if a != nil {
		i = a.index(volume)
	}
	if i >= 0 && policy != ioPassOn && r.losesAloneLocked(a, i) {
		h.volumeFailedLocked(a, i, policy, serving)
		r.mu.Unlock()
		return
	}
	stays := policy == ioPassOn || serving && r.servantLocked() == nil
	switch {
	case a == nil || a.failed || stays && policy != ioCallHandler:
		r.mu.Unlock()
		r.node.changed()
		return
	case stays:
		r.mu.Unlock()
		r.helperSoonWith(nil, failedVolume(volume), "local-io-error")
		return
	}
	a.failed = true
	if !serving {
		r.mu.Unlock()
		r.node.helpers.goDo(func() { r.giveDiskUp(a, volume, policy) }) // false: the node stops, and its disks close anyway
		return
	}
	moving := make(chan struct{})
	r.moving = moving
	r.mu.Unlock()
	if !r.node.helpers.goDo(func() { r.moveFromFailed(a, volume, policy, moving) }) {
		r.moved(moving)
	}
}

func failedVolume(volume uint16) []string {
	return []string{fmt.Sprintf("DRSHIP_FAILED_VOLUME=%d", volume)}
}

// moveFromFailed has the peer of a Primary serve, because the disk failed.
func (r *Resource) moveFromFailed(a *attachment, volume uint16, policy string, moving chan struct{}) {
	ctx := r.node.helpers.ctx
	if policy == ioCallHandler {
		r.helperSoonWith(nil, failedVolume(volume), "local-io-error")
	}
	defer r.moved(moving)
	release, err := r.acquire(ctx)
	if err != nil {
		return // the node stops
	}
	defer release()
	r.mu.Lock()
	still := r.att == a && r.role == state.Primary && r.remote == nil
	r.mu.Unlock()
	if !still {
		return
	}
	if err := r.moveToPeer(ctx, a, false); err != nil {
		r.log.Error("the disk failed and the peer cannot serve: clients hear of errors", "volume", volume, "err", err)
		r.mu.Lock()
		a.failed = false
		r.mu.Unlock()
		return
	}
	r.log.Error("detached: the disk failed, the peer serves. When it is mended: drship attach "+r.name, "volume", volume)
}

// moved lets those go on who wait for the clients to be served from elsewhere.
func (r *Resource) moved(moving chan struct{}) {
	r.mu.Lock()
	if r.moving == moving {
		r.moving = nil
	}
	r.mu.Unlock()
	close(moving)
}

// giveDiskUp detaches a resource whose disk failed, where it is not what clients are served from.
func (r *Resource) giveDiskUp(a *attachment, volume uint16, policy string) {
	ctx := r.node.helpers.ctx
	if policy == ioCallHandler {
		r.helper(ctx, "local-io-error", nil, failedVolume(volume)...)
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return // the node stops
	}
	defer release()
	r.mu.Lock()
	gone := r.att != a || r.role == state.Primary && r.remote == nil
	r.mu.Unlock()
	if gone {
		return
	}
	r.log.Error("detached: the disk failed. When it is mended: drship attach "+r.name, "volume", volume)
	if err := r.dropDisks(context.WithoutCancel(ctx)); err != nil {
		r.log.Warn("detached a failed disk not without errors", "err", err)
	}
}

// volumeFailedLocked gives up the disk of one volume; the resource goes on. Called with mu held.
func (h hooks) volumeFailedLocked(a *attachment, i int, policy string, serving bool) {
	r, volume := h.r, a.meta.Volumes[i].Volume
	if a.parts[i].Gone() {
		return
	}
	if !serving {
		r.node.helpers.goDo(func() { r.giveVolumeUp(a, i, policy) }) // false: the node stops
		return
	}
	if err := r.loseLocked(a, i, true); err != nil {
		r.log.Error("a disk that failed was not given up", "volume", volume, "err", err)
		return
	}
	if policy == ioCallHandler {
		r.helperSoonWith(nil, failedVolume(volume), "local-io-error")
	}
	r.node.helpers.goDo(r.broadcastState)
}
