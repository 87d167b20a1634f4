// Package several runs one Primary with several peers as real daemons: a near one by protocol C, a far one by protocol A.
package several

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
)

const (
	size     = 16 << 20
	patience = 60 * time.Second
)

// world is a trio: alice is Primary, bob is near, charlie is far.
type world struct {
	*testing.T
	ctx                 context.Context
	trio                *pair.Pair
	alice, bob, charlie *pair.Node
}

// connections says who speaks with whom, and how: with charlie over other addresses than the two near ones have between them.
const connections = `	connection { host alice; host bob; }
	connection { host alice address 127.201.%[1]d.1:7788; host charlie address 127.201.%[1]d.3:7788; net { protocol A; ping-int 2; } }
	connection { host bob address 127.201.%[1]d.2:7788; host charlie address 127.201.%[1]d.3:7788; net { protocol A; ping-int 2; } }
}
`

func begin(t *testing.T) *world {
	w := &world{T: t, ctx: pairtest.Real(t)}
	wan := fmt.Sprintf(connections, os.Getpid()%250)
	w.trio = pairtest.Up(w.ctx, t, pair.Options{Binary: os.Getenv("DRSHIP_BIN"), Nodes: []string{"alice", "bob", "charlie"}, Sizes: []int64{size},
		Adjust: func(_, _, text string) string { return strings.TrimSuffix(text, "}\n") + wan }})
	w.alice, w.bob, w.charlie = w.trio.Node("alice"), w.trio.Node("bob"), w.trio.Node("charlie")
	return w
}

func (w *world) verb(n *pair.Node, verb string, args ...string) string {
	w.Helper()
	out, err := n.Verb(w.ctx, verb, args...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) wait(n *pair.Node, what string, ok func(pair.Status) bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if _, err := n.Wait(ctx, what, ok); err != nil {
		w.Fatal(err)
	}
}

// inSync waits until every node that runs says so of itself and of all others.
func (w *world) inSync() {
	w.Helper()
	for _, n := range w.trio.Nodes {
		w.wait(n, "everything UpToDate", pair.Status.InSync)
	}
}

// equal compares the backing files, once nobody writes and everything is applied.
func (w *world) equal() {
	w.Helper()
	w.inSync()
	w.sameDisks()
}

// sameDisks waits until everything is applied.
func (w *world) sameDisks() {
	w.Helper()
	first := pairtest.Disk(w, w.alice)
	for _, n := range w.trio.Nodes[1:] {
		w.wait(n, "a disk equal to alice's", func(pair.Status) bool { return bytes.Equal(first, pairtest.Disk(w, n)) })
	}
}

// block is what write number n puts into its block.
func block(n int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, 4096)
	binary.BigEndian.PutUint64(b, uint64(n))
	return b
}

const (
	blocks = size / 4096
	enough = 200 // writes
)

