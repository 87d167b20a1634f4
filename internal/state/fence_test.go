package state

import "testing"

func TestFenced(t *testing.T) {
	for _, c := range []struct {
		code        int
		own, peer   Disk
		outdateSelf bool
	}{
		{3, UpToDate, Inconsistent, false},
		{4, UpToDate, Outdated, false},
		{5, UpToDate, Outdated, false},
		{5, Consistent, DUnknown, false},
		{5, Outdated, DUnknown, false},
		{6, UpToDate, DUnknown, true},
		{7, UpToDate, Outdated, false},
		{7, Consistent, Outdated, false},
		{0, UpToDate, DUnknown, false},
		{1, UpToDate, DUnknown, false},
		{127, UpToDate, DUnknown, false},
		{-1, UpToDate, DUnknown, false},
	} {
		v := Fenced(c.code, c.own)
		if v.PeerDisk != c.peer || v.OutdateSelf != c.outdateSelf || v.Safe != (c.peer != DUnknown) || v.Text == "" {
			t.Errorf("exit code %d with own data %v: %+v", c.code, c.own, v)
		}
	}
}
