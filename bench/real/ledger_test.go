package main

import (
	"strings"
	"testing"
	"time"
)

// at is a moment of the tests; 0 is none.
func at(s int) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}

func TestJudge(t *testing.T) {
	// Writer 0: three commits, the last without an answer. Writer 1: one, asked for behind the first of writer 0, one more behind everything.
	entries := []entry{
		{writer: 0, n: 1, asked: at(1), acked: at(2)},
		{writer: 0, n: 2, asked: at(3), acked: at(4)},
		{writer: 1, n: 1, asked: at(3), acked: at(6)},
		{writer: 0, n: 3, asked: at(5)},
		{writer: 1, n: 2, asked: at(7), acked: at(8)},
	}
	for _, c := range []struct {
		name    string
		have    [writers]int
		must    time.Time
		missing int
		fault   string
	}{
		{"everything", [writers]int{3, 2}, ever, 0, ""},
		{"all but what had no answer", [writers]int{2, 2}, ever, 0, ""},
		{"nothing, and nothing was promised", [writers]int{}, never, 4, ""},
		{"nothing, and something was promised", [writers]int{}, at(2), 1, "row 1 of writer 0"},
		{"what was promised until then", [writers]int{2, 0}, at(5), 2, ""},
		{"a prefix", [writers]int{1, 0}, never, 3, ""},
		{"another prefix: they overlap", [writers]int{1, 1}, never, 2, ""},
		{"no prefix", [writers]int{0, 1}, never, 4, "no prefix: row 1 of writer 1"},
		{"what had no answer is there, what it overlaps is not", [writers]int{3, 0}, at(0), 2, ""},
		{"no prefix: the last is there", [writers]int{1, 2}, never, 1, "no prefix: row 2 of writer 1"},
		{"one acknowledged is missing", [writers]int{2, 1}, ever, 1, "row 2 of writer 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			missing, err := judge(entries, c.have, c.must)
			switch {
			case c.fault == "" && err != nil:
				t.Error(err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("got %v, want %q", err, c.fault)
			case c.fault == "" && missing != c.missing:
				t.Errorf("%d missing, want %d", missing, c.missing)
			}
		})
	}
}
