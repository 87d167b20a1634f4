package face

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"drship/internal/state"
)

// StatusOptions choose what Status shows.
type StatusOptions struct {
	Verbose    bool
	Statistics bool
	Shape      Shape // Shape9, or the older one's as drbdsetup-84 prints it
	Ours       bool  // lines for journal, lag, rate and errors, which DRBD does not have
	Width      int   // columns to wrap at, 0 for 80
}

// Status writes what `drbdadm status` prints, with an empty line behind each resource.
func Status(w io.Writer, rs []Resource, o StatusOptions) error {
	if o.Width <= 0 {
		o.Width = 80
	}
	if o.Shape != Shape9 {
		o.Shape = Shape84
	}
	s := &statusWriter{o: o}
	for i := range rs {
		s.resource(&rs[i])
	}
	return write(w, &s.b)
}

// statusWriter wraps words: a word that would pass the width begins a new line at the indent of its object.
type statusWriter struct {
	b      bytes.Buffer
	o      StatusOptions
	column int
}

// put writes a word; at the start of a line the indent stands before it, else a blank.
func (s *statusWriter) put(indent int, format string, args ...any) {
	word := fmt.Sprintf(format, args...)
	if s.column > 0 && s.column+1+len(word) > s.o.Width {
		s.end()
	}
	if s.column == 0 {
		s.b.WriteString(strings.Repeat(" ", indent))
		s.column = indent
	} else {
		s.b.WriteByte(' ')
		s.column++
	}
	s.b.WriteString(word)
	s.column += len(word)
}

func (s *statusWriter) end() {
	s.b.WriteByte('\n')
	s.column = 0
}

// words puts several words at one indent.
func (s *statusWriter) words(indent int, fields []Field) {
	for _, f := range fields {
		s.put(indent, "%s:%s", f.Key, f.Value)
	}
}

func (s *statusWriter) nine() bool { return s.o.Shape == Shape9 }

func (s *statusWriter) resource(r *Resource) {
	s.put(0, "%s", r.Name)
	if s.o.Verbose && s.nine() {
		s.put(4, "node-id:%d", r.NodeID)
	}
	s.put(4, "role:%s", r.Role)
	if s.o.Verbose || r.Suspended.Any() {
		s.put(4, "suspended:%s", r.Suspended)
	}
	if s.o.Verbose && s.nine() {
		s.put(4, "force-io-failures:no")
	}
	if s.o.Statistics && (s.o.Verbose || !s.nine()) {
		s.end()
		s.put(4, "write-ordering:%s", r.WriteOrdering)
	}
	s.end()
	s.journal(r)
	for i := range r.Volumes {
		s.volume(r, &r.Volumes[i])
	}
	for i := range r.Peers {
		s.peer(r, &r.Peers[i])
	}
	s.end()
}

func (s *statusWriter) journal(r *Resource) {
	j := r.Journal
	if !s.o.Ours || j == (JournalStatus{}) {
		return
	}
	s.put(4, "journal:%s", strings.ReplaceAll(Bytes(j.Bytes), " ", ""))
	if j.Max > 0 {
		s.put(4, "max:%s", strings.ReplaceAll(Bytes(j.Max), " ", ""))
	}
	s.put(4, "records:%d", j.Records)
	if j.Mode != "" {
		s.put(4, "mode:%s", j.Mode)
	}
	s.end()
}

// plain reports whether volume numbers go without saying.
func (s *statusWriter) plain(r *Resource, number uint16) bool {
	return !s.o.Verbose && len(r.Volumes) == 1 && number == 0
}

func (s *statusWriter) volume(r *Resource, v *Volume) {
	indent := 2
	if !s.plain(r, v.Number) {
		s.put(indent, "volume:%d", v.Number)
		indent = 6
		if s.o.Verbose {
			s.put(indent, "minor:%d", v.Minor)
		}
	}
	s.put(indent, "disk:%s", v.Disk)
	if s.nine() {
		if v.Disk == state.Diskless {
			s.put(indent, "client:no")
		}
		if s.o.Verbose {
			s.put(indent, "backing_dev:%s", backing(v))
		}
		if s.o.Verbose || !v.Quorum {
			s.put(indent, "quorum:%s", yesNo(v.Quorum))
		}
		s.put(indent, "open:%s", yesNo(v.Open))
	}
	if s.o.Statistics {
		s.end()
		for _, f := range volumeStatistics(v) {
			if s.nine() && !s.o.Verbose && f.Key != "read" && f.Key != "written" {
				continue
			}
			s.put(6, "%s:%s", f.Key, f.Value)
		}
	}
	if s.o.Verbose || v.UpperBlocked || v.LowerBlocked {
		s.put(6, "blocked:%s", blocked(v))
	}
	s.end()
	if s.o.Ours && len(v.Clients) > 0 && s.o.Verbose {
		s.put(6, "clients:%s", strings.Join(v.Clients, ","))
		s.end()
	}
}

