package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmp is a connection to a storage daemon's monitor.
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

type message struct {
	Event string          `json:"event"`
	Error json.RawMessage `json:"error"`
	QMP   json.RawMessage `json:"QMP"`
}

// startMirror makes node disk mirror to node far, synchronously, and waits until the mirror is ready.
func startMirror(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("open monitor: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	q := &qmp{conn: conn, in: json.NewDecoder(conn)}
	if err := q.command("qmp_capabilities", nil); err != nil {
		return err
	}
	err = q.command("blockdev-mirror", map[string]any{
		"job-id": "mirror", "device": "disk", "target": "far", "sync": "full", "copy-mode": "write-blocking",
	})
	if err != nil {
		return err
	}
	for {
		m, err := q.next()
		if err != nil {
			return err
		}
		switch m.Event {
		case "BLOCK_JOB_READY":
			return nil
		case "BLOCK_JOB_ERROR", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED":
			return fmt.Errorf("the mirror ended: %s", m.Event)
		}
	}
}

// command sends a command and reads up to the answer to it.
func (q *qmp) command(name string, args map[string]any) error {
	c := map[string]any{"execute": name}
	if args != nil {
		c["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(c); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for {
		m, err := q.next()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case m.Error != nil:
			return fmt.Errorf("%s: %s", name, m.Error)
		case m.Event == "" && m.QMP == nil:
			return nil
		}
	}
}

func (q *qmp) next() (message, error) {
	var m message
	err := q.in.Decode(&m)
	return m, err
}
