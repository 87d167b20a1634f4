package face

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// StatusJSON writes the state as `drbdsetup status --json` of DRBD 9 does: its keys in its order, sizes and counters in KiB, positions of
// a resync or verify in sectors of 512 bytes. What is ours stands under one key, "drship", in a resource, device, connection or peer
// device, in bytes, bytes per second and milliseconds.
func StatusJSON(w io.Writer, rs []Resource) error {
	out := make([]resourceJSON, len(rs))
	for i := range rs {
		out[i] = newResourceJSON(&rs[i])
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

type resourceJSON struct {
	Name             string           `json:"name"`
	NodeID           int              `json:"node-id"`
	Role             string           `json:"role"`
	Suspended        bool             `json:"suspended"`
	SuspendedUser    bool             `json:"suspended-user"`
	SuspendedNoData  bool             `json:"suspended-no-data"`
	SuspendedFencing bool             `json:"suspended-fencing"`
	SuspendedQuorum  bool             `json:"suspended-quorum"`
	ForceIOFailures  bool             `json:"force-io-failures"`
	WriteOrdering    string           `json:"write-ordering"`
	Devices          []deviceJSON     `json:"devices"`
	Connections      []connectionJSON `json:"connections"`
	Ours             journalJSON      `json:"drship"`
}

type journalJSON struct {
	Bytes   int64  `json:"journal-bytes"`
	Max     int64  `json:"journal-max-bytes"` // 0: no limit
	Records uint64 `json:"journal-records"`
	Mode    string `json:"journal-mode"`
}

type deviceJSON struct {
	Volume       uint16     `json:"volume"`
	Minor        int        `json:"minor"`
	DiskState    string     `json:"disk-state"`
	Client       bool       `json:"client"`
	Open         bool       `json:"open"`
	Quorum       bool       `json:"quorum"`
	Size         int64      `json:"size"`
	Read         uint64     `json:"read"`
	Written      uint64     `json:"written"`
	ALWrites     uint64     `json:"al-writes"`
	BMWrites     uint64     `json:"bm-writes"`
	UpperPending uint64     `json:"upper-pending"`
	LowerPending uint64     `json:"lower-pending"`
	Ours         volumeJSON `json:"drship"`
}

type volumeJSON struct {
	Device  string   `json:"device"`
	Backing string   `json:"backing-disk"`
	Clients []string `json:"clients"`
}

type connectionJSON struct {
	PeerNodeID  int              `json:"peer-node-id"`
	Name        string           `json:"name"`
	State       string           `json:"connection-state"`
	Congested   bool             `json:"congested"`
	PeerRole    string           `json:"peer-role"`
	TLS         bool             `json:"tls"`
	APInFlight  uint64           `json:"ap-in-flight"`
	RSInFlight  uint64           `json:"rs-in-flight"`
	Paths       []pathJSON       `json:"paths"`
	PeerDevices []peerDeviceJSON `json:"peer_devices"`
	Ours        linkJSON         `json:"drship"`
}

type linkJSON struct {
	Conn         string  `json:"cstate"` // 8.4's one word
	Protocol     string  `json:"protocol"`
	LagMS        float64 `json:"lag-ms"`
	LagBytes     int64   `json:"lag-bytes"`
	RTTMS        float64 `json:"rtt-ms"`
	WireSent     uint64  `json:"wire-sent-bytes"`
	WireSentRaw  uint64  `json:"wire-sent-raw-bytes"` // what they stand for, before folding and compression
	WireReceived uint64  `json:"wire-received-bytes"`
	LastError    string  `json:"last-error"`
	Connected    bool    `json:"connected"`

	Shipped shippedJSON `json:"shipped"`
}

// shippedJSON is Shipped under its names, in bytes.
type shippedJSON struct {
	Written   uint64 `json:"written-bytes"`
	Folded    uint64 `json:"folded-bytes"`
	Reduced   uint64 `json:"reduced-bytes"`
	Packed    uint64 `json:"packed-bytes"`
	Wire      uint64 `json:"wire-bytes"`
	FromCache uint64 `json:"from-cache-bytes"`
	FromDisk  uint64 `json:"from-disk-bytes"`
	Effort    string `json:"effort"`
}

func newShippedJSON(s *Shipped) shippedJSON {
	return shippedJSON{Written: s.Written, Folded: s.Folded, Reduced: s.Reduced, Packed: s.Packed, Wire: s.Wire,
		FromCache: s.FromCache, FromDisk: s.FromDisk, Effort: s.Effort}
}

type pathJSON struct {
	This        addressJSON `json:"this_host"`
	Remote      addressJSON `json:"remote_host"`
	Established bool        `json:"established"`
}

type addressJSON struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
	Family  string `json:"family"`
}

func newAddressJSON(hostPort string) addressJSON {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return addressJSON{Address: hostPort}
	}
	a := addressJSON{Address: host, Family: "ipv4"}
	if strings.Contains(host, ":") {
		a.Family = "ipv6"
	}
	a.Port, _ = strconv.Atoi(port) // a service's name has no number here
	return a
}

