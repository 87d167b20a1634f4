package main

import (
	"bytes"
	"strings"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// TestDemo runs the demo as make demo does.
func TestDemo(t *testing.T) {
	ctx := pairtest.Real(t)
	bin, err := pair.Build(ctx, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := demo{binary: bin, protocol: "A", out: &out}
	if err := d.run(ctx); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	for _, row := range []string{"written by clients", "on the wire", "lag at the kill", "time to promote", "time to catch", "result"} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("the table has no row %q:\n%s", row, out.Bytes())
		}
	}
}
