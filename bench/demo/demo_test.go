package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/wan/tun"
)

func TestMain(m *testing.M) {
	tun.Main()
	os.Exit(m.Run())
}

// TestDemo runs the demo as make demo does.
func TestDemo(t *testing.T) { runDemo(t, "") }

// TestWANDemo runs it as make wan-demo does, over a line that does not take as long.
func TestWANDemo(t *testing.T) {
	if err := tun.Available(); err != nil {
		t.Skip(err)
	}
	runDemo(t, "rate=1G rtt=10ms loss=0.1%", "packets on the line")
}

func runDemo(t *testing.T, line string, rows ...string) {
	ctx := pairtest.Real(t)
	bin, err := pair.Build(ctx, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := demo{binary: bin, protocol: "A", settings: line, out: &out}
	if err := d.run(ctx); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	for _, row := range append(rows, "written by clients", "on the wire", "lag at the kill", "time to promote", "time to catch", "result") {
		if !strings.Contains(out.String(), row) {
			t.Errorf("the table has no row %q:\n%s", row, out.Bytes())
		}
	}
}
