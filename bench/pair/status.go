package pair

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Status is what a node says of the resource: the keys of `drship status --json` that the bench looks at.
type Status struct {
	Name        string       `json:"name"`
	Role        string       `json:"role"`
	Devices     []Device     `json:"devices"`
	Connections []Connection `json:"connections"`

	text string // as it was printed
}

// Device is a volume as the node has it.
type Device struct {
	Volume int    `json:"volume"`
	Disk   string `json:"disk-state"`
}

// Connection is a peer as the node sees it.
type Connection struct {
	Name  string       `json:"name"`
	State string       `json:"connection-state"`
	Role  string       `json:"peer-role"`
	Peers []PeerDevice `json:"peer_devices"`

	Link Link `json:"drship"`
}

// Link is what the node says of its connection to a peer beyond what DRBD does.
type Link struct {
	State        string `json:"cstate"` // DRBD 8.4's word: WFConnection, Ahead, …
	WireReceived int64  `json:"wire-received-bytes"`
	WireSent     int64  `json:"wire-sent-bytes"`
	LagBytes     int64  `json:"lag-bytes"` // acknowledged here, not staged there
	LastError    string `json:"last-error"`
}

// PeerDevice is a volume as the node sees it at a peer.
type PeerDevice struct {
	Volume      int    `json:"volume"`
	Replication string `json:"replication-state"`
	Disk        string `json:"peer-disk-state"`
	OutOfSync   uint64 `json:"out-of-sync"` // KiB
}

func (s Status) String() string { return s.text }

// Connected reports whether every peer is connected.
func (s Status) Connected() bool {
	for _, c := range s.Connections {
		if c.State != "Connected" {
			return false
		}
	}
	return len(s.Connections) > 0
}

// UpToDate reports whether the node's own volumes all are.
func (s Status) UpToDate() bool {
	for _, d := range s.Devices {
		if d.Disk != "UpToDate" {
			return false
		}
	}
	return len(s.Devices) > 0
}

// InSync reports whether the node and its peers are connected, UpToDate, and nothing is out of sync.
func (s Status) InSync() bool {
	if !s.Connected() || !s.UpToDate() {
		return false
	}
	for _, c := range s.Connections {
		if len(c.Peers) != len(s.Devices) {
			return false
		}
		for _, v := range c.Peers {
			if v.Disk != "UpToDate" || v.Replication != "Established" || v.OutOfSync != 0 {
				return false
			}
		}
	}
	return true
}

// Replication returns the replication state of volume 0 to the first peer, "" where there is none.
func (s Status) Replication() string {
	if len(s.Connections) == 0 || len(s.Connections[0].Peers) == 0 {
		return ""
	}
	return s.Connections[0].Peers[0].Replication
}

// OutOfSync sums what is known to differ over all peers and volumes, in KiB.
func (s Status) OutOfSync() (kib uint64) {
	for _, c := range s.Connections {
		for _, v := range c.Peers {
			kib += v.OutOfSync
		}
	}
	return kib
}

// Drained reports whether every peer has staged all that was acknowledged.
func (s Status) Drained() bool { return s.Behind() == 0 }

// Behind is how much the peer that has least lacks of what was written here, in bytes.
func (s Status) Behind() (n int64) {
	for _, c := range s.Connections {
		n = max(n, c.Link.LagBytes)
	}
	return n
}

// Received sums what came over the wire from all peers, in bytes.
func (s Status) Received() (n int64) {
	for _, c := range s.Connections {
		n += c.Link.WireReceived
	}
	return n
}

// Status asks the node.
func (n *Node) Status(ctx context.Context) (Status, error) {
	out, err := n.Verb(ctx, "status", "--json", Resource)
	if err != nil {
		return Status{}, err
	}
	var all []Status
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return Status{}, fmt.Errorf("parse status of %s: %w in %q", n.Name, err, out)
	}
	for _, s := range all {
		if s.Name == Resource {
			s.text = compact(out)
			return s, nil
		}
	}
	return Status{text: out}, nil
}

// compact takes the indentation out, for messages.
func compact(text string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return text
	}
	return b.String()
}

// Wait asks the node again and again until ok, or ctx ends; then the error holds what was waited for, the last status and the
// end of the log.
func (n *Node) Wait(ctx context.Context, what string, ok func(Status) bool) (Status, error) {
	var last Status
	var lastErr error
	err := n.poll(ctx, func() (bool, error) {
		s, err := n.Status(ctx)
		if ctx.Err() == nil {
			last, lastErr = s, err
		}
		if !n.Running() {
			return false, fmt.Errorf("daemon of %s ended (%v)", n.Name, n.ExitError())
		}
		return err == nil && ok(s), nil
	})
	if err != nil {
		return last, fmt.Errorf("%s: waiting for %s: %w (last answer: %v)\nlast status: %s\nlog: …%s", n.Name, what, err, lastErr, last, n.Log())
	}
	return last, nil
}