type peerDeviceJSON struct {
	Volume           uint16      `json:"volume"`
	ReplicationState string      `json:"replication-state"`
	PeerDiskState    string      `json:"peer-disk-state"`
	PeerClient       bool        `json:"peer-client"`
	ResyncSuspended  string      `json:"resync-suspended"`
	Received         uint64      `json:"received"`
	Sent             uint64      `json:"sent"`
	OutOfSync        uint64      `json:"out-of-sync"`
	Pending          uint64      `json:"pending"`
	Unacked          uint64      `json:"unacked"`
	HasSync          bool        `json:"has-sync-details"`
	HasVerify        bool        `json:"has-online-verify-details"`
	PercentInSync    json.Number `json:"percent-in-sync"`
	*progressJSON                // only with has-sync-details
	Ours             *paceJSON   `json:"drship,omitempty"`
}

// progressJSON is a resync or verify. DRBD's averages db0/dt0 (about 18 s) and db1/dt1 (about 3 s) are here the same one.
type progressJSON struct {
	Total     uint64      `json:"rs-total"`
	SinceMS   int64       `json:"rs-dt-start-ms"`
	PausedMS  int64       `json:"rs-paused-ms"`
	DT0       int64       `json:"rs-dt0-ms"`
	DB0       uint64      `json:"rs-db0-sectors"`
	DT1       int64       `json:"rs-dt1-ms"`
	DB1       uint64      `json:"rs-db1-sectors"`
	OVStart   *uint64     `json:"ov-start-sector,omitempty"`
	OVStop    *int64      `json:"ov-stop-sector,omitempty"`
	OVPos     *uint64     `json:"ov-position,omitempty"`
	OVLeft    *uint64     `json:"ov-left,omitempty"`
	OVSkipped *uint64     `json:"ov-skipped,omitempty"`
	Failed    *uint64     `json:"rs-failed,omitempty"`
	SameCsum  *uint64     `json:"rs-same-csum,omitempty"`
	Want      json.Number `json:"want"`
	Rate0     json.Number `json:"db0/dt0 [MiB/s]"`
	Rate1     json.Number `json:"db1/dt1 [MiB/s]"`
	ETA       int64       `json:"estimated-seconds-to-finish"`
	Average   json.Number `json:"db/dt [MiB/s]"`
	Percent   json.Number `json:"percent-resync-done"`
}

type paceJSON struct {
	Rate    int64  `json:"rate"`
	Average int64  `json:"average-rate"`
	Want    int64  `json:"want-rate"`
	ETAMS   int64  `json:"eta-ms"` // -1: never at this rate
	Stalled bool   `json:"stalled"`
	Why     string `json:"why"`
	Started string `json:"started"` // RFC 3339
}

func newResourceJSON(r *Resource) resourceJSON {
	out := resourceJSON{
		Name: r.Name, NodeID: r.NodeID, Role: r.Role.String(),
		Suspended: r.Suspended.Any(), SuspendedUser: r.Suspended.User, SuspendedNoData: r.Suspended.NoData,
		SuspendedFencing: r.Suspended.Fencing, SuspendedQuorum: r.Suspended.Quorum,
		WriteOrdering: r.WriteOrdering.String(), Devices: []deviceJSON{}, Connections: []connectionJSON{},
		Ours: journalJSON{Bytes: r.Journal.Bytes, Max: r.Journal.Max, Records: r.Journal.Records, Mode: r.Journal.Mode},
	}
	for i := range r.Volumes {
		v := &r.Volumes[i]
		out.Devices = append(out.Devices, deviceJSON{
			Volume: v.Number, Minor: v.Minor, DiskState: v.Disk.String(), Open: v.Open, Quorum: v.Quorum,
			Size: v.Size / kib, Read: v.Read / kib, Written: v.Written / kib, ALWrites: v.ALWrites, BMWrites: v.BMWrites,
			UpperPending: v.UpperPending, LowerPending: v.LowerPending,
			Ours: volumeJSON{Device: v.Device, Backing: v.Backing, Clients: append([]string{}, v.Clients...)},
		})
	}
	for i := range r.Peers {
		out.Connections = append(out.Connections, newConnectionJSON(r, &r.Peers[i]))
	}
	return out
}

