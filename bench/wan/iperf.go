package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
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

func (t *tcp) carry(ctx context.Context, warm, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+grace)
	defer cancel()
	server, err := startChild(ctx, t.line.B, "iperf3", "--server", "--one-off", "--forceflush")
	if err != nil {
		return 0, err
	}
	var drained sync.WaitGroup
	defer drained.Wait()
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
	drained.Go(func() { _, _ = server.output.WriteTo(io.Discard) }) // ends with the server
	client, err := startChild(ctx, t.line.A, "iperf3", "--client", t.line.AddrB().String(), "--congestion", t.congestion,
		"--omit", seconds(warm), "--time", seconds(span), "--json")
	if err != nil {
		return 0, err
	}
	text, err := client.end()
	if err != nil {
		return 0, err
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return 0, fmt.Errorf("read what iperf3 says: %w", err)
	}
	return result.End.Received.Rate, nil
}

// seconds is a duration as iperf3 takes it: whole ones.
func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }
