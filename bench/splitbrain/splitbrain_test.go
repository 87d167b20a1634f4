package splitbrain

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drship/bench/pair"
)

// TestDetectedAndSolvedByHand follows DRBD's manual repair: both sides StandAlone, the victim gives its changes up, the survivor
// connects.
func TestDetectedAndSolvedByHand(t *testing.T) {
	w := begin(t, pair.Options{}, "initial-split-brain", "split-brain", "before-resync-target", "after-resync-target", "before-resync-source")
	w.split(true, false)
	w.connectBoth()
	w.waitState(w.alice, "StandAlone")
	w.waitState(w.bob, "StandAlone")
	w.ran("alice initial-split-brain bob", "alice split-brain bob", "bob initial-split-brain alice", "bob split-brain alice")
	for _, n := range w.pair.Nodes {
		log, err := os.ReadFile(n.LogPath())
		if err != nil || !strings.Contains(string(log), "Split-Brain detected but unresolved, dropping connection!") {
			t.Errorf("%s did not log the split brain (%v)", n.Name, err)
		}
	}
	told := w.verb(w.bob, "explain")
	for _, want := range []string{"rule 90", "changed here: at most 3 blocks", "changed at the peer: at most 5 blocks", "last write 2"} {
		if !strings.Contains(told, want) {
			t.Errorf("bob explains %q, not %q", told, want)
		}
	}
	w.holds(w.alice, 12, "alice")
	w.holds(w.bob, 12, "bob")

	// Who would lose what, without doing it.
	w.verb(w.alice, "connect")
	tried := w.verb(w.bob, "connect", "--tentative", "--discard-my-data")
	for _, want := range []string{"--discard-my-data names", "tried only, nothing was done", "discarded here: at most 3 blocks of 4 KiB, 12288 bytes"} {
		if !strings.Contains(tried, want) {
			t.Errorf("the trial says %q, not %q", tried, want)
		}
	}
	w.waitState(w.bob, "StandAlone")
	w.waitState(w.alice, "Connecting")
	w.holds(w.bob, 20, "bob")

	w.refused(w.alice, "discard", "connect", "--discard-my-data") // she is Primary
	w.verb(w.bob, "connect", "--discard-my-data")
	w.equal()
	w.holds(w.bob, 12, "alice")
	w.holds(w.bob, 14, "alice")
	w.keptDiscarded()
	w.ran("bob before-resync-target alice", "bob after-resync-target alice", "alice before-resync-source bob")
}

// keptDiscarded wants bob's own writes to be kept, and to come out as they were.
func (w *world) keptDiscarded() {
	w.Helper()
	history := func(args ...string) (string, error) {
		return w.bob.Verb(w.ctx, "history", args...)
	}
	listed, err := history("list", pair.Resource)
	if err != nil || !strings.Contains(listed, "the data of alice replaced") || !strings.Contains(listed, "bytes 81920 to 86016") {
		w.Fatalf("history list: %v\n%s", err, listed)
	}
	image := filepath.Join(w.TempDir(), "lost.img")
	if out, err := history("export", pair.Resource, "--to", image); err != nil {
		w.Fatalf("history export: %v\n%s", err, out)
	}
	f, err := os.Open(image)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	for b, text := range map[int64]string{12: "bob", 13: "bob", 20: "bob"} {
		got := make([]byte, 4096)
		if _, err := f.ReadAt(got, b*4096); err != nil || !bytes.Equal(got, content(text)) {
			w.Errorf("block %d of what was given up holds %.20q, %v", b, got, err)
		}
	}
	if out, err := history("drop", pair.Resource, "no-such-name"); err == nil {
		w.Errorf("dropped what is not there: %s", out)
	}
	name, _, _ := strings.Cut(listed, " ")
	if out, err := history("drop", pair.Resource, name); err != nil {
		w.Errorf("drop: %v, %s", err, out)
	}
	if listed, _ := history("list", pair.Resource); !strings.Contains(listed, "nothing is kept") {
		w.Errorf("still there: %s", listed)
	}
}