func newConnectionJSON(r *Resource, p *Peer) connectionJSON {
	c := connectionJSON{
		PeerNodeID: p.NodeID, Name: p.Name, State: connection9(p.Conn), Congested: p.Congested, PeerRole: p.Role.String(), TLS: p.TLS,
		APInFlight: p.APInFlight / kib, RSInFlight: p.RSInFlight / kib, Paths: []pathJSON{}, PeerDevices: []peerDeviceJSON{},
		Ours: linkJSON{
			Conn: p.Conn.String(), LagMS: milliseconds(p.LagTime), LagBytes: p.LagBytes, RTTMS: milliseconds(p.RTT),
			WireSent: p.BytesSent, WireSentRaw: p.BytesRaw, WireReceived: p.BytesReceived, LastError: p.Error, Connected: connected(p), Shipped: newShippedJSON(&p.Shipped),
		},
	}
	if p.Protocol != 0 {
		c.Ours.Protocol = string(p.Protocol)
	}
	if p.Local != "" && p.Remote != "" {
		c.Paths = append(c.Paths, pathJSON{This: newAddressJSON(p.Local), Remote: newAddressJSON(p.Remote), Established: connected(p)})
	}
	for i := range p.Volumes {
		c.PeerDevices = append(c.PeerDevices, newPeerDeviceJSON(r, p, &p.Volumes[i]))
	}
	return c
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

func newPeerDeviceJSON(r *Resource, p *Peer, v *PeerVolume) peerDeviceJSON {
	out := peerDeviceJSON{
		Volume: v.Number, ReplicationState: replication9(p.VolumeConn(v)), PeerDiskState: v.Disk.String(), ResyncSuspended: v.Flags.String(),
		Received: v.Received / kib, Sent: v.Sent / kib, OutOfSync: v.OutOfSync / kib, Pending: v.Pending, Unacked: v.Unacked,
		PercentInSync: json.Number(inSync(r, v)),
	}
	if s := v.Sync; s != nil && s.Total > 0 {
		out.HasSync, out.HasVerify = true, s.Verify
		out.progressJSON = newProgressJSON(s)
		out.Ours = &paceJSON{Rate: s.Rate, Average: s.AverageRate, Want: s.Want, ETAMS: etaMS(s), Stalled: s.Stalled, Why: s.Why, Started: s.Started.Format(time.RFC3339Nano)}
	}
	return out
}

func etaMS(p *Progress) int64 {
	if p.ETA < 0 {
		return -1
	}
	return p.ETA.Milliseconds()
}

// sinceMS recovers how long a resync runs from its average, because a snapshot has no clock.
func sinceMS(p *Progress) int64 {
	if p.AverageRate <= 0 {
		return p.Paused.Milliseconds()
	}
	done := p.Total - min(p.Left, p.Total)
	return int64(float64(done)*1000/float64(p.AverageRate)) + p.Paused.Milliseconds()
}

func newProgressJSON(s *Progress) *progressJSON {
	const sector, window = 512, 18_000 // bytes, ms
	mib := func(bytesPerSecond int64) json.Number {
		return json.Number(fmt.Sprintf("%.2f", float64(bytesPerSecond)/(1<<20)))
	}
	out := &progressJSON{
		Total: s.Total / sector, SinceMS: sinceMS(s), PausedMS: s.Paused.Milliseconds(),
		DT0: window, DB0: uint64(max(s.Rate, 0)) * window / 1000 / sector, DT1: window, DB1: uint64(max(s.Rate, 0)) * window / 1000 / sector,
		Want: mib(s.Want), Rate0: mib(s.Rate), Rate1: mib(s.Rate), Average: mib(s.AverageRate),
		ETA: int64(s.ETA.Seconds()), Percent: json.Number(percentDone(s)),
	}
	if s.ETA < 0 {
		out.ETA = 987654321 // DRBD's word for never
	}
	left, position, none, unlimited, failed := s.Left/sector, s.Position/sector, uint64(0), int64(-1), s.Failed/sector
	if s.Verify {
		out.OVStart, out.OVStop, out.OVPos, out.OVLeft, out.OVSkipped = &none, &unlimited, &position, &left, &none
	} else {
		out.Failed, out.SameCsum = &failed, &none
	}
	return out
}
