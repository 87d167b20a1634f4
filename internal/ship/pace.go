package ship

import "fmt"

// ResyncShare is the part of the bottleneck that a resync may use, in percent: DRBD's own rule of thumb.
const ResyncShare = 30

// PaceInput is what the rate of a resync is decided from. Rates are bytes per second; 0 means not known or not set.
type PaceInput struct {
	Temporary int64 // set at run time, until the next adjust
	Fixed     int64 // resync-rate in the configuration
	Disk      int64 // measured
	Network   int64 // measured
	Scheduled int64 // what the line may carry now, by rate-schedule or link-rate
	Min, Max  int64 // c-min-rate, c-max-rate: bounds of what is reckoned from measurements
}

// Pace is the rate of a resync and what set it. Rate 0 means unlimited.
type Pace struct {
	Rate int64
	Why  string
}

// ResyncPace decides the rate of a resync: what the administrator set, for now or for good, else 30 % of the slower of
// disk and network.
func ResyncPace(in PaceInput) Pace {
	switch {
	case in.Temporary > 0:
		return Pace{in.Temporary, "resync-rate, set for now"}
	case in.Fixed > 0:
		return Pace{in.Fixed, "resync-rate in the configuration"}
	}
	line := "network"
	if in.Scheduled > 0 && (in.Network <= 0 || in.Scheduled < in.Network) {
		in.Network, line = in.Scheduled, "line's rate by configuration"
	}
	var p Pace
	switch {
	case in.Disk <= 0 && in.Network <= 0:
		if in.Max > 0 {
			return Pace{in.Max, "c-max-rate; nothing measured yet"}
		}
		return Pace{0, "nothing measured yet"}
	case in.Network <= 0 || (in.Disk > 0 && in.Disk <= in.Network):
		p = Pace{share(in.Disk), fmt.Sprintf("%d %% of the disk", ResyncShare)}
	default:
		p = Pace{share(in.Network), fmt.Sprintf("%d %% of the %s", ResyncShare, line)}
	}
	if in.Min > 0 && p.Rate < in.Min {
		return Pace{in.Min, "c-min-rate, above " + p.Why}
	}
	if in.Max > 0 && p.Rate > in.Max {
		return Pace{in.Max, "c-max-rate, below " + p.Why}
	}
	return p
}

func share(rate int64) int64 { return max(rate/100*ResyncShare, 1) }

// VerifyPace decides the rate of an online verify, in bytes compared a second: verify-rate where it is set, else 30 % of
// the slower of the disk and of what the line can carry, of which each block takes no more than its digest.
func VerifyPace(in PaceInput, digestSize int) Pace {
	const blockSize = 4096
	in.Temporary, in.Min, in.Max = 0, 0, 0
	if in.Scheduled > 0 && (in.Network <= 0 || in.Scheduled < in.Network) {
		in.Network = in.Scheduled
	}
	in.Scheduled = 0
	if in.Fixed > 0 {
		return Pace{in.Fixed, "verify-rate in the configuration"}
	}
	if digestSize > 0 {
		in.Network = in.Network / int64(digestSize) * blockSize
	}
	return ResyncPace(in)
}
