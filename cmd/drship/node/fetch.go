package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/state"
	"drship/sender"
)

// Reads that a source has its targets carry out, because its own disk cannot: see partial.go.

const (
	fetchTimeout = 30 * time.Second       // for one read, with the wait until the peer has applied what comes before it
	fetchPoll    = 2 * time.Millisecond   // between two looks whether it has
	noDataPoll   = 100 * time.Millisecond // between two looks whether there is a peer
)

var errNoKeeper = errors.New("no peer that has everything")

// elsewhere implements sender.Config.
func (r *Resource) elsewhere(ctx context.Context, a *attachment, e sender.Elsewhere) error {
	failing := time.Time{} // since when a peer that is there does not give it
	for {
		r.mu.Lock()
		s := r.keeperLocked(a.index(e.Volume), func(p *peer) bool {
			gp := a.group.Peer(p.name)
			return p.name != e.Not && gp != nil && !gp.Bitmap(e.Volume).Contains(block.Range{Off: e.Off, Len: int64(len(e.Buf))})
		})
		var client *sender.Remote
		if s != nil {
			client = s.fetch
		}
		r.mu.Unlock()
		err := errNoKeeper
		if client != nil {
			if err = s.read(ctx, a, client, e); err == nil {
				return nil
			}
		}
		switch {
		case !e.Wait:
			return err
		case client == nil || s.ctx.Err() != nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > fetchTimeout:
			return err
		}
		if err := r.noData(ctx); err != nil {
			return err
		}
	}
}

// read reads from the peer once it has applied everything up to e.At.
func (s *session) read(ctx context.Context, a *attachment, client *sender.Remote, e sender.Elsewhere) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	gp := a.group.Peer(s.peer.name)
	tick := time.NewTicker(fetchPoll)
	defer tick.Stop()
	for gp.Marks().Applied.Less(e.At) {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	v := client.Volume(e.Volume)
	if v == nil {
		return errNoKeeper
	}
	return v.ReadAt(ctx, e.Buf, e.Off)
}

// noData is asked by requests that nobody can serve at the moment. It returns nil when it is worth another try.
func (r *Resource) noData(ctx context.Context) error {
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	notices, stop := r.node.watchers.subscribe()
	defer stop()
	tick := time.NewTicker(noDataPoll)
	defer tick.Stop()
	for {
		r.mu.Lock()
		waits := r.cfg.Options.OnNoDataAccessible == "suspend-io" || time.Since(r.parted) < remoteGrace
		waits = waits && !r.stopping
		there := r.keeperLocked(0, nil) != nil
		r.mu.Unlock()
		if !waits && !there {
			return sender.ErrNoData
		}
		select {
		case <-notices:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if there {
			return nil
		}
	}
}

// openFetch lets this source read from its target.
func (s *session) openFetch(a *attachment) error {
	alg, err := digest.Parse(s.r.digestName())
	if err != nil {
		return err
	}
	sizes := map[uint16]int64{}
	for _, v := range a.meta.Volumes {
		sizes[v.Volume] = v.Size
	}
	client := sender.NewRemote(sender.RemoteConfig{Sizes: sizes, Digest: alg, Logger: s.r.log})
	if err := client.Serve(s.ctx, s.link); err != nil {
		return err
	}
	s.r.mu.Lock()
	old := s.fetch
	s.fetch = client
	s.r.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

// closeFetch ends the reads of either side, as the session ends.
func (s *session) closeFetch() {
	s.r.mu.Lock()
	client, server := s.fetch, s.reads
	s.fetch, s.reads = nil, nil
	s.r.mu.Unlock()
	if client != nil {
		client.Close()
	}
	if server != nil {
		server.Stop()
	}
}

// readsLocked is what carries out the reads of the source; nil where this side is no target that has everything. Called with mu held.
func (s *session) readsLocked() *sender.Server {
	r := s.r
	if r.att == nil || s.run == nil || s.repl != state.Connected || s.ctx.Err() != nil {
		return nil
	}
	if s.reads == nil {
		alg, err := digest.Parse(r.digestName())
		if err != nil {
			return nil
		}
		s.reads = r.att.group.Serve(sender.ServeConfig{Link: s.link, Digest: alg, Begin: func() error { return errors.New("a source writes by its stream alone") }})
	}
	return s.reads
}

// lostKeeperLocked runs the handler of a Primary that cannot reach the newest data any more. Called with mu held, as a session ends.
func (r *Resource) lostKeeperLocked(s *session) {
	a := r.att
	if a == nil || r.role != state.Primary || r.remote != nil || s.source == nil {
		return
	}
	lacks := func(i int) bool { return a.parts[i].Gone() || a.parts[i].Missing() > 0 }
	for i := range a.parts {
		if lacks(i) && r.keeperLocked(i, func(p *peer) bool { return p != s.peer }) == nil {
			r.log.Error("the peer that had what the disk here lacks is gone", "peer", s.peer.name, "volume", a.meta.Volumes[i].Volume,
				"on-no-data-accessible", r.cfg.Options.OnNoDataAccessible)
			r.helperSoon(s.peer, "pri-on-incon-degr")
			return
		}
	}
}

// fetchedLocked says of which volumes a peer can serve what the disk here lacks, or would: for permissions. Called with mu held.
func (r *Resource) fetchedLocked() []bool {
	a := r.att
	if a == nil {
		return nil
	}
	several := r.role == state.Primary && r.remote == nil && (len(r.peers) > 1 || len(a.meta.Volumes) > 1)
	out := slices.Repeat([]bool{several}, len(a.meta.Volumes))
	for i, v := range a.meta.Volumes {
		out[i] = out[i] || v.Disk == state.UpToDate && (a.parts[i].Gone() || a.parts[i].Missing() > 0)
	}
	return out
}

func wholeVolume(size int64) block.Range { return block.Range{Len: size} }

// lacksLocked is how many blocks of volume i a source fetches, or would, where a peer has them and no bit says that it differs. Called with mu held.
func (r *Resource) lacksLocked(gp *sender.Peer, i int) uint64 {
	a := r.att
	if !r.writesHereLocked() {
		return 0
	}
	number := a.meta.Volumes[i].Volume
	n := a.group.Unreadable(number)
	if !a.parts[i].Gone() {
		n += a.parts[i].Missing()
	}
	left := (uint64(a.meta.Volumes[i].Size)+block.Size-1)/block.Size - gp.Bitmap(number).Count()
	return min(n, left)
}
