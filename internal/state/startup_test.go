package state

import "testing"

func TestStartupWait(t *testing.T) {
	s := Startup{WFC: 1, Degraded: 2, Outdated: 3}
	for _, c := range []struct {
		degraded, outdated bool
		want               int
	}{{false, false, 1}, {true, false, 2}, {false, true, 3}, {true, true, 3}} {
		if got := StartupWait(s, c.degraded, c.outdated); int(got) != c.want {
			t.Errorf("degraded %t, peer outdated %t: got %d, want %d", c.degraded, c.outdated, got, c.want)
		}
	}
}
