package sim

import "testing"

// TestShrink: a plan that fails for one reason is left with that reason.
func TestShrink(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		p := draw(seed)
		fails := func(p plan) bool {
			for _, m := range p.moments {
				if m.victim == primaryDies && m.failover {
					return true
				}
			}
			return false
		}
		if !fails(p) {
			continue
		}
		edits := shrink(p, nil, 1000, fails)
		left := p.edited(edits)
		if len(left.moments) != 1 || !fails(left) {
			t.Fatalf("seed %d: %v left of %v by %v", seed, left.moments, p.moments, edits)
		}
		if m := left.moments[0]; m.again != 0 || m.cutFor != 0 || m.behind != 0 || m.slow || m.skew != 0 || m.swap || m.rot || m.sick != 0 || m.load > shortestLoad || left.volumes != 1 {
			t.Errorf("seed %d: %v was not made simpler: %v", seed, edits, m)
		}
		read, err := parseEdits(formatEdits(edits))
		if err != nil || !same(p.edited(read), left) {
			t.Errorf("seed %d: %q reads as %v: %v", seed, formatEdits(edits), read, err)
		}
	}
	for _, bad := range []string{"0c", "xc", "2z", "c"} {
		if _, err := parseEdits(bad); err == nil {
			t.Errorf("%q was taken for an edit", bad)
		}
	}
}
