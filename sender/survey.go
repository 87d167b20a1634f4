package sender

import (
	"time"

	"drship/internal/block"
	"drship/internal/ship"
	"drship/journal"
)

// What a resync has before it is not what is out of sync: holes cost nothing. The survey looks at the whole map once, beside the
// resync and a little at a time, and tells how much of it is data.

const (
	surveyTime = 3 * time.Millisecond // that a turn of the pump may take for it
	shares     = 256                  // that a page is looked at in: 1 MiB each
	pageBytes  = journal.PageBlocks * block.Size
)

// survey is how much data each page of the bitmaps holds that is out of sync. Only the pump touches it until done, which Peer.mu
// guards; nobody changes it then.
type survey struct {
	pages  []pageData
	volume int
	page   uint64 // next to be looked at
	done   bool
}

type pageData struct {
	volume int
	page   uint64
	dirty  int64           // bytes out of sync
	bytes  int64           // of data among them
	share  *[shares]uint32 // bytes of data in each share, where there is both data and holes
}

// behind is how much of the page's data lies at or behind a block, counted from the page's first, where the map holds so many
// bits of it now.
func (d pageData) behind(blk, bits uint64) int64 {
	if d.share == nil {
		return min(d.bytes, int64(bits*block.Size))
	}
	const blocks = journal.PageBlocks / shares
	at := blk / blocks
	var all, rest float64
	for i, n := range d.share {
		all += float64(n)
		switch {
		case uint64(i) > at:
			rest += float64(n)
		case uint64(i) == at:
			rest += float64(n) * float64(blocks-blk%blocks) / blocks
		}
	}
	return int64(float64(d.bytes) * rest / max(all, 1))
}

// surveyMore goes on with the survey for a moment.
func (s *Stream) surveyMore(rs *resync) {
	v := &rs.survey
	if v.done {
		return
	}
	for until := time.Now().Add(surveyTime); time.Now().Before(until); {
		if v.volume == len(s.peer.bitmaps) {
			s.peer.mu.Lock()
			v.done = true
			rs.speed = ship.Speed{} // it was reckoned from what is out of sync
			s.peer.mu.Unlock()
			return
		}
		first, _, ok := s.peer.bitmaps[v.volume].Next(v.page*journal.PageBlocks, 1)
		if !ok {
			v.volume, v.page = v.volume+1, 0
			continue
		}
		page := first / journal.PageBlocks
		v.pages = append(v.pages, s.dataIn(v.volume, page))
		v.page = page + 1
	}
}

// dataIn is how many bytes of a page are out of sync and allocated: where all of it is out of sync, what is allocated; where only
// some is, that was written once, and counts as far as so much is allocated.
func (s *Stream) dataIn(volume int, page uint64) pageData {
	v := s.peer.group.volumes[volume]
	d := pageData{volume: volume, page: page, dirty: int64(s.peer.bitmaps[volume].CountPage(uint32(page))) * block.Size}
	d.bytes = d.dirty
	off := int64(page) * pageBytes
	segments, err := v.disk.Segments(off, min(pageBytes, v.disk.Size()-off))
	if err != nil {
		return d
	}
	var data int64
	var share [shares]uint32
	const each = pageBytes / shares
	for _, seg := range segments {
		if seg.Hole {
			continue
		}
		data += seg.Len
		for at := seg.Off - off; at < seg.Off-off+seg.Len; at = (at/each + 1) * each {
			share[at/each] += uint32(min((at/each+1)*each, seg.Off-off+seg.Len) - at)
		}
	}
	if d.bytes = min(d.dirty, data); data > 0 && len(segments) > 1 {
		d.share = &share
	}
	return d
}

// left is how many bytes of data are to come, as far as the survey tells: it is not done at once, and where the walk goes round
// again it is what is out of sync. Called with Peer.mu held.
func (rs *resync) left(p *Peer) uint64 {
	if !rs.survey.done || rs.rounds > 0 {
		return p.OutOfSync() * block.Size
	}
	at := rs.block / journal.PageBlocks
	var sum int64
	for _, d := range rs.survey.pages {
		switch {
		case d.volume > rs.volume || d.volume == rs.volume && d.page > at:
			sum += d.bytes
		case d.volume == rs.volume && d.page == at:
			sum += d.behind(rs.block%journal.PageBlocks, p.bitmaps[d.volume].CountPage(uint32(at)))
		}
	}
	return uint64(sum) + uint64(len(rs.again))*chunkBlocks*block.Size
}
