package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"drship/bench/wan/tun"
)

// tcp is one TCP connection, by iperf3.
type tcp struct {
	line       *tun.Line
	congestion string // as the kernel calls it: cubic, bbr
}

// tcpAvailable says why TCP with that congestion control cannot be measured, or nil.
func tcpAvailable(congestion string) error {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return errors.New("iperf3 is not installed (Debian package iperf3; make deps installs it as root)")
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return err
	}
	if have := strings.Fields(string(text)); !slices.Contains(have, congestion) {
		return fmt.Errorf("this kernel has no TCP %s (it has %s; modprobe tcp_%s may bring it)", congestion, strings.Join(have, ", "), congestion)
	}
	return nil
}

func (t *tcp) name() string { return "TCP " + strings.ToUpper(t.congestion) }

func (t *tcp) rest(context.Context) error { return nil } // its connection is closed

// carry takes what the server received in each second. What the client says of the whole counts the queue of the line twice over
// a short time.
func (t *tcp) carry(ctx context.Context, warm, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+grace)
	defer cancel()
	server, err := startChild(ctx, t.line.B, "iperf3", "--server", "--one-off", "--forceflush", "--format", "k", "--interval", "1")
	if err != nil {
		return 0, err
	}
	defer server.kill()
	for { // it prints a frame around "Server listening on 5201"
		text, err := server.line()
		if err != nil {
			return 0, fmt.Errorf("iperf3 does not listen: %w: %s", err, server.text)
		}
		if strings.Contains(text, "listening") {
			break
		}
	}
	client, err := startChild(ctx, t.line.A, "iperf3", "--client", t.line.AddrB().String(), "--congestion", t.congestion,
		"--time", seconds(warm+span+time.Second))
	if err != nil {
		return 0, err
	}
	defer client.kill()
	var sum float64
	for n := time.Duration(0); ; {
		text, err := server.line()
		if err != nil {
			return 0, fmt.Errorf("iperf3 ended too early: %w: %s", err, server.text)
		}
		from, bits, ok := parseInterval(text)
		if !ok || from < warm {
			continue
		}
		if sum += bits; n+time.Second >= span {
			return sum / float64(n/time.Second+1), nil
		}
		n += time.Second
	}
}

// parseInterval reads a line like "[  5]   4.00-5.00   sec  11.2 MBytes  94117 Kbits/sec".
func parseInterval(text string) (from time.Duration, bits float64, ok bool) {
	_, rest, ok := strings.Cut(text, "] ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 6 || fields[1] != "sec" || fields[5] != "Kbits/sec" {
		return 0, 0, false
	}
	begin, _, _ := strings.Cut(fields[0], "-")
	s, err := strconv.ParseFloat(begin, 64)
	k, kerr := strconv.ParseFloat(fields[4], 64)
	if err != nil || kerr != nil {
		return 0, 0, false
	}
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond), k * 1e3, true
}

// seconds is a duration as iperf3 takes it: whole ones.
func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }
