package face

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"drship/internal/state"
)

// Version is the head of /proc/drbd: which DRBD is answered for, in whose place.
type Version struct {
	Number string // "8.4.11"
	API    int    // 1; 88 for 8.3, 79 for 0.7
	Proto  string // "86-101"; "86-97", "74"
	Build  string // the second line, as it stands: "srcversion: …", "GIT-hash: … build by …, date", "SVN Revision: …"; "" for none
}

// ProcOptions choose the shape of /proc/drbd.
type ProcOptions struct {
	Shape Shape  // 8.4 unless Shape07: the lines of 8.3 are the same, its head differs by Version alone
	Peer  string // the peer that the lines are about; "" takes, for each volume, the one that stands worst
}

// Proc writes /proc/drbd. That file has one peer for each minor: with several peers and none chosen, a line
// tells of the one that stands worst, so that whoever watches it misses nothing.
func Proc(w io.Writer, v Version, rs []Resource, o ProcOptions) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: %s (api:%d/proto:%s)\n", v.Number, v.API, v.Proto)
	if v.Build != "" {
		b.WriteString(v.Build + "\n")
	}
	type entry struct {
		r *Resource
		v *Volume
	}
	var all []entry
	for i := range rs {
		for j := range rs[i].Volumes {
			all = append(all, entry{&rs[i], &rs[i].Volumes[j]})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.v.Minor - b.v.Minor })
	last := -1
	for _, e := range all {
		if e.v.Minor > last+1 && o.Shape != Shape07 {
			b.WriteByte('\n') // DRBD marks a gap between minors so
		}
		last = e.v.Minor
		procVolume(&b, e.r, e.v, o)
	}
	return write(w, &b)
}

func write(w io.Writer, b *bytes.Buffer) error {
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// worstPeer chooses the peer that a line is about: the one named, or else the one that stands worst. It is nil without peers.
func worstPeer(r *Resource, number uint16, name string) *Peer {
	var worst *Peer
	for i := range r.Peers {
		p := &r.Peers[i]
		switch {
		case name != "" && p.Name != name:
		case worst == nil || worse(p, worst, number):
			worst = p
		}
	}
	return worst
}

func worse(a, b *Peer, number uint16) bool {
	va, vb := a.Volume(number), b.Volume(number)
	ca, cb := min(a.VolumeConn(va), state.Connected), min(b.VolumeConn(vb), state.Connected)
	if ca != cb {
		return ca < cb
	}
	if va == nil || vb == nil {
		return va == nil && vb != nil
	}
	if va.Disk != vb.Disk {
		return va.Disk < vb.Disk
	}
	return va.OutOfSync > vb.OutOfSync
}

// procVolume writes the lines of one minor.
func procVolume(b *bytes.Buffer, r *Resource, v *Volume, o ProcOptions) {
	peer := worstPeer(r, v.Number, o.Peer)
	if peer == nil {
		peer = &Peer{}
	}
	pv := peer.Volume(v.Number)
	if pv == nil {
		pv = &PeerVolume{Disk: state.DUnknown}
	}
	conn := peer.VolumeConn(pv)
	if conn == state.StandAlone && v.Disk == state.Diskless && r.Role != state.Primary {
		fmt.Fprintf(b, "%2d: cs:Unconfigured\n", v.Minor)
		return
	}
	if o.Shape == Shape07 {
		local := "Inconsistent"
		if v.Disk > state.Inconsistent {
			local = "Consistent"
		}
		fmt.Fprintf(b, "%2d: cs:%s st:%s/%s ld:%s\n", v.Minor, conn, r.Role, peer.Role, local)
	} else {
		fmt.Fprintf(b, "%2d: cs:%s ro:%s/%s ds:%s/%s %c %s\n", v.Minor, conn, r.Role, peer.Role, v.Disk, pv.Disk, protocol(peer), flags(r, v, peer, pv))
	}
	fmt.Fprintf(b, "    ns:%d nr:%d dw:%d dr:%d al:%d bm:%d lo:%d pe:%d ua:%d ap:%d", pv.Sent/kib, pv.Received/kib, v.Written/kib, v.Read/kib,
		v.ALWrites, v.BMWrites, v.LowerPending, pv.Pending, pv.Unacked, v.UpperPending)
	if o.Shape != Shape07 {
		fmt.Fprintf(b, " ep:%d wo:%c oos:%d", max(peer.Epochs, 1), r.WriteOrdering.String()[0], pv.OutOfSync/kib)
	}
	b.WriteByte('\n')
	if pv.Sync != nil && (conn == state.SyncSource || conn == state.SyncTarget || conn == state.VerifyS || conn == state.VerifyT) {
		b.WriteString(ProgressLines(pv.Sync, conn, o.Shape))
	}
}

func protocol(p *Peer) byte {
	if p.Protocol == 0 || p.Conn == state.StandAlone {
		return ' '
	}
	return p.Protocol
}

// flags are the six characters behind the protocol.
func flags(r *Resource, v *Volume, p *Peer, pv *PeerVolume) string {
	f := []byte("r-----")
	set := func(i int, on bool, c byte) {
		if on {
			f[i] = c
		}
	}
	set(0, r.Suspended.Any(), 's')
	set(1, pv.Flags.Dependency, 'a')
	set(2, pv.Flags.Peer, 'p')
	set(3, pv.Flags.User, 'u')
	set(4, v.LowerBlocked, 'b')
	set(4, p.Congested, 'n')
	set(4, v.LowerBlocked && p.Congested, 'a')
	set(4, v.UpperBlocked, 'd')
	set(5, v.ALSuspended, 's')
	return string(f)
}
