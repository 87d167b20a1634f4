// Package face renders DRBD's output formats from one model of what a node runs: /proc/drbd, status, events2, JSON,
// drbd-overview and the one-line answers. It is pure: the caller takes a snapshot, the functions write text.
//
// Sizes and counters are bytes in the model and KiB in DRBD's texts, as in DRBD. What DRBD has no word for (lag, journal)
// stands beside its own fields and is left out where a script expects DRBD's text alone.
package face

import (
	"time"

	"drship/internal/state"
)

// Resource is a snapshot of one resource.
type Resource struct {
	Name   string
	Role   state.Role
	NodeID int

	// Suspended says why application I/O is frozen; all false means that it runs.
	Suspended Suspended

	WriteOrdering WriteOrdering
	Volumes       []Volume // by number
	Peers         []Peer   // by node id
	Journal       JournalStatus

	// Helper is the last handler that ran; the zero value means none since the daemon started.
	Helper Helper

	// PassedSeq is the newest number of what Peers and Volumes say has passed.
	PassedSeq uint64
}

// Suspended says why application I/O is frozen.
type Suspended struct {
	User    bool // suspend-io
	NoData  bool // no UpToDate data within reach
	Fencing bool // the fence-peer handler has not answered yet
	Quorum  bool
}

// Any reports whether I/O is frozen for any reason.
func (s Suspended) Any() bool { return s.User || s.NoData || s.Fencing || s.Quorum }

// WriteOrdering is how write order is kept on the backing disk.
type WriteOrdering uint8

// The methods; drship always flushes, the others are for readers of other people's states.
const (
	OrderFlush WriteOrdering = iota
	OrderNone
	OrderDrain
	OrderBarrier
)

// JournalStatus is the fill of a resource's journal.
type JournalStatus struct {
	Bytes, Max int64  // bytes held; the limit, 0 for none
	Records    uint64 // records held
	Mode       string // "journal", "resync", "ahead": how the peers are served; "" when nothing is shipped
}

// Volume is one volume of a resource as this node has it.
type Volume struct {
	Number  uint16
	Minor   int
	Device  string // "/dev/drbd0", or the export's name
	Backing string // path of the backing disk, "" when diskless
	Disk    state.Disk
	Size    int64 // bytes

	Read, Written              uint64 // bytes read from and written to the backing disk
	ALWrites, BMWrites         uint64 // updates of activity log and bitmap
	UpperPending, LowerPending uint64 // requests of applications, and to the backing disk, not completed
	ALSuspended                bool   // the activity log is not updated (nothing to protect yet)
	UpperBlocked, LowerBlocked bool   // requests wait inside drship; the backing disk is congested

	Open    bool     // a client has the export open
	Clients []string // who: addresses, or process ids on the unix socket
	Quorum  bool     // this node may write; true where quorum is off
	Passed  []PassedDisk
	Mount   *Mount // for drbd-overview, nil where nothing is mounted
}

// Mount is a file system in use on a device.
type Mount struct {
	Dir, FS    string
	Size, Used int64 // bytes
}

// Peer is one peer of a resource.
type Peer struct {
	Name     string // conn-name: the peer's host name
	NodeID   int
	Conn     state.Conn // below Connected: the connection's state; at or above it: Connected, details are per volume
	Role     state.Role
	Protocol byte // 'A', 'B', 'C'; 0 without network configuration
	Volumes  []PeerVolume

	LagTime   time.Duration // age of the oldest acknowledged write that the peer has not staged
	LagBytes  int64
	Congested bool // the send window is full
	RTT       time.Duration
	Epochs    int // epochs in flight; 0 is printed as DRBD's resting value, 1

	BytesSent, BytesReceived uint64 // on the wire
	BytesRaw                 uint64 // what BytesSent stands for, before folding and compression
	Shipped                  Shipped
	APInFlight, RSInFlight   uint64 // bytes of application and of resync data sent and not acknowledged

	Local, Remote string // addresses, host:port
	TLS           bool
	Error         string // what last ended the connection, "" for nothing
	Passed        []PassedConn
}