func backing(v *Volume) string {
	if v.Backing == "" {
		return "none"
	}
	return v.Backing
}

// volumeStatistics are a volume's counters in DRBD's order.
func volumeStatistics(v *Volume) []Field {
	return []Field{
		number("size", uint64(v.Size)/kib), number("read", v.Read/kib), number("written", v.Written/kib),
		number("al-writes", v.ALWrites), number("bm-writes", v.BMWrites),
		number("upper-pending", v.UpperPending), number("lower-pending", v.LowerPending),
		{Key: "al-suspended", Value: yesNo(v.ALSuspended)},
	}
}

func number(key string, n uint64) Field { return Field{Key: key, Value: fmt.Sprint(n)} }

func (s *statusWriter) peer(r *Resource, p *Peer) {
	if !s.nine() && p.Conn == state.StandAlone {
		return // 8.4 forgets a connection that stands alone
	}
	name := p.Name
	if !s.nine() && len(r.Peers) == 1 {
		name = "peer" // 8.4 has no other name for it
	}
	s.put(2, "%s", name)
	if s.nine() && s.o.Verbose {
		s.put(6, "node-id:%d", p.NodeID)
	}
	if s.o.Verbose || !connected(p) {
		s.put(6, "connection:%s", connection9(p.Conn))
	}
	if s.o.Verbose || connected(p) {
		s.put(6, "role:%s", p.Role)
		if s.nine() && (s.o.Verbose || p.TLS) {
			s.put(6, "tls:%s", yesNo(p.TLS))
		}
	}
	if s.o.Verbose || p.Congested {
		s.put(6, "congested:%s", yesNo(p.Congested))
		if s.nine() {
			s.put(6, "ap-in-flight:%d", p.APInFlight/kib)
			s.put(6, "rs-in-flight:%d", p.RSInFlight/kib)
		}
	}
	s.end()
	s.link(p)
	if !s.o.Verbose && !s.o.Statistics && !connected(p) {
		return
	}
	for i := range p.Volumes {
		s.peerVolume(r, p, &p.Volumes[i])
	}
}

// link is our line for a peer: how far it is behind, and what last ended the connection.
func (s *statusWriter) link(p *Peer) {
	if !s.o.Ours {
		return
	}
	if p.LagTime > 0 || p.LagBytes > 0 || s.o.Verbose {
		s.put(6, "lag:%s", p.LagTime.Round(time.Millisecond))
		s.put(6, "lag-bytes:%s", strings.ReplaceAll(Bytes(p.LagBytes), " ", ""))
	}
	if s.o.Verbose && connected(p) {
		s.put(6, "protocol:%c", max(p.Protocol, '-'))
		s.put(6, "rtt:%s", p.RTT.Round(time.Microsecond))
		s.put(6, "wire-sent:%s", strings.ReplaceAll(Bytes(int64(p.BytesSent)), " ", ""))
		s.put(6, "wire-received:%s", strings.ReplaceAll(Bytes(int64(p.BytesReceived)), " ", ""))
	}
	if s.column > 0 {
		s.end()
	}
	if (s.o.Verbose || s.o.Statistics) && connected(p) && p.Shipped.Written > 0 {
		s.shipped(&p.Shipped)
	}
	if p.Error != "" && !connected(p) {
		s.put(6, "error:%q", p.Error)
		s.end()
	}
}

// shipped is our line for what became of the writes on their way to a peer.
func (s *statusWriter) shipped(b *Shipped) {
	for _, f := range []struct {
		key string
		n   uint64
	}{{"shipped-written", b.Written}, {"folded", b.Folded}, {"reduced", b.Reduced}, {"packed", b.Packed}, {"wire", b.Wire},
		{"from-cache", b.FromCache}, {"from-disk", b.FromDisk}} {
		s.put(6, "%s:%s", f.key, strings.ReplaceAll(Bytes(int64(f.n)), " ", ""))
	}
	s.put(6, "ratio:%.1f", b.Ratio())
	if b.Effort != "" {
		s.put(6, "effort:%s", b.Effort)
	}
	s.end()
}

