package tun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// deviceName is the one in both namespaces.
const deviceName = "wan0"

// queueLength is how many packets, super-packets counted as one, may wait until the forwarder reads them.
const queueLength = 10_000

// offloads is what the kernel may leave to the other end: checksums, and the cutting of TCP and UDP super-packets.
const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6

// Available says why no line can be made here, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("a line between network namespaces needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("a line between network namespaces needs TUN devices: %w", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("a line between network namespaces needs ip (Debian package iproute2): %w", err)
	}
	s, err := NewSpace()
	if err != nil {
		return err
	}
	return s.Close()
}

// openDevice makes the TUN device of an end and gives it its addresses. It returns the file that packets are read from and
// written to, non-blocking.
func openDevice(s *Space, addresses []string, mtu int) (fd int, err error) {
	fd = -1
	err = s.Do(func() error {
		fd, err = createDevice()
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("make TUN device: %w", err)
	}
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", deviceName, "addrgenmode", "none"}, // no chatter of the kernel's own on the line
		{"link", "set", deviceName, "mtu", strconv.Itoa(mtu), "txqueuelen", strconv.Itoa(queueLength)},
	}
	for _, a := range addresses {
		commands = append(commands, []string{"address", "add", a, "dev", deviceName, "nodad"})
	}
	commands = append(commands, []string{"link", "set", deviceName, "up"})
	for _, c := range commands {
		if err := s.Run("ip", c...); err != nil {
			return -1, errors.Join(err, unix.Close(fd))
		}
	}
	if err := s.Do(tuneTCP); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func createDevice() (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(deviceName)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil { // kernels before 6.2 know no UDP super-packets
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads&^(unix.TUN_F_USO4|unix.TUN_F_USO6))
		}
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// tuneTCP lets TCP's windows cover long fat lines, and lets no connection know what an earlier one has learnt about the line.
func tuneTCP() error {
	for name, value := range map[string]string{
		"tcp_rmem":            "4096 131072 67108864",
		"tcp_wmem":            "4096 131072 67108864",
		"tcp_no_metrics_save": "1",
	} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("tune TCP: %w", err)
		}
	}
	return nil
}

// missed is how many packets the device dropped because the forwarder was too slow to read them.
func missed(s *Space) (n uint64, err error) {
	err = s.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		_, line, found := bytes.Cut(text, []byte(deviceName+":"))
		if !found {
			return errors.New("no such device")
		}
		line, _, _ = bytes.Cut(line, []byte("\n"))
		fields := bytes.Fields(line)
		const sentDropped = 8 + 3 // eight fields of what was received come first
		if len(fields) <= sentDropped {
			return fmt.Errorf("%q", line)
		}
		n, err = strconv.ParseUint(string(fields[sentDropped]), 10, 64)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read counters of %s: %w", deviceName, err)
	}
	return n, nil
}