// Shipped is what became of the writes that a session has shipped to a peer, in bytes, stage by stage. All zero where this side
// ships nothing.
type Shipped struct {
	Written uint64 // data of the records
	Folded  uint64 // left by folding, and without blocks of zeroes
	Reduced uint64 // left by differences and references, with what says where it goes
	Packed  uint64 // left by compression
	Wire    uint64 // in packets of the link: everything sent, resyncs and answers too

	FromCache uint64 // of Folded, taken from recent blocks
	FromDisk  uint64 // of Folded, taken from the peer's disk

	Effort string // how much is done at the moment: "raw", "fast", "reduce", "more", "most"; "" where the configuration says it
}

// Ratio is how many bytes written one byte packed stands for, 0 where nothing was shipped.
func (s *Shipped) Ratio() float64 {
	if s.Packed == 0 {
		return 0
	}
	return float64(s.Written) / float64(s.Packed)
}

// PeerVolume is one volume as it stands between this node and a peer.
type PeerVolume struct {
	Number uint16
	Disk   state.Disk
	Conn   state.Conn // replication state of this volume; below Connected while there is no link

	Sent, Received, OutOfSync uint64 // bytes
	Pending, Unacked          uint64 // requests

	Sync  *Progress // nil unless a resync or verify is on
	Flags SyncFlags
}

// SyncFlags says who holds a resync.
type SyncFlags struct {
	User, Peer, Dependency bool
}

// Any reports whether somebody holds the resync.
func (f SyncFlags) Any() bool { return f.User || f.Peer || f.Dependency }

// Progress is how far a resync or an online verify is.
type Progress struct {
	Verify      bool
	Total, Left uint64 // bytes
	Failed      uint64 // bytes that could not be read or written; they count as left for good
	Started     time.Time
	Rate        int64         // bytes/s over the last ~18 s
	AverageRate int64         // bytes/s since Started, pauses taken out
	Want        int64         // target rate of the controller, bytes/s; 0 for none
	ETA         time.Duration // negative: never at this rate
	Paused      time.Duration // since Started
	Stalled     bool          // no progress for 180 s
	Why         string        // what sets the rate, in words
	Position    uint64        // verify: bytes from the start of the volume
}

// Helper is one run of a handler, as events2 reports it.
type Helper struct {
	Seq    uint64 // counts runs; a change of it makes the events "call" and "response"
	Name   string // split-brain, before-resync-target, …
	Peer   int    // node id, -1 where the handler is not about a peer
	Volume int    // -1 where the handler is not about a volume
	Done   bool
	Status int // exit code
}

// VolumeConn is the state that 8.4 prints for a volume: the connection's while there is no link, else the volume's.
func (p *Peer) VolumeConn(v *PeerVolume) state.Conn {
	if p.Conn < state.Connected || v == nil || v.Conn < state.Connected {
		return p.Conn
	}
	return v.Conn
}

// Volume returns the peer's entry for a volume, nil where it has none.
func (p *Peer) Volume(number uint16) *PeerVolume {
	for i := range p.Volumes {
		if p.Volumes[i].Number == number {
			return &p.Volumes[i]
		}
	}
	return nil
}

// Only returns the resource with one volume, one peer, or both: RES/VOL, RES:PEER. A negative volume and an empty peer mean all.
func (r Resource) Only(volume int, peer string) Resource {
	var volumes []Volume
	for _, v := range r.Volumes {
		if volume < 0 || int(v.Number) == volume {
			volumes = append(volumes, v)
		}
	}
	var peers []Peer
	for _, p := range r.Peers {
		if peer != "" && p.Name != peer {
			continue
		}
		var of []PeerVolume
		for _, v := range p.Volumes {
			if volume < 0 || int(v.Number) == volume {
				of = append(of, v)
			}
		}
		p.Volumes = of
		peers = append(peers, p)
	}
	r.Volumes, r.Peers = volumes, peers
	return r
}
