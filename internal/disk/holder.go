package disk

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxProcesses bounds the search for the process that holds a disk.
const maxProcesses = 1 << 16

// inUse makes the error of a disk that is taken, with the holder's name where it can be found.
func inUse(path string, info os.FileInfo) error {
	who := deviceHolder(info)
	if who == "" {
		who = fileHolder(info)
	}
	if who == "" {
		who = lockHolder(info)
	}
	if who == "" {
		who = processHolder(path)
	}
	if who == "" {
		who = "somebody who could not be found"
	}
	return fmt.Errorf("open disk %s: %w by %s", path, ErrInUse, who)
}

// deviceHolder names the mount, the stacked device or the swap area that holds a block device.
func deviceHolder(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&os.ModeDevice == 0 {
		return ""
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	sys := filepath.Join("/sys/dev/block", number)
	numbers := map[string]bool{number: true}
	if parts, err := filepath.Glob(filepath.Join(sys, "*", "partition")); err == nil {
		for _, part := range parts {
			if dev, err := os.ReadFile(filepath.Join(filepath.Dir(part), "dev")); err == nil {
				numbers[strings.TrimSpace(string(dev))] = true
			}
		}
	}
	if at := mountPoint(func(f []string) bool { return numbers[f[2]] }); at != "" {
		return "the mount " + at
	}
	if holders, err := os.ReadDir(filepath.Join(sys, "holders")); err == nil && len(holders) > 0 {
		return "the device " + holders[0].Name()
	}
	if swapArea(info) {
		return "swap"
	}
	return ""
}

// fileHolder names the loop device, the mount or the swap area that uses a regular file. None of them takes a lock
// on the file, so that they have to be looked for.
func fileHolder(info os.FileInfo) string {
	if !info.Mode().IsRegular() {
		return ""
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err == nil {
		for _, name := range loops {
			loop := filepath.Base(filepath.Dir(filepath.Dir(name)))
			if loopUses(loop, name, info) {
				return "the loop device /dev/" + loop
			}
		}
	}
	at := mountPoint(func(f []string) bool { return sameFile(mountSource(f), info) })
	if at != "" {
		return "the mount " + at
	}
	if swapArea(info) {
		return "swap"
	}
	return ""
}

// loopUses reports whether a loop device stands on the file: by device and inode number where it may be asked, which
// holds across mount namespaces and renames, else by the path that it tells.
func loopUses(loop, backing string, info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if f, err := os.Open(filepath.Join("/dev", loop)); err == nil && ok {
		status, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		_ = f.Close() // opened for one question
		if err == nil {
			return status.Device == st.Dev && status.Inode == st.Ino
		}
	}
	path, err := os.ReadFile(backing)
	return err == nil && sameFile(strings.TrimSpace(string(path)), info)
}

// mountPoint returns the first mount that matches, or "". The fields are those of /proc/self/mountinfo.
func mountPoint(match func(fields []string) bool) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 6 && match(fields) {
			return unescape(fields[4])
		}
	}
	return ""
}

// mountSource is the second field behind the separator of a line of mountinfo.
func mountSource(fields []string) string {
	for i := 6; i+2 < len(fields); i++ {
		if fields[i] == "-" {
			return unescape(fields[i+2])
		}
	}
	return ""
}

func swapArea(info os.FileInfo) bool {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && sameFile(unescape(fields[0]), info) {
			return true
		}
	}
	return false
}

// lockHolder names the process that holds the flock, from /proc/locks.
func lockHolder(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 5 && fields[1] == "FLOCK" && fields[5] == id {
			return process(fields[4])
		}
	}
	return ""
}

// processHolder looks for a process that has the disk open. It compares names, because asking about somebody else's
// descriptor may block.
func processHolder(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return ""
	}
	own := strconv.Itoa(os.Getpid())
	for _, e := range entries[:min(len(entries), maxProcesses)] {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == own {
			continue
		}
		dir := filepath.Join("/proc", e.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if name, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && name == path {
				return process(e.Name())
			}
		}
	}
	return ""
}

func process(pid string) string {
	name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}

func sameFile(path string, info os.FileInfo) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	other, err := os.Stat(path)
	if err != nil {
		return false
	}
	a, okA := info.Sys().(*syscall.Stat_t)
	b, okB := other.Sys().(*syscall.Stat_t)
	if okA && okB && info.Mode()&os.ModeDevice != 0 && other.Mode()&os.ModeDevice != 0 {
		return a.Rdev == b.Rdev // two nodes of one device
	}
	return os.SameFile(info, other)
}

// unescape undoes the octal escapes of /proc: space, tab, newline, backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