// TestPolicies: each row is a split brain that the after-sb policies solve, and who wins it.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		name       string
		net        []string
		alice, bob bool // Primary as they meet
		winner     string
	}{
		{"0pri least changes", []string{"after-sb-0pri discard-least-changes"}, false, false, "alice"},
		{"0pri younger primary", []string{"after-sb-0pri discard-younger-primary"}, false, false, "alice"},
		{"0pri older primary", []string{"after-sb-0pri discard-older-primary"}, false, false, "bob"},
		{"1pri discard secondary", []string{"after-sb-1pri discard-secondary"}, true, false, "alice"},
		{"1pri consensus", []string{"after-sb-0pri discard-least-changes", "after-sb-1pri consensus"}, true, false, "alice"},
		{"1pri, the Primary loses and demotes", []string{"after-sb-0pri discard-older-primary", "after-sb-1pri call-pri-lost-after-sb"}, true, false, "bob"},
		{"2pri, violently", []string{"after-sb-0pri discard-least-changes", "after-sb-2pri violently-as0p", "rr-conflict violently"}, true, true, "alice"},
		{"2pri, the loser demotes", []string{"after-sb-0pri discard-least-changes", "after-sb-2pri call-pri-lost-after-sb"}, true, true, "alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := begin(t, pair.Options{Net: c.net}, "initial-split-brain", "split-brain")
			w.split(c.alice, c.bob)
			w.connectBoth()
			w.equal()
			other := "bob"
			if c.winner == "bob" {
				other = "alice"
			}
			w.holds(w.pair.Node(other), 12, c.winner)
			w.ran("alice initial-split-brain bob", "bob initial-split-brain alice")
			if strings.Contains(w.noted(), " split-brain") {
				t.Error("a split brain that was solved ran the handler of one that was not")
			}
		})
	}
}

// TestPoliciesThatFail: the victim cannot give way, or nobody is named.
func TestPoliciesThatFail(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		w := begin(t, pair.Options{Net: []string{"after-sb-0pri discard-older-primary", "after-sb-1pri call-pri-lost-after-sb"}}, "pri-lost-after-sb")
		w.split(true, false)
		held, err := w.alice.Open(w.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		w.connectBoth()
		w.ran("alice pri-lost-after-sb bob")
		w.waitState(w.alice, "StandAlone")
		w.holds(w.alice, 12, "alice")
		w.holds(w.bob, 12, "bob")
	})
	t.Run("consensus", func(t *testing.T) {
		w := begin(t, pair.Options{Net: []string{"after-sb-0pri discard-older-primary", "after-sb-1pri consensus"}}, "split-brain")
		w.split(true, false)
		w.connectBoth()
		w.ran("alice split-brain bob", "bob split-brain alice")
		w.waitState(w.alice, "StandAlone")
		w.waitState(w.bob, "StandAlone")
	})
}

// TestPoliciesMustAgree: sides that would go by different rules do not replicate at all.
func TestPoliciesMustAgree(t *testing.T) {
	adjusted := false
	o := pair.Options{Adjust: func(node, _, text string) string {
		if node == "bob" && adjusted {
			return strings.Replace(text, "protocol C;", "protocol C;\n\t\tafter-sb-0pri discard-local;", 1)
		}
		return text
	}}
	w := begin(t, o)
	w.verb(w.bob, "disconnect")
	adjusted = true
	if err := w.bob.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	w.verb(w.bob, "adjust")
	for _, n := range w.pair.Nodes {
		s := w.wait(n, "StandAlone", func(s pair.Status) bool { return s.Connections[0].State == "StandAlone" })
		if !strings.Contains(s.Connections[0].Link.LastError, "incompatible after-sb-0pri settings") {
			t.Errorf("%s says %q", n.Name, s.Connections[0].Link.LastError)
		}
	}
}
