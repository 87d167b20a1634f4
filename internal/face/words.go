package face

import (
	"fmt"
	"strings"
	"time"

	"drship/internal/state"
)

// Shape is the generation of DRBD whose formats are printed.
type Shape uint8

// The shapes. Proc prints 9 as 84, because 9 has no such file any more; Status and the events print the old ones as 84.
const (
	Shape9 Shape = iota
	Shape84
	Shape83
	Shape07
)

const kib = 1024

// connection9 is the connection's part of an 8.4 state, in 9's words.
func connection9(c state.Conn) string {
	switch {
	case c >= state.WFReportParams:
		return "Connected"
	case c == state.WFConnection:
		return "Connecting"
	}
	return c.String()
}

// replication9 is the replication's part of an 8.4 state, in 9's words.
func replication9(c state.Conn) string {
	switch {
	case c < state.Connected:
		return "Off"
	case c == state.Connected:
		return "Established"
	}
	return c.String()
}

func connected(p *Peer) bool { return p.Conn >= state.WFReportParams }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// join makes DRBD's lists: "user,peer", "no" where none is set.
func join(words ...string) string {
	var set []string
	for _, w := range words {
		if w != "" {
			set = append(set, w)
		}
	}
	if len(set) == 0 {
		return "no"
	}
	return strings.Join(set, ",")
}

func when(set bool, word string) string {
	if set {
		return word
	}
	return ""
}

func (s Suspended) String() string {
	return join(when(s.User, "user"), when(s.NoData, "no-data"), when(s.Fencing, "fencing"), when(s.Quorum, "quorum"))
}

func (f SyncFlags) String() string {
	return join(when(f.User, "user"), when(f.Peer, "peer"), when(f.Dependency, "dependency"))
}

func blocked(v *Volume) string {
	return join(when(v.UpperBlocked, "upper"), when(v.LowerBlocked, "lower"))
}

var orderNames = [...]string{"flush", "none", "drain", "barrier"}

func (o WriteOrdering) String() string {
	if int(o) < len(orderNames) {
		return orderNames[o]
	}
	return fmt.Sprintf("WriteOrdering(%d)", uint8(o))
}

// Bytes prints a size for people: "12.3 MiB". Negative sizes count as nothing.
func Bytes(n int64) string {
	if n < kib {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	value, unit := float64(n), -1
	for value >= kib && unit < len("KMGTPE")-1 {
		value, unit = value/kib, unit+1
	}
	if value >= 1023.95 && unit < len("KMGTPE")-1 { // would be printed as 1024.0
		value, unit = value/kib, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

// clock prints a duration as h:mm:ss, as /proc/drbd does; "never" is the largest that its readers can parse.
func clock(d time.Duration) string {
	const never = 99999*3600 + 59*60 + 59
	s := int64(d / time.Second)
	if d < 0 || s > never {
		s = never
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s%3600/60, s%60)
}

// grouped prints KiB/s with a comma before each of the last two groups of three digits.
func grouped(bytesPerSecond int64) string {
	v := max(bytesPerSecond, 0) / kib
	switch {
	case v >= 1_000_000:
		return fmt.Sprintf("%d,%03d,%03d", v/1_000_000, v/1000%1000, v%1000)
	case v >= 1000:
		return fmt.Sprintf("%d,%03d", v/1000, v%1000)
	}
	return fmt.Sprint(v)
}
