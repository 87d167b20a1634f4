package node

import (
	"errors"
	"testing"

	"drship/internal/state"
	"drship/journal"
	"drship/wan/frame"
)

// vol is a volume as a State tells it.
func vol(number uint16, d state.Disk, current uint64) frame.VolumeState {
	return frame.VolumeState{Volume: number, Disk: uint8(d), Size: 1 << 20, UUIDs: frame.UUIDs{Current: current}}
}

func TestAligned(t *testing.T) {
	theirs := []frame.VolumeState{vol(2, state.UpToDate, 8), vol(0, state.Outdated, 6)}
	got, along := aligned([]uint16{0, 1, 2}, theirs, []string{"two", "zero"})
	if len(got) != 3 || got[0] != theirs[1] || got[1] != (frame.VolumeState{Volume: 1, Disk: uint8(state.Diskless)}) || got[2] != theirs[0] {
		t.Errorf("%+v", got)
	}
	if along[0] != "zero" || along[1] != "" || along[2] != "two" {
		t.Errorf("%q", along)
	}
	if got, _ := aligned[string]([]uint16{2}, theirs, nil); len(got) != 1 || got[0] != theirs[0] {
		t.Errorf("a volume that only the peer has: %+v", got)
	}
}

// The sides do without what only one of them has where nothing of it would have to be shipped, and both come to the same answer.
func TestVolumesDiffer(t *testing.T) {
	n, _ := nodeOf(t, twoNodes)
	r := find(n.all(), "r0")
	both := []frame.VolumeState{vol(0, state.UpToDate, 8), vol(1, state.UpToDate, 10)}
	created := []frame.VolumeState{vol(0, state.UpToDate, 8), vol(1, state.Inconsistent, state.JustCreated)}
	for name, c := range map[string]struct {
		mine, theirs      []frame.VolumeState
		myRole, theirRole state.Role
		waits             bool
	}{
		"the same":                        {both, both, state.Primary, state.Secondary, false},
		"created here first":              {created, both[:1], state.Primary, state.Secondary, false},
		"created there first":             {both[:1], created, state.Primary, state.Secondary, false},
		"given up by the Primary":         {both[:1], both, state.Primary, state.Secondary, false},
		"given up by the Secondary":       {both, both[:1], state.Primary, state.Secondary, true},
		"given up, and nobody is Primary": {both[:1], both, state.Secondary, state.Secondary, true},
		"without a disk, but configured":  {both, []frame.VolumeState{vol(0, state.Diskless, 0), vol(1, state.Diskless, 0)}, state.Primary, state.Secondary, false},
	} {
		mine, theirs := &frame.State{Role: uint8(c.myRole), Volumes: c.mine}, &frame.State{Role: uint8(c.theirRole), Volumes: c.theirs}
		here, there := r.volumesDiffer(mine, theirs), r.volumesDiffer(theirs, mine)
		if errors.Is(here, errVolumesDiffer) != c.waits || errors.Is(there, errVolumesDiffer) != c.waits {
			t.Errorf("%s: here %v, there %v", name, here, there)
		}
	}
}

// A resync concerns the volumes that have something to come, and those that are not consistent.
func TestShareOf(t *testing.T) {
	m := func(mode frame.Mode, oos ...uint64) *frame.StreamStart {
		s := &frame.StreamStart{Mode: mode}
		for i, n := range oos {
			v := vol(uint16(i), state.UpToDate, 8)
			v.OOS = n
			s.Volume = append(s.Volume, v)
		}
		return s
	}
	for name, c := range map[string]struct {
		m    *frame.StreamStart
		disk state.Disk
		want share
	}{
		"by journal":                      {m(frame.ModeJournal, 0, 0), state.UpToDate, shareJournal},
		"nothing to come":                 {m(frame.ModeResync, 0, 5), state.UpToDate, shareJournal},
		"something to come":               {m(frame.ModeResync, 5, 0), state.UpToDate, shareResync},
		"nothing to come, not consistent": {m(frame.ModeResync, 0, 5), state.Inconsistent, shareResync},
		"the source does not tell":        {m(frame.ModeResync, 0, 0), state.UpToDate, shareResync},
		"nothing is sent":                 {m(frame.ModeAhead, 0, 0), state.UpToDate, shareNone},
	} {
		v := metaOf(0, c.disk)
		if got := shareOf(c.m, 0, &v); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	absent := m(frame.ModeJournal, 0)
	absent.Volume[0].Disk = uint8(state.Diskless)
	if v := metaOf(0, state.UpToDate); shareOf(absent, 0, &v) != shareNone {
		t.Error("a volume that the source does not have")
	}
}

func metaOf(number uint16, d state.Disk) journal.VolumeMeta {
	return journal.VolumeMeta{Volume: number, Size: 1 << 20, Disk: d, Current: 8}
}
