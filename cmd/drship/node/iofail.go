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

// DiskFailed implements sender.Hooks and receiver.Hooks. A Secondary gives the disk up unless on-io-error says pass_on: its peer sees
// it Diskless and goes on, and what is written meanwhile follows once the disk is attached again. A Primary has no other
// disk to serve its clients from, so it keeps the one that it has: the client hears of the error, and the blocks are marked.
func (h hooks) DiskFailed(volume uint16, err error) {
	r := h.r
	r.log.Error("backing disk failed a request", "volume", volume, "err", err)
	r.mu.Lock()
	policy := ""
	if v := r.volumeConfig(volume); v != nil {
		policy = v.DiskOptions.OnIOError
	}
	a, role := r.att, r.role
	if a == nil || a.failed || policy == ioPassOn || role == state.Primary && policy != ioCallHandler {
		r.mu.Unlock()
		r.node.changed()
		return
	}
	a.failed = role != state.Primary
	r.mu.Unlock()
	if role == state.Primary {
		r.helperSoonWith(nil, failedVolume(volume), "local-io-error")
		return
	}
	r.node.helpers.goDo(func() { r.giveDiskUp(a, volume, policy) }) // false: the node stops, and its disks close anyway
}

func failedVolume(volume uint16) []string {
	return []string{fmt.Sprintf("DRSHIP_FAILED_VOLUME=%d", volume)}
}

// giveDiskUp detaches a resource whose disk failed.
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
	if r.attachment() != a || r.currentRole() == state.Primary {
		return
	}
	r.log.Error("detached: the disk failed. When it is mended: drship attach "+r.name, "volume", volume)
	if err := r.dropDisks(context.WithoutCancel(ctx)); err != nil {
		r.log.Warn("detached a failed disk not without errors", "err", err)
	}
}
