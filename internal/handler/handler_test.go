package handler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		code int
		out  []string
	}{
		"true":             {"true", 0, nil},
		"exit code":        {"exit 7", 7, nil},
		"several commands": {`echo one; echo two >&2; exit 4`, 4, []string{"one", "two"}},
		"environment":      {`echo "$DRBD_RESOURCE $0"`, 0, []string{"r0 split-brain"}},
		"signal":           {`kill -TERM $$`, 143, nil},
		"missing program":  {`/nonexistent/notify 2>/dev/null`, 127, nil},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Run(t.Context(), Call{Name: "split-brain", Line: c.line, Env: []string{"DRBD_RESOURCE=r0"}, Limit: time.Minute})
			if err != nil || res.Code != c.code || !slices.Equal(res.Output, c.out) {
				t.Errorf("got %+v, %v; want code %d, output %q", res, err, c.code, c.out)
			}
		})
	}
}

// TestLimit: a handler that hangs goes with the children that it started, and what it wrote is kept.
func TestLimit(t *testing.T) {
	start := time.Now()
	res, err := Run(t.Context(), Call{Name: "fence-peer", Line: "echo begun; sleep 60 & sleep 60; wait", Limit: 200 * time.Millisecond})
	if !errors.Is(err, ErrTime) {
		t.Errorf("got %v, want %v", err, ErrTime)
	}
	if !slices.Equal(res.Output, []string{"begun"}) {
		t.Errorf("output %q", res.Output)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Call{Name: "x", Line: "true", Limit: time.Minute}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	res, err := Run(t.Context(), Call{Name: "x", Line: "yes handler | head -c 1000000", Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Join(res.Output, "\n")); n > maxOutput || n < maxOutput/2 {
		t.Errorf("%d bytes of output kept", n)
	}
}
