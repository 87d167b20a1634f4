package state

import "time"

// Startup is how long the start of a node waits for its peers. Zero waits for ever.
type Startup struct {
	WFC      time.Duration // wfc-timeout
	Degraded time.Duration // degr-wfc-timeout
	Outdated time.Duration // outdated-wfc-timeout
}

// StartupWait chooses among them: degraded says that the node was Primary when it went down, without its peer being equal since;
// peerOutdated that the peer is known to have been outdated, so that it has nothing that this node lacks.
func StartupWait(s Startup, degraded, peerOutdated bool) time.Duration {
	switch {
	case peerOutdated:
		return s.Outdated
	case degraded:
		return s.Degraded
	}
	return s.WFC
}
