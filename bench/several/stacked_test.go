package several

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

// stacked makes a pair and a third node of r0's three hosts, in the words of DRBD 8: charlie stands on top of the others.
func stacked(_, _, text string) string {
	at := strings.Index(text, "\ton charlie {")
	third := strings.TrimSuffix(text[at:], "}\n")
	number := os.Getpid() % 250
	third = regexp.MustCompile(`address [^;]*;`).ReplaceAllString(third, fmt.Sprintf("address 127.202.%d.3:7788;", number))
	upper := fmt.Sprintf("resource r0-U {\n\tnet { protocol A; cram-hmac-alg sha256; shared-secret \"another one\"; connect-int 1; ping-int 2; }\n"+
		"\tstacked-on-top-of r0 { device /dev/drbd10; address 127.202.%d.1:7788; }\n%s}\n", number, third)
	return text[:at] + "}\n" + upper
}

// A stacked configuration runs as one resource: the third node is a peer of whoever has the stacked address, which is one node at a time.
func TestStacked(t *testing.T) {
	w := &world{T: t, ctx: pairtest.Real(t)}
	w.trio = pairtest.New(t, pair.Options{Binary: os.Getenv("DRSHIP_BIN"), Nodes: []string{"alice", "bob", "charlie"}, Sizes: []int64{size}, Adjust: stacked})
	w.alice, w.bob, w.charlie = w.trio.Node("alice"), w.trio.Node("bob"), w.trio.Node("charlie")
	for _, n := range w.trio.Nodes { // alice first: she has the address
		if err := n.Start(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.verb(n, "create-md", "r0")
		w.verb(n, "up", "r0")
	}
	w.verb(w.alice, "primary", "--force", "r0-U") // by its other name
	w.wait(w.alice, "everything UpToDate", pair.Status.InSync)
	w.bobTakesOver()
	w.wait(w.charlie, "charlie follows bob, who has the address now", func(s pair.Status) bool { return connection(s, "bob").Role == "Primary" && s.UpToDate() })
	if err := w.alice.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(w.bob, "everything UpToDate", pair.Status.InSync)
	if err := w.bob.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.sameDisks()
}
