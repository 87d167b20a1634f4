package receiver

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestComplaintsAreFew: a thousand wrong messages in a moment are one line in the log, and a number in the next one.
func TestComplaintsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &checker{t: &Target{log: slog.New(slog.NewTextHandler(&log, nil))}}
		for range 1000 {
			c.complain("wrong")
		}
		if n := strings.Count(log.String(), "msg=wrong"); n != 1 {
			t.Fatalf("%d lines", n)
		}
		time.Sleep(complainPause)
		c.complain("wrong again")
		c.complain("wrong again")
		if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, `msg="wrong again" not-logged-before=999`) {
			t.Errorf("logged %q", text)
		}
	})
}
