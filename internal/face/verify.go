package face

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// MaxSpans bounds the differences that a report lists one by one; beyond it they are only counted.
const MaxSpans = 1000

// Span is a run of bytes of a volume that was found to differ.
type Span struct {
	Volume uint16 `json:"volume"`
	Off    int64  `json:"offset"`
	Len    int64  `json:"length"`
}

// The ends of a verify.
const (
	VerifyRunning     = "running"
	VerifyDone        = "done"
	VerifyStopped     = "stopped"     // by an administrator, or because the peer took over
	VerifyInterrupted = "interrupted" // by the loss of link or node: a scheduled run goes on later
	VerifyFailed      = "failed"
)

// VerifyRun is the report of one online verify with one peer. Sizes are bytes, blocks have 4 KiB.
type VerifyRun struct {
	Peer      string    `json:"peer"`
	Scheduled bool      `json:"scheduled"`
	State     string    `json:"state"`
	Why       string    `json:"why,omitempty"` // where it did not end as done
	Alg       string    `json:"algorithm"`
	Ranges    []Span    `json:"ranges"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`
	Active    float64   `json:"seconds"` // in which it ran, interruptions taken out

	Total     int64  `json:"bytes"`
	Compared  int64  `json:"compared-bytes"`
	Blocks    uint64 `json:"compared-blocks"`
	Rate      int64  `json:"rate"` // bytes/s
	Differ    uint64 `json:"differing-blocks"`
	Asked     uint64 `json:"asked-again-blocks"`
	Unsettled uint64 `json:"unsettled-blocks"`
	Repair    string `json:"repair"` // off, ask, on
	Repaired  uint64 `json:"repaired-blocks"`

	Differences []Span `json:"differences"`
	More        bool   `json:"more-differences"` // there are more than are listed
}

// VerifyReport is what a node keeps of the verifies of a resource, the newest run first.
type VerifyReport struct {
	Resource string      `json:"resource"`
	Next     time.Time   `json:"next,omitzero"` // by verify-schedule
	Runs     []VerifyRun `json:"runs"`
}

// VerifyJSON writes a report as JSON.
func VerifyJSON(w io.Writer, r *VerifyReport) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Verify writes a report as text.
func Verify(w io.Writer, r *VerifyReport) error {
	var b bytes.Buffer
	next := "not scheduled"
	if !r.Next.IsZero() {
		next = r.Next.Format(time.RFC3339)
	}
	fmt.Fprintf(&b, "%s: next run: %s\n", r.Resource, next)
	if len(r.Runs) == 0 {
		b.WriteString("  no verify has run here yet\n")
	}
	for i := range r.Runs {
		verifyRun(&b, &r.Runs[i])
	}
	return write(w, &b)
}

func verifyRun(b *bytes.Buffer, v *VerifyRun) {
	by := ""
	if v.Scheduled {
		by = ", scheduled"
	}
	why := ""
	if v.Why != "" {
		why = ": " + v.Why
	}
	fmt.Fprintf(b, "%s with %s (%s%s): %s%s\n", v.Started.Format(time.RFC3339), v.Peer, v.Alg, by, v.State, why)
	for _, s := range v.Ranges {
		fmt.Fprintf(b, "  range: volume %d, from %d to %d\n", s.Volume, s.Off, s.Off+s.Len)
	}
	fmt.Fprintf(b, "  compared: %s of %s (%d blocks) in %s, %s/s\n", Bytes(v.Compared), Bytes(v.Total), v.Blocks, seconds(v.Active), Bytes(v.Rate))
	fmt.Fprintf(b, "  differing blocks: %d, repaired: %d (verify-repair %s)\n", v.Differ, v.Repaired, v.Repair)
	if v.Asked > 0 {
		fmt.Fprintf(b, "  asked again because clients wrote: %d blocks, never settled: %d\n", v.Asked, v.Unsettled)
	}
	for _, s := range v.Differences {
		fmt.Fprintf(b, "  differs: volume %d, offset %d, %d bytes\n", s.Volume, s.Off, s.Len)
	}
	if v.More {
		b.WriteString("  … and more\n")
	}
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}
