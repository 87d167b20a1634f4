package nbd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// clientOf tells who is at the other end of c. Whatever cannot be found out stays empty.
func clientOf(c net.Conn) Client {
	u, ok := c.(*net.UnixConn)
	if !ok {
		if c.RemoteAddr() == nil {
			return Client{}
		}
		return Client{Addr: c.RemoteAddr().String()}
	}
	cl := Client{Addr: "unix"}
	raw, err := u.SyscallConn()
	if err != nil {
		return cl
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return cl
	}
	cl.PID = int(cred.Pid)
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cred.Pid)); err == nil {
		cl.Command = strings.TrimSpace(string(comm))
	}
	return cl
}
