package node

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/face"
	"drship/internal/state"
	"drship/wan/frame"
)

// verbVerify starts a verify, repairs what one has found, or prints the reports.
func verbVerify(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	switch {
	case q.Yes("report"):
		return r.printVerifies(q.Yes("json"))
	case q.Yes("seed"):
		r.seedResync()
		return nil, nil
	case q.Yes("repair"):
		return nil, r.repairFound(peerNames(q))
	}
	start, err := number(q, "start")
	if err != nil {
		return nil, err
	}
	stop, err := number(q, "stop")
	if err != nil {
		return nil, err
	}
	if stop > 0 && stop <= start {
		return nil, &refused{exit: control.ExitUsage, text: fmt.Sprintf("--stop %d does not lie behind --start %d", stop, start)}
	}
	return nil, r.Verify(ctx, peerNames(q), verifyOrder{volume: q.Volume, start: start, stop: stop})
}

// seedResync has the next resync from here compare digests first, and one that runs begin anew so.
func (r *Resource) seedResync() {
	r.mu.Lock()
	r.seed = true
	var again []string
	for _, p := range r.peers {
		if p.session != nil && p.session.source != nil && p.session.source.stream.Mode() == frame.ModeResync {
			again = append(again, p.name)
		}
	}
	r.mu.Unlock()
	if len(again) > 0 {
		r.renegotiate(again)
	}
}

// repairFound repairs what is marked as out of sync, on the administrator's word.
func (r *Resource) repairFound(names []string) error {
	any := false
	for _, s := range r.sessions() {
		if !named(names, s.peer.name) {
			continue
		}
		any = true
		if err := s.repair(time.Time{}); err != nil {
			return err
		}
	}
	if !any {
		return state.Refused(state.SSNeedConnection, "connect first")
	}
	return nil
}

func (r *Resource) printVerifies(asJSON bool) ([]string, error) {
	report := face.VerifyReport{Resource: r.name, Next: r.nextVerify(r.node.env.Now()), Runs: []face.VerifyRun{}}
	r.verifies.read(func(d *verifyData) { report.Runs = append(report.Runs, d.Runs...) })
	render := func(w io.Writer) error { return face.Verify(w, &report) }
	if asJSON {
		render = func(w io.Writer) error { return face.VerifyJSON(w, &report) }
	}
	var b strings.Builder
	if err := render(&b); err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), nil
}
