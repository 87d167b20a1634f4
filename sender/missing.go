package sender

import (
	"context"
	"errors"
	"fmt"

	"drship/internal/block"
	"drship/internal/disk"
)

// A volume whose disk here failed, or does not have everything yet, goes on as long as a peer has what is missing. The write order stays here:
// a write takes the way that every write takes, is noted as missing instead of written, and is answered once a peer that is
// followed by journal has staged it, whatever the protocol. A read of what is missing goes to a peer that has applied everything up to
// the end of the write order as the read began.

// Elsewhere is a read that the disk here cannot serve.
type Elsewhere struct {
	Volume uint16
	Buf    []byte
	Off    int64
	At     block.Seq // the peer has to have everything up to here
	Not    string    // a peer that is not to be asked
	Wait   bool      // until there is one to ask
}

// readElsewhere serves a read that the disk refused for the reason why.
func (v *Volume) readElsewhere(ctx context.Context, p []byte, off int64, why error) error {
	missing := errors.Is(why, disk.ErrMissing)
	failed := v.diskFailed("read", off, int64(len(p)), why)
	g := v.group
	if g.other == nil {
		return failed
	}
	missing = missing || v.gone()
	err := g.other(ctx, Elsewhere{Volume: v.number, Buf: p, Off: off, At: g.End(), Wait: missing})
	switch {
	case err == nil && !missing:
		v.bad.Set(block.Range{Off: off, Len: int64(len(p))})
		v.anyBad.Store(true)
		return nil
	case err != nil && missing:
		return fmt.Errorf("read volume %d at %d, %d bytes, from a peer: %w", v.number, off, len(p), err)
	case err != nil:
		return failed
	}
	return nil
}

// readFor reads for a peer: from the disk, else from any other peer. The range is locked.
func (v *Volume) readFor(ctx context.Context, p *Peer, buf []byte, off int64) error {
	err := v.disk.ReadAt(buf, off)
	if !errors.Is(err, disk.ErrMissing) || v.group.other == nil {
		return err
	}
	return v.group.other(ctx, Elsewhere{Volume: v.number, Buf: buf, Off: off, At: v.group.End(), Not: p.name})
}

// gone reports whether the disk was given up.
func (v *Volume) gone() bool { return v.partial != nil && v.partial.Gone() }

// mended forgets that the disk did not give what was written to it just now.
func (v *Volume) mended(r block.Range) {
	if !v.anyBad.Load() {
		return
	}
	v.bad.Clear(r)
	v.anyBad.Store(v.bad.Count() > 0)
}

// partial reports whether a disk lacks something.
func (g *Group) partial() bool {
	for _, v := range g.volumes {
		if v.partial != nil && (v.partial.Gone() || v.partial.Missing() > 0) {
			return true
		}
	}
	return false
}

