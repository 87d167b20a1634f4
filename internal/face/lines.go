package face

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"drship/internal/state"
)

// Role writes what `drbdadm role` prints: for each volume one line, this node's role and the peers', in their order.
func Role(w io.Writer, r Resource) error {
	return eachVolume(w, &r, r.Role.String(), func(p *Peer, _ *PeerVolume) string { return p.Role.String() }, state.RoleUnknown.String())
}

// DState writes what `drbdadm dstate` prints: for each volume one line, the state of this node's disk and the peers'.
func DState(w io.Writer, r Resource) error {
	return eachVolume(w, &r, "", func(_ *Peer, v *PeerVolume) string {
		if v == nil {
			return state.DUnknown.String()
		}
		return v.Disk.String()
	}, state.DUnknown.String())
}

// eachVolume writes a line of this node's word (its disk state where word is empty) and one for each peer, alone where there is none.
func eachVolume(w io.Writer, r *Resource, word string, of func(*Peer, *PeerVolume) string, alone string) error {
	var b bytes.Buffer
	for i := range r.Volumes {
		words := []string{word}
		if word == "" {
			words[0] = r.Volumes[i].Disk.String()
		}
		for j := range r.Peers {
			words = append(words, of(&r.Peers[j], r.Peers[j].Volume(r.Volumes[i].Number)))
		}
		if len(r.Peers) == 0 {
			words = append(words, alone)
		}
		b.WriteString(strings.Join(words, "/") + "\n")
	}
	return write(w, &b)
}

// CState writes what `drbdadm cstate` prints: the connection state, one line for each volume and peer.
func CState(w io.Writer, r Resource) error {
	var b bytes.Buffer
	for i := range r.Volumes {
		for j := range r.Peers {
			p := &r.Peers[j]
			fmt.Fprintln(&b, p.VolumeConn(p.Volume(r.Volumes[i].Number)))
		}
		if len(r.Peers) == 0 {
			fmt.Fprintln(&b, state.StandAlone)
		}
	}
	return write(w, &b)
}

// Overview writes what drbd-overview prints: one line a volume in aligned columns, with the file system on it, and the progress of a
// resync below. A resource whose only volume is number 0 goes by its name alone.
func Overview(w io.Writer, rs []Resource) error {
	var rows []overviewRow
	largest := 0
	for i := range rs {
		for j := range rs[i].Volumes {
			rows = append(rows, newOverviewRow(&rs[i], &rs[i].Volumes[j]))
			largest = max(largest, rs[i].Volumes[j].Minor)
		}
	}
	slices.SortStableFunc(rows, func(a, b overviewRow) int { return a.minor - b.minor })
	digits := max(2, len(fmt.Sprint(largest)))
	var widths []int
	for i := range rows {
		rows[i].cells[0] = fmt.Sprintf("%*d:%s", digits, rows[i].minor, rows[i].cells[0])
		for c, cell := range rows[i].cells {
			if c == len(widths) {
				widths = append(widths, 0)
			}
			widths[c] = max(widths[c], len(cell))
		}
	}
	var b bytes.Buffer
	for _, r := range rows {
		var line strings.Builder
		for c, cell := range r.cells {
			fmt.Fprintf(&line, "%-*s ", widths[c], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n" + r.below)
	}
	return write(w, &b)
}

// overviewRow is a volume: its columns, the first without the minor, and the line below, if there is one.
type overviewRow struct {
	minor int
	cells []string
	below string
}

func newOverviewRow(r *Resource, v *Volume) overviewRow {
	name := r.Name
	if len(r.Volumes) > 1 || v.Number != 0 {
		name = fmt.Sprintf("%s/%d", r.Name, v.Number)
	}
	p := worstPeer(r, v.Number, "")
	if p == nil {
		p = &Peer{}
	}
	pv := p.Volume(v.Number)
	if pv == nil {
		pv = &PeerVolume{Disk: state.DUnknown}
	}
	conn := p.VolumeConn(pv)
	row := overviewRow{minor: v.Minor}
	row.cells = []string{name, "", conn.String(), fmt.Sprintf("%s/%s", r.Role, p.Role), fmt.Sprintf("%s/%s", v.Disk, pv.Disk), string(protocol(p)), flags(r, v, p, pv)}
	if m := v.Mount; m != nil {
		percent := int64(0)
		if m.Size > 0 {
			percent = (m.Used*100 + m.Size - 1) / m.Size
		}
		row.cells = append(row.cells, m.Dir, m.FS, short(m.Size), short(m.Used), short(m.Size-m.Used), fmt.Sprintf("%d%%", percent))
	}
	if pv.Sync != nil && (conn == state.SyncSource || conn == state.SyncTarget) {
		row.below = "\t" + gauge(pv.Sync, Shape84) + "\n"
	}
	return row
}

// short prints a size as df -h does: "4.0G", "151M".
func short(n int64) string {
	if n <= 0 {
		return "0"
	}
	value, unit := float64(n)/kib, 0
	for value >= kib && unit < len("KMGTPE")-1 {
		value, unit = value/kib, unit+1
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f%c", value, "KMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f%c", value, "KMGTPE"[unit])
}