func (s *statusWriter) peerVolume(r *Resource, p *Peer, v *PeerVolume) {
	indent := 4
	if !s.plain(r, v.Number) {
		s.put(indent, "volume:%d", v.Number)
		indent = 8
	}
	conn := p.VolumeConn(v)
	if s.o.Verbose || conn > state.Connected || !s.nine() && conn == state.Connected {
		s.put(indent, "replication:%s", replication9(conn))
		indent = 8
	}
	if s.o.Verbose || s.o.Statistics || conn >= state.Connected || v.Disk != state.DUnknown {
		s.put(indent, "peer-disk:%s", v.Disk)
		indent = 8
		if s.nine() && v.Disk == state.Diskless {
			s.put(indent, "peer-client:no")
		}
		if d := done(r, v, conn, s.o.Shape); d != "" {
			s.put(indent, "done:%s", d)
		}
		if s.o.Verbose || v.Flags.Any() {
			s.put(indent, "resync-suspended:%s", v.Flags)
		}
		if s.o.Statistics {
			s.end()
			s.words(indent, s.peerStatistics(v))
		}
	}
	s.end()
	if s.o.Ours && v.Sync != nil {
		s.progress(v.Sync)
	}
}

func (s *statusWriter) progress(p *Progress) {
	s.put(8, "rate:%s/s", strings.ReplaceAll(Bytes(p.Rate), " ", ""))
	if p.Want > 0 {
		s.put(8, "want:%s/s", strings.ReplaceAll(Bytes(p.Want), " ", ""))
	}
	s.put(8, "eta:%s", strings.ReplaceAll(strings.TrimSuffix(timeLeft(p), " left"), " ", "-"))
	if p.Why != "" {
		s.put(8, "why:%q", p.Why)
	}
	s.end()
}

// done is the per cent of a resync or verify, "" outside of one. 8.4 counted what is in sync of the whole volume.
func done(r *Resource, v *PeerVolume, conn state.Conn, shape Shape) string {
	if conn < state.SyncSource || conn > state.PausedSyncT {
		return ""
	}
	if shape == Shape9 && v.Sync != nil && v.Sync.Total > 0 {
		return percentDone(v.Sync)
	}
	return inSync(r, v)
}

func percentDone(p *Progress) string {
	if p.Total == 0 {
		return "0.00"
	}
	return fmt.Sprintf("%.2f", 100*float64(p.Total-min(p.Left, p.Total))/float64(p.Total))
}

// inSync is the per cent of the volume that is not marked as different.
func inSync(r *Resource, v *PeerVolume) string {
	for i := range r.Volumes {
		if size := r.Volumes[i].Size; r.Volumes[i].Number == v.Number && size > 0 {
			return fmt.Sprintf("%.2f", 100*(1-float64(v.OutOfSync)/float64(size)))
		}
	}
	return "0.00"
}

// peerVolumeStatistics are the counters of a peer's volume in DRBD's order.
func peerVolumeStatistics(v *PeerVolume) []Field {
	return []Field{
		number("received", v.Received/kib), number("sent", v.Sent/kib), number("out-of-sync", v.OutOfSync/kib),
		number("pending", v.Pending), number("unacked", v.Unacked),
	}
}

// peerStatistics are those that the options ask for.
func (s *statusWriter) peerStatistics(v *PeerVolume) []Field {
	all := peerVolumeStatistics(v)
	switch {
	case !s.nine():
		return all
	case !s.o.Verbose && v.OutOfSync == 0:
		return all[:2]
	case !s.o.Verbose:
		return all[:3]
	}
	if p := v.Sync; p != nil {
		all = append(all, Field{Key: "dbdt1", Value: fmt.Sprintf("%.2f", float64(p.Rate)/(1<<20))}, Field{Key: "eta", Value: etaSeconds(p)})
	}
	return all
}

func etaSeconds(p *Progress) string {
	if p.ETA < 0 {
		return "nan"
	}
	return fmt.Sprintf("%.0f", p.ETA.Seconds())
}