// kept returns once a peer has staged what the disk here did not take.
func (v *Volume) kept(ctx context.Context, o *op, last block.Seq) error {
	for v.partial != nil && v.partial.Lacks(o.Range) {
		ok, err := v.staged(ctx, last)
		if ok || err != nil {
			return err
		}
		if v.group.noData == nil {
			return ErrNoData
		}
		if err := v.group.noData(ctx); err != nil {
			return err
		}
		if last, err = v.ordered(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Keeps says whether a peer has a disk of its own for a volume, with everything on it: only such a one keeps what the disk here lacks.
func (p *Peer) Keeps(volume uint16, on bool) {
	if v := p.group.Volume(volume); v != nil {
		p.keeps[v.index].Store(on)
	}
}

// staged waits for the peers that keep the volume and are followed by journal, and reports whether one of them has staged the record.
func (v *Volume) staged(ctx context.Context, seq block.Seq) (bool, error) {
	if seq.IsZero() {
		return false, nil
	}
	for _, p := range v.group.peers {
		if !p.keeps[v.index].Load() {
			continue
		}
		if err := p.await(ctx, seq, 'C'); err != nil {
			return false, err
		}
		byJournal := p.ByJournal()
		p.mu.Lock()
		ok := byJournal && p.stream != nil && !p.marks.Staged.Less(seq)
		p.mu.Unlock()
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// LackHot notes that the disk of a volume lacks what may be under way to it: it failed, and what it was given last may be lost.
func (g *Group) LackHot(volume uint16) error {
	v := g.Volume(volume)
	if g.al == nil || v == nil || v.partial == nil {
		return nil
	}
	err := g.al.Hot(func(vol uint16, r block.Range) error {
		if vol == volume && r.Off < v.disk.Size() {
			v.partial.Lack(r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read activity log: %w", err)
	}
	return nil
}

// Unreadable returns the number of blocks of a volume that the disk did not give when they were read last, and a peer did.
func (g *Group) Unreadable(volume uint16) uint64 {
	if v := g.Volume(volume); v != nil && v.anyBad.Load() {
		return v.bad.Count()
	}
	return 0
}

// whole cuts a run where what the disk lacks begins or ends.
func (v *Volume) whole(r run) run {
	if v.partial == nil || v.partial.Missing() == 0 && !v.partial.Gone() {
		return r
	}
	if v.partial.Gone() {
		r.lacks = true
		r.n = min(r.n, chunkBlocks)
	} else if first, n, ok := v.partial.Next(r.first, chunkBlocks); ok && first < r.first+uint64(r.n) {
		if first > r.first {
			r.n = int(first - r.first)
			return r
		}
		r.lacks, r.n = true, min(r.n, int(n))
	}
	if r.lacks && len(v.group.peers) > 2 {
		r.n = 1 // each block may be at another peer
	}
	return r
}

// elsewhereThan reports whether a third node has a range that the disk here lacks, as far as the bitmaps tell. Where all may differ, the one that is
// asked for first is right.
func (v *Volume) elsewhereThan(p *Peer, r block.Range) bool {
	for _, o := range v.group.peers {
		if o != p && !o.forgotten.Load() && !o.bitmaps[v.index].Contains(r) {
			return true
		}
	}
	return false
}

// keepTheirs settles a run that only the peer itself has.
func (s *Stream) keepTheirs(id uint64) {
	rs, unlock := s.answering()
	if rs == nil {
		return
	}
	defer unlock()
	if r, ok := rs.take(id); ok {
		s.peer.settleLocked(r)
	}
}

// healSync is how much is fetched between two syncs, in blocks.
const healSync = 4 << 20 / block.Size

// Heal fetches what disks that are there lack, or did not give, and writes it to them. It returns the number of blocks. It ends with the first
// that no peer gives or the disk does not take; one caller at a time.
func (g *Group) Heal(ctx context.Context) (done uint64, err error) {
	buf := make([]byte, chunkBlocks*block.Size)
	for _, v := range g.volumes {
		if v.partial == nil || v.gone() {
			continue
		}
		n, err := v.heal(ctx, v.partial.Next, buf, func(block.Range) {})
		done += n
		if err != nil {
			return done, err
		}
		n, err = v.heal(ctx, v.bad.Next, buf, v.mended)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// heal fetches the runs that next finds.
func (v *Volume) heal(ctx context.Context, next func(uint64, int) (uint64, uint64, bool), buf []byte, healed func(block.Range)) (done uint64, err error) {
	unsynced := uint64(0)
	for at := uint64(0); ; {
		first, n, ok := next(at, chunkBlocks)
		if !ok {
			break
		}
		at = first + n
		r := run{first: first, n: int(n)}.bytesOf(v)
		if err := v.healRange(ctx, r, buf[:r.Len]); err != nil {
			return done, errors.Join(err, v.sync())
		}
		healed(r)
		done += n
		if unsynced += n; unsynced >= healSync {
			unsynced = 0
			if err := v.sync(); err != nil {
				return done, err
			}
		}
	}
	if done == 0 {
		return 0, nil
	}
	return done, v.sync()
}

// healRange holds the range against writes while it is fetched: what is written next comes behind it.
func (v *Volume) healRange(ctx context.Context, r block.Range, buf []byte) error {
	defer v.locks.unlock(v.locks.lock(r))
	if err := v.group.other(ctx, Elsewhere{Volume: v.number, Buf: buf, Off: r.Off, At: v.group.End()}); err != nil {
		return fmt.Errorf("fetch volume %d at %d, %d bytes: %w", v.number, r.Off, r.Len, err)
	}
	if err := v.disk.WriteAt(buf, r.Off); err != nil {
		return v.diskFailed("heal", r.Off, r.Len, err)
	}
	return nil
}
