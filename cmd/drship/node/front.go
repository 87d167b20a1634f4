package node

import (
	"context"

	"drship/internal/disk"
	"drship/internal/state"
	"drship/sender"
)

// volume is one volume of a Primary as its clients use it: a *sender.Volume where the disk is here, a *sender.RemoteVolume where a peer serves.
type volume interface {
	Size() int64
	ReadAt(ctx context.Context, p []byte, off int64) error
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	Zero(ctx context.Context, off, n int64, noHole, fua bool) error
	Trim(ctx context.Context, off, n int64, fua bool) error
	Flush(ctx context.Context) error
	Segments(ctx context.Context, off, n int64) ([]disk.Segment, error)
}

// front is where the requests of a Primary's clients go at the moment. It is replaced as a whole, so that the data path reads it without a lock.
type front struct {
	era     uint64 // of the promotion: whoever opened the volume in an older one has to open it again
	volumes map[uint16]volume
}

// showLocalLocked lets clients use the disks here. Called with mu held.
func (r *Resource) showLocalLocked(g *sender.Group) {
	f := &front{era: r.era, volumes: map[uint16]volume{}}
	for _, v := range g.Volumes() {
		f.volumes[v.Number()] = v
	}
	r.front.Store(f)
}

// showRemoteLocked lets clients use what a peer serves. Called with mu held.
func (r *Resource) showRemoteLocked(c *sender.Remote, sizes map[uint16]int64) {
	f := &front{era: r.era, volumes: map[uint16]volume{}}
	for number := range sizes {
		f.volumes[number] = c.Volume(number)
	}
	r.front.Store(f)
}

// movedFrom waits where the volumes are just about to be served from elsewhere, and reports whether they are: a request that failed on f
// is then to be made again.
func (r *Resource) movedFrom(ctx context.Context, f *front) bool {
	r.mu.Lock()
	moving := r.moving
	r.mu.Unlock()
	if moving != nil {
		select {
		case <-moving:
		case <-ctx.Done():
			return false
		}
	}
	now := r.front.Load()
	return now != nil && now != f && now.era == f.era
}

// writesHereLocked reports whether the order of writes is made here: this node is Primary on its own disk, or serves a Primary that has none. Called with
// mu held.
func (r *Resource) writesHereLocked() bool {
	return r.role == state.Primary && r.remote == nil || r.serving
}

func (r *Resource) writesHere() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writesHereLocked()
}
