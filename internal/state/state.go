// Package state holds DRBD's roles, states and decisions as pure values and functions: no clock, no I/O, no goroutine.
package state

import "fmt"

// Role of a node in a resource. The values are stored and sent.
type Role uint8

// The roles.
const (
	RoleUnknown Role = 0
	Primary     Role = 1
	Secondary   Role = 2
)

// Disk is the state of a volume's data, worst first, as in DRBD. The values are stored and sent.
type Disk uint8

// The disk states.
const (
	Diskless     Disk = 0
	Attaching    Disk = 1
	Failed       Disk = 2
	Negotiating  Disk = 3
	Inconsistent Disk = 4
	Outdated     Disk = 5
	DUnknown     Disk = 6
	Consistent   Disk = 7
	UpToDate     Disk = 8
)

// Conn is the connection state of DRBD 8.4, where one field tells both connection and replication.
type Conn uint8

// The connection states, in DRBD's order.
const (
	StandAlone Conn = iota
	Disconnecting
	Unconnected
	Timeout
	BrokenPipe
	NetworkFailure
	ProtocolError
	TearDown
	WFConnection
	WFReportParams
	Connected
	StartingSyncS
	StartingSyncT
	WFBitMapS
	WFBitMapT
	WFSyncUUID
	SyncSource
	SyncTarget
	VerifyS
	VerifyT
	PausedSyncS
	PausedSyncT
	Ahead
	Behind
)

var roleNames = [...]string{"Unknown", "Primary", "Secondary"}

var diskNames = [...]string{"Diskless", "Attaching", "Failed", "Negotiating", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate"}

var connNames = [...]string{"StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown",
	"WFConnection", "WFReportParams", "Connected", "StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID", "SyncSource",
	"SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT", "Ahead", "Behind"}

func (r Role) String() string { return name(roleNames[:], "Role", uint8(r)) }
func (d Disk) String() string { return name(diskNames[:], "Disk", uint8(d)) }
func (c Conn) String() string { return name(connNames[:], "Conn", uint8(c)) }

func name(names []string, kind string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", kind, v)
}
