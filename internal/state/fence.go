package state

import "fmt"

// The exit codes of a fence-peer handler.
const (
	FencePeerInconsistent = 3 // the peer's data was Inconsistent already
	FencePeerOutdated     = 4 // the peer outdated its data, now or before
	FencePeerUnreachable  = 5 // the peer could not be reached
	FencePeerPrimary      = 6 // the peer refused: it is Primary
	FencePeerStonith      = 7 // the peer was powered off
)

// FenceVerdict is what a run of fence-peer means.
type FenceVerdict struct {
	PeerDisk    Disk // what is known of the peer's data from now on; DUnknown where nothing is
	OutdateSelf bool // the peer is Primary: the data here is the older one
	Safe        bool // nobody else can write: frozen I/O may go on, a promotion may go ahead
	Text        string
}

// Fenced decides what the exit code of fence-peer means for a node whose own data is own. Codes without a meaning, and -1 for no
// answer at all, are not safe.
func Fenced(code int, own Disk) FenceVerdict {
	v := FenceVerdict{PeerDisk: DUnknown}
	switch code {
	case FencePeerInconsistent:
		v.PeerDisk, v.Text = Inconsistent, "3 (peer is inconsistent or worse)"
	case FencePeerOutdated:
		v.PeerDisk, v.Text = Outdated, "4 (peer was fenced)"
	case FencePeerUnreachable:
		v.Text = "5 (peer is unreachable, assumed to be dead)"
		if own != UpToDate {
			v.Text = "5 (peer unreachable, doing nothing since disk != UpToDate)"
			return v
		}
		v.PeerDisk = Outdated
	case FencePeerPrimary:
		v.OutdateSelf, v.Text = true, "6 (peer is active)"
	case FencePeerStonith:
		v.PeerDisk, v.Text = Outdated, "7 (peer was stonithed)"
	default:
		v.Text = fmt.Sprintf("%d: the helper is broken, or there is none", code)
	}
	v.Safe = v.PeerDisk != DUnknown
	return v
}
