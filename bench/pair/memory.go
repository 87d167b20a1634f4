package pair

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is what a daemon's process holds, in bytes.
type Memory struct {
	Resident int64 // now
	Peak     int64 // the most since it started
}

// Memory reads it from the kernel.
func (n *Node) Memory() (Memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return Memory{}, fmt.Errorf("read memory of %s: %w", n.Name, err)
	}
	defer f.Close()
	var m Memory
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue // the other lines are of other kinds
		}
		switch key {
		case "VmRSS":
			m.Resident = kib << 10
		case "VmHWM":
			m.Peak = kib << 10
		}
	}
	if m.Resident == 0 {
		return Memory{}, fmt.Errorf("read memory of %s: no VmRSS", n.Name)
	}
	return m, nil
}
