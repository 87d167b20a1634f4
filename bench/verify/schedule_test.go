package verify

import (
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// A scheduled verify begins by itself, and goes on where it stood after the death of the node that runs it.
func TestScheduleResumes(t *testing.T) {
	ctx := pairtest.Real(t)
	p, alice, _ := up(ctx, t, "verify-schedule \"* * * * *\"", "verify-rate 1M")
	fill(ctx, t, alice)
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Wait(ctx, "a scheduled run that has gone some way", func(pair.Status) bool {
		r, ok := report(ctx, t, alice)
		return ok && r.Bytes > 8<<20
	}); err != nil {
		t.Fatal(err)
	}
	first, _ := report(ctx, t, alice)
	if err := alice.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alice.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Wait(ctx, "the end of the run", func(pair.Status) bool {
		r, ok := report(ctx, t, alice)
		return ok && r.State == "done"
	}); err != nil {
		t.Fatal(err)
	}
	r, _ := report(ctx, t, alice)
	if r.Differ != 0 || r.Bytes < size || r.Bytes > size+(16<<20) || !r.Started.Equal(first.Started) {
		t.Errorf("first %+v, in the end %+v", first, r)
	}
}
