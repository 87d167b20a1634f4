package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Address is where a host of a resource is reached.
type Address struct {
	Family string // "ipv4" or "ipv6"
	Host   string // an IP address, without brackets, or a name
	Port   uint16
}

// IsZero reports whether no address was given.
func (a Address) IsZero() bool { return a == Address{} }

// HostPort gives the form that package net dials and listens on.
func (a Address) HostPort() string {
	if a.Family == "ipv6" && strings.Contains(a.Host, ":") {
		return "[" + a.Host + "]:" + strconv.Itoa(int(a.Port))
	}
	return a.Host + ":" + strconv.Itoa(int(a.Port))
}

// String gives DRBD's form: family, space, host and port.
func (a Address) String() string { return a.Family + " " + a.HostPort() }

// loopback reports whether a is only meant inside one host, so that several hosts may use it.
func (a Address) loopback() bool {
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback()
}

// parseAddress reads [family] host:port. needPort says whether the port may be missing (the address of a path may
// take the host's).
func parseAddress(words []string, needPort bool) (Address, error) {
	var a Address
	switch {
	case len(words) == 2:
		a.Family = words[0]
	case len(words) != 1:
		return a, errors.New("an address is written [ipv4|ipv6] HOST:PORT")
	}
	text := words[len(words)-1]
	switch a.Family {
	case "", "ipv4", "ipv6":
	case "ssocks", "sdp", "sci":
		return a, fmt.Errorf("address family '%s' is refused: the link is QUIC over UDP; use ipv4 or ipv6", a.Family)
	default:
		return a, fmt.Errorf("address family '%s' is unknown; use ipv4 or ipv6", a.Family)
	}
	host, port, err := splitHostPort(text)
	if err != nil {
		return a, err
	}
	if port == "" && needPort {
		return a, fmt.Errorf("address '%s' has no port", text)
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if strings.Trim(port, "0123456789") != "" {
			return a, &integerError{word: port, what: "port"}
		}
		if err != nil || n == 0 {
			return a, fmt.Errorf("port '%s' is out of range [1..65535]", port)
		}
		a.Port = uint16(n)
	}
	return a.withHost(host)
}

// splitHostPort takes HOST:PORT, HOST, [V6]:PORT or [V6] apart.
func splitHostPort(text string) (host, port string, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		host, rest, closed := strings.Cut(inner, "]")
		if !closed || rest != "" && !strings.HasPrefix(rest, ":") {
			return "", "", fmt.Errorf("address '%s': an IPv6 address is written [ADDRESS]:PORT", text)
		}
		return host, strings.TrimPrefix(rest, ":"), nil
	}
	if strings.Count(text, ":") > 1 {
		return "", "", fmt.Errorf("address '%s': an IPv6 address is written [ADDRESS]:PORT", text)
	}
	host, port, _ = strings.Cut(text, ":")
	return host, port, nil
}

// withHost sets the host and checks it against the family; an unset family follows from the host.
func (a Address) withHost(host string) (Address, error) {
	a.Host = host
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if !isHostName(host) {
			return a, fmt.Errorf("'%s' is neither an IP address nor a host name", host)
		}
		if a.Family == "" {
			a.Family = "ipv4"
		}
		return a, nil
	}
	if zone := ip.Zone(); zone != "" && quote(zone) != zone {
		return a, fmt.Errorf("'%s' names no network interface", zone)
	}
	family := "ipv4"
	if ip.Is6() {
		family = "ipv6"
	}
	if a.Family == "" {
		a.Family = family
	}
	if a.Family != family {
		return a, fmt.Errorf("'%s' is not an %s address", host, a.Family)
	}
	a.Host = ip.String()
	return a, nil
}

// isHostName reports whether s may be a DNS name; a name of digits only is a mistyped address.
func isHostName(s string) bool {
	letter := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letter = true
		case c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_':
		default:
			return false
		}
	}
	return letter && len(s) <= 253
}

// badAddress notes an address that is none.
func (p *parser) badAddress(at Pos, err error) {
	e := p.errorf(at, "%v", err)
	if wrong, ok := errors.AsType[*integerError](err); ok {
		e.parse = notInteger(wrong.word)
	}
}
