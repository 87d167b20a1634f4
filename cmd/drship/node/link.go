package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/wan"
	"drship/wan/fec"
)

// linkFace is what is told of the link to a peer. Bytes count since the session came up, on this side.
type linkFace struct {
	Resource  string  `json:"resource"`
	Peer      string  `json:"peer"`
	State     string  `json:"connection-state"`
	Local     string  `json:"local,omitempty"`
	Remote    string  `json:"remote,omitempty"`
	RTT       float64 `json:"rtt-ms"`
	MinRTT    float64 `json:"rtt-min-ms"`
	Loss      float64 `json:"loss-percent"`
	Stripes   int     `json:"stripes"` // in use for what this side sends; 0: the session's own connection does it
	Up        int     `json:"stripes-up"`
	Most      int     `json:"stripes-max"`
	Rate      uint64  `json:"delivery-rate"` // bytes a second
	Window    uint64  `json:"window"`        // bytes that may be on their way
	Ceiling   uint64  `json:"ceiling"`       // bytes a second, 0 for none
	Level     string  `json:"compression"`
	Ratio     float64 `json:"ratio"` // bytes written to bytes shipped; 0 where nothing was shipped
	Records   uint64  `json:"bytes-records"`
	Packed    uint64  `json:"bytes-records-packed"`
	Folded    uint64  `json:"bytes-records-folded"`     // left by folding
	Reduced   uint64  `json:"bytes-records-reduced"`    // left by differences and references
	Cache     uint64  `json:"bytes-records-from-cache"` // of those folded, taken from recent blocks
	Disk      uint64  `json:"bytes-records-from-disk"`  // of those folded, taken from the peer's disk
	Resync    uint64  `json:"bytes-resync"`
	ResyncPkd uint64  `json:"bytes-resync-packed"`
	Data      uint64  `json:"bytes-data-lane"`
	Control   uint64  `json:"bytes-control-lane"`
	Twice     uint64  `json:"bytes-sent-twice"` // over another stripe, because the first did not get on
	Rows      int     `json:"parity-rows"`      // behind each group of packets; 0: off
	Parity    uint64  `json:"bytes-parity"`
	Repaired  uint64  `json:"packets-repaired"` // by the peer, of those below
	Lost      uint64  `json:"packets-lost"`     // while there was parity
	Wire      uint64  `json:"bytes-wire"`
	WireRecv  uint64  `json:"bytes-wire-received"`
}

// linkFace collects it. Called without mu.
func (r *Resource) linkFace(p *peer) linkFace {
	r.mu.Lock()
	s, w := p.session, p.cfg.WAN
	f := linkFace{Resource: r.name, Peer: p.name, State: p.conn.String(), Most: w.MaxStripes, Level: levelName(w)}
	r.mu.Unlock()
	if s == nil {
		return f
	}
	st := s.link.Stats()
	f.Local, f.Remote = s.link.LocalAddr().String(), s.link.RemoteAddr().String()
	f.RTT, f.MinRTT = millis(st.RTT), millis(st.MinRTT)
	if st.PacketsSent > 0 {
		f.Loss = 100 * float64(st.PacketsLost) / float64(st.PacketsSent)
	}
	f.Stripes, f.Up, f.Rate, f.Window, f.Ceiling = min(st.Wanted, st.Stripes), st.Stripes, st.Rate, st.Window, st.Ceiling
	f.Data, f.Control, f.Twice = st.DataSent, st.PayloadSent-st.DataSent, st.Resent
	f.Wire, f.WireRecv = st.WireSent, st.WireReceived
	f.Rows, f.Parity, f.Repaired, f.Lost = st.Parity.Rows, st.Parity.Sent, st.Parity.Repaired, st.Parity.Lost
	if src := s.currentSource(); src != nil {
		c := src.stream.Stats()
		f.Records, f.Packed = c.BytesRaw.Load(), c.BytesPacked.Load()
		by := shipped(src.stream, st.WireSent)
		f.Folded, f.Reduced, f.Cache, f.Disk = by.Folded, by.Reduced, by.FromCache, by.FromDisk
		if by.Effort != "" {
			f.Level += ", effort " + by.Effort
		}
		f.Resync, f.ResyncPkd = c.ResyncBytes.Load(), c.ResyncPacked.Load()
		if packed := f.Packed + f.ResyncPkd; packed > 0 {
			f.Ratio = float64(f.Records+f.Resync) / float64(packed)
		}
	}
	return f
}

