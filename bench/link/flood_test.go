package link

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/internal/digest"
	"drship/internal/state"
	"drship/wan/frame"
)

// floodTime is how long an impostor goes on without listening to a word, unless the victim hangs up before.
const floodTime = 2 * time.Second

// grown is how much more than before the victim may hold while it is flooded, in bytes: what may be on its way in both directions, twice.
const grown = 192 << 20

// maxLog is far above what a victim may write about all this, in bytes.
const maxLog = 4 << 20

// floods are messages that are each allowed, or nearly, and that an authenticated peer sends without end.
var floods = []struct {
	name string
	next func(i *impostor, n uint64) frame.Message
}{
	{"states", func(i *impostor, n uint64) frame.Message {
		s := i.peer
		s.Role, s.Flags = uint8(state.Primary), uint32(n&1)*frame.FlagTie
		return &s
	}},
	{"streams", func(i *impostor, n uint64) frame.Message {
		m := &frame.StreamStart{Mode: frame.ModeJournal + frame.Mode(n%3), From: i.peer.Position, Volume: i.peer.Volumes}
		for _, v := range i.peer.Volumes {
			m.UUIDs = append(m.UUIDs, v.UUIDs)
		}
		return m
	}},
	{"requests", func(_ *impostor, n uint64) frame.Message {
		return &frame.Request{ID: n + 1, Verb: frame.RequestVerifyStop}
	}},
	{"replies to nothing", func(_ *impostor, n uint64) frame.Message { return &frame.Reply{ID: n + 1, Text: "well done"} }},
	{"acknowledgements of nothing", func(i *impostor, n uint64) frame.Message {
		at := i.peer.Position
		at.Num += n
		return &frame.Ack{Received: at, Staged: at, Applied: at}
	}},
	{"queries", func(_ *impostor, n uint64) frame.Message {
		const blocks = 256
		sums := make([]byte, blocks*digest.CRC32C.Size())
		return &frame.Query{ID: n + 1, Len: blocks * 4096, Digest: uint8(digest.CRC32C), Sums: sums}
	}},
	{"batches that follow nothing", func(i *impostor, n uint64) frame.Message {
		b := i.batch()
		b.Prev.Num, b.Last.Num = b.Prev.Num+7+n, b.Last.Num+7+n
		return b
	}},
	{"chunks that were changed", func(i *impostor, n uint64) frame.Message {
		c := i.chunk()
		c.ID, c.Data[0] = n+1, c.Data[0]^1
		return c
	}},
	{"I/O for clients that nobody has", func(_ *impostor, n uint64) frame.Message { return &frame.IO{ID: n + 1, Op: frame.OpRead, Len: 1 << 20} }},
}

// TestFloodingPeer: a peer that knows the secret, talks without end and never listens keeps nobody else waiting, takes no more memory than the bounds say, and changes
// nothing.
func TestFloodingPeer(t *testing.T) {
	ctx := pairtest.Real(t)
	p, ops := besieged(ctx, t)
	bob := p.Node("bob")
	before := disk(t, bob)
	rested, err := bob.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			tellLie(ctx, t, p, func(i *impostor) { i.flood(bob, f.next) })
			if !bytes.Equal(before, disk(t, bob)) {
				t.Error("the replica was changed")
			}
			if m, err := bob.Memory(); err != nil || m.Resident > rested.Resident+grown {
				t.Errorf("bob grew from %d to %d MiB (%v)", rested.Resident>>20, m.Resident>>20, err)
			}
			wait(ctx, t, bob, "the impostor to be gone", apart)
			if st, err := os.Stat(bob.LogPath()); err != nil || st.Size() > maxLog {
				t.Errorf("bob's log has grown: %d bytes, %v", st.Size(), err)
			}
		})
	}
	relieved(ctx, t, p, ops)
}

// flood opens a stream and talks. Meanwhile the victim answers its own administrator.
func (i *impostor) flood(victim *pair.Node, next func(*impostor, uint64) frame.Message) {
	i.t.Helper()
	i.start(frame.ModeJournal)
	ctx, cancel := context.WithTimeout(i.ctx, floodTime)
	defer cancel()
	sent := make(chan uint64)
	go func() { // ends with ctx, or with the link; waited for below
		n := uint64(0)
		for i.link.Send(ctx, next(i, n)) == nil {
			n++
		}
		sent <- n
	}()
	asked, stop := context.WithTimeout(i.ctx, 20*floodTime)
	defer stop()
	if _, err := victim.Verb(asked, "status", pair.Resource); err != nil {
		i.t.Errorf("the victim does not answer: %v", err)
	}
	if n := <-sent; n < 100 {
		i.t.Errorf("a flood of %d messages", n)
	} else {
		i.t.Logf("%d messages", n)
	}
}