// writer writes block after block until it is stopped or the node is gone. What was acknowledged comes out of the channel when it ends.
// Once some are, some is closed.
func (w *world) writer(n *pair.Node, first int) (some chan struct{}, acknowledged chan int, stop context.CancelFunc) {
	w.Helper()
	v, err := n.Open(w.ctx, 0)
	if err != nil {
		w.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	some, acknowledged = make(chan struct{}), make(chan int, 1)
	go func() { // ends with ctx, or with the node
		defer v.Close()
		i := first
		for ; i < first+blocks && ctx.Err() == nil; i++ {
			if err := v.WriteAt(ctx, block(i), int64(i%blocks)*4096, false); err != nil {
				break
			}
			if i == first+enough {
				close(some)
			}
		}
		acknowledged <- i - 1
	}()
	return some, acknowledged, stop
}

// holds wants a node to serve every write up to and including last.
func (w *world) holds(n *pair.Node, first, last int) {
	w.Helper()
	v, err := n.Open(w.ctx, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer v.Close()
	got := make([]byte, 4096)
	for i := first; i <= last; i++ {
		if err := v.ReadAt(w.ctx, got, int64(i%blocks)*4096); err != nil {
			w.Fatal(err)
		}
		if !bytes.Equal(got, block(i)) {
			w.Fatalf("%s lacks write %d of %d that were acknowledged", n.Name, i, last)
		}
	}
}

// bobTakesOver kills alice while she is written to, and promotes bob, who has to have all that was acknowledged: the number of the last
// write is returned.
func (w *world) bobTakesOver() int {
	w.Helper()
	some, done, stop := w.writer(w.alice, 1)
	defer stop()
	<-some
	if err := w.alice.Kill(); err != nil {
		w.Fatal(err)
	}
	last := <-done
	if err := w.bob.Promote(w.ctx); err != nil {
		w.Fatal(err)
	}
	w.holds(w.bob, 1, last)
	return last
}

// The Primary dies under load; the near peer takes over with everything that was acknowledged, the far one follows it, the dead one returns.
func TestFailoverToTheNearPeer(t *testing.T) {
	w := begin(t)
	last := w.bobTakesOver()
	some, more, stop := w.writer(w.bob, last+1)
	<-some
	w.wait(w.charlie, "charlie follows bob", func(s pair.Status) bool { return connection(s, "bob").Role == "Primary" && s.UpToDate() })
	if err := w.alice.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(w.alice, "alice follows bob", func(s pair.Status) bool { return connection(s, "bob").Role == "Primary" && s.UpToDate() })
	stop()
	<-more
	w.inSync()
	if out, err := w.charlie.Verb(w.ctx, "primary", pair.Resource); err == nil {
		t.Fatalf("a second Primary: %s", out)
	}
	if err := w.bob.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.equal()
}

// A far peer that is cut off costs the near one nothing, comes back by journal, and can take over in order; so can the first one again.
func TestTheFarPeerLeavesReturnsAndTakesOver(t *testing.T) {
	w := begin(t)
	w.verb(w.charlie, "disconnect", pair.Resource)
	some, done, stop := w.writer(w.alice, 1)
	<-some
	stop()
	last := <-done
	w.verb(w.charlie, "connect", pair.Resource)
	w.inSync()
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.charlie.Promote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.holds(w.charlie, 1, last)
	some, done, stop = w.writer(w.charlie, last+1)
	<-some
	w.wait(w.bob, "bob follows charlie", func(s pair.Status) bool { return connection(s, "charlie").Role == "Primary" && s.UpToDate() })
	stop()
	<-done
	w.inSync()
	if err := w.charlie.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Promote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.inSync()
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.equal()
}

// A peer that leaves for good is forgotten: nothing is kept for it. If it returns after all, everything is compared anew.
func TestForgotten(t *testing.T) {
	w := begin(t)
	refused := func(text, verb string, args ...string) {
		t.Helper()
		if out, err := w.alice.Verb(w.ctx, verb, args...); err == nil || !strings.Contains(err.Error(), text) {
			t.Fatalf("%s: got %q, %v; want a refusal with %q", verb, out, err, text)
		}
	}
	refused("disconnect first", "forget-peer", "r0:charlie")
	refused("nothing is kept", "forget-peer", "r0:dora")
	w.verb(w.charlie, "down", pair.Resource)
	w.verb(w.alice, "disconnect", "r0:charlie")
	some, done, stop := w.writer(w.alice, 1)
	<-some
	stop()
	last := <-done
	if lag := w.journal(w.alice); lag == 0 {
		t.Fatal("the journal keeps nothing for a peer that is away")
	}
	w.verb(w.alice, "forget-peer", "r0:charlie")
	w.wait(w.alice, "an empty journal", func(pair.Status) bool { return w.journal(w.alice) == 0 })
	refused("was forgotten", "connect", "r0:charlie")
	w.verb(w.charlie, "up", pair.Resource)
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.verb(w.alice, "down", pair.Resource)
	w.verb(w.alice, "up", pair.Resource)
	w.wait(w.alice, "alice is back", func(s pair.Status) bool { return s.UpToDate() })
	if err := w.alice.Promote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.inSync()
	w.holds(w.alice, 1, last)
	if err := w.alice.Demote(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.equal()
}

// journal is how many records a node's journal holds.
func (w *world) journal(n *pair.Node) int {
	w.Helper()
	var all []struct {
		Journal struct {
			Records int `json:"journal-records"`
		} `json:"drship"`
	}
	if err := json.Unmarshal([]byte(w.verb(n, "status", "--json", pair.Resource)), &all); err != nil || len(all) != 1 {
		w.Fatalf("status: %v", err)
	}
	return all[0].Journal.Records
}

func connection(s pair.Status, name string) pair.Connection {
	for _, c := range s.Connections {
		if c.Name == name {
			return c
		}
	}
	return pair.Connection{}
}
