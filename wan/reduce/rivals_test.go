package reduce

import "testing"

// The better way is found, kept, and given up when it is the better one no more; trials are few.
func TestRivals(t *testing.T) {
	const batch = 100_000
	var r rivals
	run := func(batches int, out [2]int) (used [2]int) {
		for range batches {
			way := r.now()
			used[way]++
			r.took(batch, out[way])
		}
		return used
	}
	if used := run(10_000, [2]int{2000, 4000}); used[1] > 150 {
		t.Errorf("dense is better: %v", used)
	}
	if used := run(30_000, [2]int{20_000, 15_000}); used[0] > 12_000 {
		t.Errorf("tokens became better: %v", used)
	}
	if r.best != 1 {
		t.Error("tokens are not taken for the better way")
	}
	if used := run(30_000, [2]int{2000, 4000}); used[0] < 18_000 || r.best != 0 {
		t.Errorf("dense became better again: %v", used)
	}
}