func levelName(w config.WAN) string {
	if w.Level > 0 {
		return fmt.Sprintf("%s, level %d", w.Compression, w.Level)
	}
	return w.Compression
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// parity tells of what is repaired below QUIC.
func (f *linkFace) parity() string {
	text := "off"
	if f.Rows > 0 {
		text = fmt.Sprintf("%d packets behind %d", f.Rows, fec.GroupSize)
	}
	if f.Parity > 0 {
		text += fmt.Sprintf("; %s sent, %d of %d lost packets repaired", bytesText(f.Parity), f.Repaired, f.Lost)
	}
	return text
}

// lines prints it for a reader.
func (f *linkFace) lines() []string {
	if f.Remote == "" {
		return []string{fmt.Sprintf("%s to %s: %s, no link", f.Resource, f.Peer, f.State)}
	}
	stripes := "none: the session's own connection carries it"
	if f.Up > 0 {
		stripes = fmt.Sprintf("%d in use, %d up, %d at most", f.Stripes, f.Up, f.Most)
	}
	ceiling := "none"
	if f.Ceiling > 0 {
		ceiling = bytesText(f.Ceiling) + "/s"
	}
	out := []string{
		fmt.Sprintf("%s to %s: %s, %s to %s", f.Resource, f.Peer, f.State, f.Local, f.Remote),
		fmt.Sprintf("  round trip      %.1f ms, shortest %.1f ms", f.RTT, f.MinRTT),
		fmt.Sprintf("  loss            %.3f %% of packets sent", f.Loss),
		"  stripes         " + stripes,
		"  parity          " + f.parity(),
		"  delivery rate   " + bytesText(f.Rate) + "/s",
		"  window          " + bytesText(f.Window),
		"  ceiling         " + ceiling,
		"  compression     " + f.Level,
	}
	if f.Ratio > 0 {
		out = append(out, fmt.Sprintf("  ratio           %.2f written to one shipped", f.Ratio),
			fmt.Sprintf("  records         %s, shipped as %s", bytesText(f.Records), bytesText(f.Packed)),
			fmt.Sprintf("  of these        folded to %s, by differences and references to %s (%s from recent blocks, %s from the peer's disk)",
				bytesText(f.Folded), bytesText(f.Reduced), bytesText(f.Cache), bytesText(f.Disk)),
			fmt.Sprintf("  resync          %s, shipped as %s", bytesText(f.Resync), bytesText(f.ResyncPkd)))
	}
	return append(out,
		fmt.Sprintf("  sent            data %s, control %s, twice %s, on the wire %s", bytesText(f.Data), bytesText(f.Control), bytesText(f.Twice), bytesText(f.Wire)),
		fmt.Sprintf("  received        on the wire %s", bytesText(f.WireRecv)))
}

// bytesText prints a number of bytes with three digits.
func bytesText(n uint64) string {
	v, unit := float64(n), 0
	for v >= 999.5 && unit < 5 {
		v /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3g %cB", v, " kMGTP"[unit])
}

// verbLinkStatus tells of the links to the named peers.
func verbLinkStatus(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	r.mu.Lock()
	peers := slices.Clone(r.peers)
	r.mu.Unlock()
	var out []string
	for _, p := range peers {
		if !named(peerNames(q), p.name) {
			continue
		}
		f := r.linkFace(p)
		if !q.Yes("json") {
			out = append(out, f.lines()...)
			continue
		}
		b, err := json.Marshal(f)
		if err != nil {
			return nil, fmt.Errorf("print link to %s: %w", p.name, err)
		}
		out = append(out, string(b))
	}
	return out, nil
}

const (
	probeCount = 20
	probeEvery = 100 * time.Millisecond
	probeWait  = 10 * time.Second // for the last answers
)

// verbLinkProbe measures the links to the named peers.
func verbLinkProbe(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeCount*probeEvery+probeWait)
	defer cancel()
	var out []string
	for _, s := range r.sessions() {
		if !named(peerNames(q), s.peer.name) {
			continue
		}
		p, err := s.link.Probe(ctx, probeCount, probeEvery)
		if err != nil {
			return nil, err
		}
		s.line.again()
		out = append(out, probeLines(r.name, s.peer.name, p, r.lineRate(s))...)
	}
	if len(out) == 0 {
		return nil, &refused{text: "there is no link to probe", hint: "Connect first: drship connect " + r.name}
	}
	return out, nil
}

func probeLines(resource, peer string, p wan.Probed, ceiling int64) []string {
	out := []string{
		fmt.Sprintf("%s to %s: %d of %d probes answered", resource, peer, p.Answered, p.Sent),
		fmt.Sprintf("  round trip      %.2f ms at least, %.2f ms median, %.2f ms at most", millis(p.Shortest), millis(p.Median), millis(p.Longest)),
		fmt.Sprintf("  loss            %.3f %% of packets sent since the link came up", 100*p.Loss),
	}
	if p.One <= 0 {
		return append(out, "  one connection  is not limited by loss")
	}
	out = append(out, "  one connection  carries about "+bytesText(uint64(p.One))+"/s with that loss")
	if ceiling > 0 {
		out = append(out, fmt.Sprintf("  the ceiling     of %s/s takes %d", bytesText(uint64(ceiling)), p.Needs(float64(ceiling), maxNeeds)))
	}
	return out
}

// maxNeeds bounds what a probe says of connections.
const maxNeeds = 1000
