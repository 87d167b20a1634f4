package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/face"
	"drship/internal/state"
	"drship/journal"
)

// look is the metadata of a resource for reading, whether it is attached or not.
type look struct {
	meta    journal.Meta
	crashed bool
	live    bool            // attached
	seen    map[string]bool // peers in sight
}

// lookAt reads the metadata, from memory while the resource is attached, else from its store.
func (r *Resource) lookAt(ctx context.Context) (*look, error) {
	r.mu.Lock()
	if a := r.att; a != nil {
		defer r.mu.Unlock()
		l := &look{meta: a.meta, crashed: a.crashed, live: true, seen: map[string]bool{}}
		l.meta.Volumes = slices.Clone(a.meta.Volumes)
		for i := range l.meta.Volumes {
			l.meta.Volumes[i].Peers = slices.Clone(a.meta.Volumes[i].Peers)
		}
		for _, p := range r.peers {
			l.seen[p.name] = p.inSight()
		}
		return l, nil
	}
	r.mu.Unlock()
	l := &look{}
	err := r.withStore(ctx, func(s *journal.Store) (err error) {
		l.meta, err = s.Meta()
		return err
	})
	l.crashed = l.meta.Primary
	return l, err
}

// withStore opens the store of a resource that is not attached, for one call.
func (r *Resource) withStore(ctx context.Context, fn func(*journal.Store) error) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.attachment() != nil {
		return &refused{exit: control.ExitHard, text: fmt.Sprintf("Device '%d' is configured!", r.firstMinor()), hint: "take the resource down first: drship down " + r.name}
	}
	store, err := r.openStore()
	if err != nil {
		return err
	}
	err = fn(store)
	if errors.Is(err, journal.ErrNoMeta) {
		err = &refused{exit: control.ExitUsage, text: "No valid meta data found", hint: "write it once: drship create-md " + r.name}
	}
	return errors.Join(err, store.Close())
}

func (r *Resource) firstMinor() int {
	if vs := r.volumesConfigured(); len(vs) > 0 {
		return vs[0].Minor
	}
	return 0
}

// gi is what get-gi and show-gi tell of a volume against a peer.
func (l *look) gi(v *journal.VolumeMeta, peer string) face.GI {
	g := face.GI{IDs: state.IDs{Current: v.Current}, Disk: v.Disk, Size: v.Size, Primary: l.meta.Primary, Connected: l.seen[peer], CrashedPrimary: l.crashed,
		Clean: !l.crashed, Attached: l.live}
	copy(g.IDs.History[:], v.History[:])
	for _, p := range v.Peers {
		if p.Name == peer {
			g.IDs.Bitmap = p.Bitmap
			g.PeerOutdated = p.Disk == state.Inconsistent || p.Disk == state.Outdated
		}
	}
	return g
}

// eachGI calls fn for each volume and peer that a request means.
func (r *Resource) eachGI(l *look, q *control.Request, fn func(v *journal.VolumeMeta, peer string)) {
	r.mu.Lock()
	var peers []string
	for _, p := range r.peers {
		if q.Peer == "" || q.Peer == p.name {
			peers = append(peers, p.name)
		}
	}
	r.mu.Unlock()
	for i := range l.meta.Volumes {
		v := &l.meta.Volumes[i]
		if q.Volume != control.AnyVolume && int(v.Volume) != q.Volume {
			continue
		}
		for _, p := range peers {
			fn(v, p)
		}
	}
}

// verbGetGI prints the identifiers as drbdadm get-gi does, one line a volume and peer.
func verbGetGI(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	l, err := r.lookAt(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	r.eachGI(l, q, func(v *journal.VolumeMeta, peer string) { out = append(out, l.gi(v, peer).Line()) })
	return out, nil
}

// verbShowGI explains them, as drbdadm show-gi does.
func verbShowGI(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	l, err := r.lookAt(ctx)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	count := 0
	r.eachGI(l, q, func(*journal.VolumeMeta, string) { count++ })
	r.eachGI(l, q, func(v *journal.VolumeMeta, peer string) {
		if count > 1 {
			fmt.Fprintf(&b, "\n%s/%d against %s:\n", r.name, v.Volume, peer)
		}
		l.gi(v, peer).Explain(&b)
	})
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), nil
}

// verbDState shows disk states; of a resource that is down, what its metadata says of the data, as drbdmeta does.
func verbDState(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	if r.isUp() {
		return lines(face.DState)(ctx, r, q)
	}
	l, err := r.lookAt(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range l.meta.Volumes {
		if q.Volume == control.AnyVolume || q.Volume == int(v.Volume) {
			out = append(out, state.AtRest(v.Disk).String())
		}
	}
	return out, nil
}
