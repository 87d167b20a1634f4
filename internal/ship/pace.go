package ship

import "fmt"

// ResyncShare is the part of the bottleneck that a resync may use, in percent: DRBD's own rule of thumb.
const ResyncShare = 30

// PaceInput is what the rate of a resync is decided from. Rates are bytes per second; 0 means not known or not set.
type PaceInput struct {
	Temporary int64   // set at run time, until the next adjust
	Fixed     int64   // resync-rate in the configuration
	Disk      int64   // measured
	PeerDisk  int64   // measured by the peer
	Network   int64   // measured
	Scheduled int64   // what the line may carry now, by rate-schedule or link-rate
	Max       int64   // c-max-rate: ceiling of what is reckoned from measurements
	Control   Control // handed on
}

// Pace is the rate of a resync and what set it. Rate 0 means unlimited.
type Pace struct {
	Rate    int64
	Why     string
	Control Control
}

// ResyncPace decides the rate of a resync: what the administrator set, for now or for good, else 30 % of the slower of
// disk and network.
func ResyncPace(in PaceInput) Pace {
	p := in.pace()
	p.Control = in.Control
	if in.Temporary > 0 || in.Fixed > 0 || in.Control.Plan <= 0 {
		return p
	}
	if in.Max > 0 && (p.Rate > in.Max || p.Rate == 0) {
		p.Why = "c-max-rate, below " + p.Why
		if p.Rate == 0 {
			p.Why = "c-max-rate; nothing measured yet"
		}
		p.Rate = in.Max
	}
	return p
}

func (in PaceInput) pace() Pace {
	switch {
	case in.Temporary > 0:
		return Pace{Rate: in.Temporary, Why: "resync-rate, set for now"}
	case in.Fixed > 0:
		return Pace{Rate: in.Fixed, Why: "resync-rate in the configuration"}
	}
	line, disk := "network", "disk"
	if in.PeerDisk > 0 && (in.Disk <= 0 || in.PeerDisk < in.Disk) {
		in.Disk, disk = in.PeerDisk, "peer's disk"
	}
	if in.Scheduled > 0 && (in.Network <= 0 || in.Scheduled < in.Network) {
		in.Network, line = in.Scheduled, "line's rate by configuration"
	}
	switch {
	case in.Disk <= 0 && in.Network <= 0:
		return Pace{Why: "nothing measured yet"}
	case in.Network <= 0 || (in.Disk > 0 && in.Disk <= in.Network):
		return Pace{Rate: share(in.Disk), Why: fmt.Sprintf("%d %% of the %s", ResyncShare, disk)}
	}
	return Pace{Rate: share(in.Network), Why: fmt.Sprintf("%d %% of the %s", ResyncShare, line)}
}

// ChasePace is the rate of a resync that has to make up for writers that are faster than the line: what the administrator set,
// else all that the line has left.
func ChasePace(in PaceInput) Pace {
	if in.Temporary > 0 || in.Fixed > 0 {
		return ResyncPace(in)
	}
	p := Pace{Why: "all of the line"}
	if in.Max > 0 && in.Control.Plan > 0 {
		p = Pace{Rate: in.Max, Why: "c-max-rate"}
	}
	return p
}

func share(rate int64) int64 { return max(rate/100*ResyncShare, 1) }

// VerifyPace decides the rate of an online verify, in bytes compared a second: verify-rate where it is set, else 30 % of
// the slower of the disk and of what the line can carry, of which each block takes no more than its digest.
func VerifyPace(in PaceInput, digestSize int) Pace {
	const blockSize = 4096
	in.Temporary, in.Max, in.Control = 0, 0, Control{}
	if in.Scheduled > 0 && (in.Network <= 0 || in.Scheduled < in.Network) {
		in.Network = in.Scheduled
	}
	in.Scheduled = 0
	if in.Fixed > 0 {
		return Pace{Rate: in.Fixed, Why: "verify-rate in the configuration"}
	}
	if digestSize > 0 {
		in.Network = in.Network / int64(digestSize) * blockSize
	}
	return ResyncPace(in)
}
