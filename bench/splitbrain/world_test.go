// Package splitbrain tries, on real daemons, who has which data: split brains and what ends them, fencing, handlers, failing disks and
// more than two nodes.
package splitbrain

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const size = 16 << 20

// binary builds the program once for all tests, unless DRSHIP_BIN names one.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("DRSHIP_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "drship-splitbrain-bin-")
	if err != nil {
		return "", err
	}
	return pair.Build(context.Background(), dir, os.Getenv("DRSHIP_RACE") != "")
})

func TestMain(m *testing.M) {
	code := m.Run()
	if !testing.Short() && os.Getenv("DRSHIP_BIN") == "" {
		if path, err := binary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// world is a pair with alice Primary and everything UpToDate.
type world struct {
	*testing.T
	ctx        context.Context
	pair       *pair.Pair
	alice, bob *pair.Node
	events     string // a file: each handler adds a line to it
}

// begin makes a world; handlers named are set to note that they ran: "NODE EVENT PEER".
func begin(t *testing.T, o pair.Options, handlers ...string) *world {
	ctx := pairtest.Real(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, events: filepath.Join(t.TempDir(), "events")}
	o.Binary, o.Sizes, o.Net = bin, []int64{size}, append(pair.QuickTiming(), o.Net...)
	o.Env = append(o.Env, "DRSHIP_TEST_EVENTS="+w.events)
	for _, h := range handlers {
		o.Handlers = append(o.Handlers, fmt.Sprintf(`%s "eval name=\\$DRBD_NODE_ID_$DRBD_MY_NODE_ID; echo $name %s $DRBD_PEER >> $DRSHIP_TEST_EVENTS"`, h, h))
	}
	w.pair = pairtest.Up(ctx, t, o)
	w.alice, w.bob = w.pair.Nodes[0], w.pair.Nodes[1]
	return w
}

func (w *world) verb(n *pair.Node, verb string, args ...string) string {
	w.Helper()
	out, err := n.Verb(w.ctx, verb, append(args, pair.Resource)...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// refused wants the verb to fail with an answer that holds text.
func (w *world) refused(n *pair.Node, text, verb string, args ...string) {
	w.Helper()
	out, err := n.Verb(w.ctx, verb, append(args, pair.Resource)...)
	if err == nil || !strings.Contains(err.Error(), text) {
		w.Fatalf("%s on %s: got %q, %v; want a refusal with %q", verb, n.Name, out, err, text)
	}
}

// patience bounds each thing that is waited for.
const patience = 40 * time.Second

func (w *world) wait(n *pair.Node, what string, ok func(pair.Status) bool) pair.Status {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	s, err := n.Wait(ctx, what, ok)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) waitState(n *pair.Node, conn string) {
	w.Helper()
	w.wait(n, conn, func(s pair.Status) bool { return s.Connections[0].State == conn })
}

// write fills count blocks from block on with the text.
func (w *world) write(n *pair.Node, from, count int, text string) {
	w.Helper()
	v, err := n.Open(w.ctx, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer v.Close()
	for b := from; b < from+count; b++ {
		if err := v.WriteAt(w.ctx, content(text), int64(b)*4096, true); err != nil {
			w.Fatal(err)
		}
	}
}

func content(text string) []byte {
	return bytes.Repeat([]byte(text+" "), 4096/(len(text)+1)+1)[:4096]
}

// holds wants block b of the node's backing file to hold the text.
func (w *world) holds(n *pair.Node, b int, text string) {
	w.Helper()
	got := make([]byte, 4096)
	f, err := os.Open(n.Backing(0))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(got, int64(b)*4096); err != nil {
		w.Fatal(err)
	}
	if !bytes.Equal(got, content(text)) {
		w.Fatalf("block %d of %s holds %.20q, not %q", b, n.Name, got, text)
	}
}

// equal waits until everything is in sync and compares the backing files, once nobody writes.
func (w *world) equal() {
	w.Helper()
	for _, n := range w.pair.Nodes {
		w.wait(n, "everything UpToDate", pair.Status.InSync)
	}
	for _, n := range w.pair.Nodes {
		if s, err := n.Status(w.ctx); err == nil && s.Role == "Primary" {
			if err := n.Demote(w.ctx); err != nil {
				w.Fatal(err)
			}
		}
	}
	first := pairtest.Disk(w, w.pair.Nodes[0])
	for _, n := range w.pair.Nodes[1:] {
		w.wait(n, "equal disks", func(pair.Status) bool { return bytes.Equal(first, pairtest.Disk(w, n)) })
	}
}

// ran waits until the handlers have noted every event, in whatever order.
func (w *world) ran(events ...string) {
	w.Helper()
	alive := w.alice
	if !alive.Running() {
		alive = w.bob
	}
	w.wait(alive, fmt.Sprintf("handlers %q", events), func(pair.Status) bool {
		text := w.noted()
		for _, e := range events {
			if !strings.Contains(text, e+"\n") {
				return false
			}
		}
		return true
	})
}

func (w *world) noted() string {
	text, err := os.ReadFile(w.events)
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	return string(text)
}

// split lets both sides write without the other: alice blocks 10–14, bob 12–13 and 20. Alice stays Primary if she is to; bob becomes
// Secondary again unless he is to stay.
func (w *world) split(alicePrimary, bobPrimary bool) {
	w.Helper()
	w.write(w.alice, 10, 1, "both have this")
	w.verb(w.alice, "disconnect")
	w.verb(w.bob, "disconnect")
	w.write(w.alice, 10, 5, "alice")
	w.verb(w.bob, "primary")
	w.write(w.bob, 12, 2, "bob")
	w.write(w.bob, 20, 1, "bob")
	if !alicePrimary {
		if err := w.alice.Demote(w.ctx); err != nil {
			w.Fatal(err)
		}
	}
	if !bobPrimary {
		if err := w.bob.Demote(w.ctx); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) connectBoth() {
	w.Helper()
	w.verb(w.alice, "connect")
	w.verb(w.bob, "connect")
}
