package link

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/stamp"
	"drship/internal/block"
	"drship/internal/digest"
	"drship/internal/state"
	"drship/wan"
	"drship/wan/frame"
	"drship/wan/reduce"
)

const secret = "known to the impostor too"

// impostor holds the right secret and speaks the protocol, but what it says is wrong.
type impostor struct {
	t    *testing.T
	ctx  context.Context
	link *wan.Session
	peer frame.State // what the victim said of itself first
}

// impersonate comes up as alice, who must be down, and replies to bob's state with one that makes alice his source.
func impersonate(ctx context.Context, t *testing.T, e *wan.Endpoint) *impostor {
	t.Helper()
	link, err := e.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{t: t, ctx: ctx, link: link}
	theirs := i.hear(func(m frame.Message) bool { return m.Type() == frame.TypeState })
	if theirs == nil {
		t.Fatalf("bob says nothing of himself: %v", link.Err())
	}
	i.peer = *theirs.(*frame.State)
	mine := i.peer
	mine.Role, mine.Flags = uint8(state.Primary), 0
	if link.Dialled() {
		mine.Flags = frame.FlagTie
	}
	i.say(&mine)
	return i
}

// start opens a stream that brings the victim nothing yet.
func (i *impostor) start(mode frame.Mode) {
	m := &frame.StreamStart{Mode: mode, From: i.peer.Position, Volume: i.peer.Volumes}
	for _, v := range i.peer.Volumes {
		m.UUIDs = append(m.UUIDs, v.UUIDs)
	}
	i.say(m)
}

// say sends a message; a session that the victim has ended takes none, which is not the impostor's concern.
func (i *impostor) say(m frame.Message) {
	i.t.Helper()
	if err := i.link.Send(i.ctx, m); errors.Is(err, frame.ErrFrame) {
		i.t.Fatal(err)
	}
}

// hear waits for a message that fits; nil means that the victim hung up.
func (i *impostor) hear(fits func(frame.Message) bool) frame.Message {
	for {
		m, err := i.link.Recv(i.ctx, frame.Control)
		if err != nil {
			if i.ctx.Err() != nil {
				i.t.Fatal("the victim neither answered nor hung up")
			}
			return nil
		}
		if fits(m) {
			return m
		}
	}
}

// hungUp waits for the end of the session.
func (i *impostor) hungUp() {
	i.t.Helper()
	if m := i.hear(func(frame.Message) bool { return false }); m != nil {
		i.t.Errorf("the victim went on: %T", m)
	}
}

// askedAgain waits for the victim to ask for what was wrong once more.
func (i *impostor) askedAgain(reason uint8) {
	i.t.Helper()
	m := i.hear(func(m frame.Message) bool { return m.Type() == frame.TypeResend })
	if m == nil {
		i.t.Fatalf("the victim hung up: %v", i.link.Err())
	}
	if got := m.(*frame.Resend); got.Reason != reason || got.From != i.peer.Position {
		i.t.Errorf("asked again for %v, reason %d; want %v, reason %d", got.From, got.Reason, i.peer.Position, reason)
	}
}

// batch is a right one: a block of 0xEE at the beginning of the volume, behind the victim's position.
func (i *impostor) batch() *frame.Batch {
	i.t.Helper()
	e, err := reduce.NewEncoder(reduce.Options{Digest: digest.CRC32C})
	if err != nil {
		i.t.Fatal(err)
	}
	data := bytes.Repeat([]byte{0xEE}, block.Size)
	next := i.peer.Position
	next.Num++
	b, err := e.Batch(i.peer.Position, []block.Record{{Seq: next, Kind: block.Write, Len: block.Size, Data: data, Time: 1}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	return b
}

// chunk is a right one, of the same block.
func (i *impostor) chunk() *frame.Chunk {
	data := bytes.Repeat([]byte{0xEE}, block.Size)
	return &frame.Chunk{ID: 1, Len: block.Size, Digest: uint8(digest.CRC32C), Sum: digest.CRC32C.Sum(nil, data), Data: data}
}

// lies are what the impostor tries. None of them may change a byte.
var lies = []struct {
	name string
	tell func(i *impostor)
}{
	{"a batch that was changed", func(i *impostor) {
		i.start(frame.ModeJournal)
		b := i.batch()
		b.Payload[len(b.Payload)-1] ^= 1
		i.say(b)
		i.askedAgain(frame.ResendDigest)
	}},
	{"a batch that follows nothing", func(i *impostor) {
		i.start(frame.ModeJournal)
		b := i.batch()
		b.Prev.Num, b.Last.Num = b.Prev.Num+7, b.Last.Num+7
		i.say(b)
		i.askedAgain(frame.ResendChain)
	}},
	{"a batch of rubbish that claims to be large once unpacked", func(i *impostor) {
		i.start(frame.ModeJournal)
		b := i.batch()
		b.Codec, b.RawLen, b.Payload = frame.CodecZstd, frame.MaxRaw, bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd}, 1000)
		i.say(b)
		i.askedAgain(frame.ResendDigest)
	}},
	{"a batch without a stream", func(i *impostor) {
		i.say(i.batch())
		i.say(&frame.QueryReply{ID: 99})
		i.hungUpOrSilent()
	}},
	{"a chunk that was changed", func(i *impostor) {
		i.start(frame.ModeJournal)
		c := i.chunk()
		c.Data[0] ^= 1
		i.say(c)
		m := i.hear(func(m frame.Message) bool { return m.Type() == frame.TypeChunkAck })
		if m == nil {
			i.t.Fatalf("the victim hung up: %v", i.link.Err())
		}
		if a := m.(*frame.ChunkAck); len(a.IDs) != 0 || len(a.Bad) != 1 {
			i.t.Errorf("answered %+v", a)
		}
	}},
	{"a chunk behind the end of the volume", func(i *impostor) {
		i.start(frame.ModeJournal)
		c := i.chunk()
		c.Off = volumeSize
		i.say(c)
		i.hungUp()
	}},
	{"identifiers for too few volumes", func(i *impostor) {
		i.say(&frame.StreamStart{Mode: frame.ModeJournal, From: i.peer.Position})
		i.hungUp()
	}},
	{"a bitmap behind the handshake", func(i *impostor) {
		i.start(frame.ModeJournal)
		i.say(&frame.Bitmap{})
		i.hungUp()
	}},
	{"more requests than one may ask", func(i *impostor) {
		for id := range uint64(64) {
			i.say(&frame.Request{ID: id + 1, Verb: frame.RequestVerifyStop})
		}
		i.hungUpOrSilent()
	}},
}

// hungUpOrSilent ends the session itself: what was said has no answer that is due.
func (i *impostor) hungUpOrSilent() { i.link.Close(nil) }

// TestHostilePeer: a peer that knows the secret and says what is wrong changes nothing on the replica, and the right one is
// welcome afterwards.
func TestHostilePeer(t *testing.T) {
	ctx := pairtest.Real(t)
	p, ops := besieged(ctx, t)
	bob := p.Node("bob")
	before := disk(t, bob)
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			tellLie(ctx, t, p, lie.tell)
			if !bytes.Equal(before, disk(t, bob)) {
				t.Error("the replica was changed")
			}
			s := wait(ctx, t, bob, "the impostor to be gone", apart)
			if !s.UpToDate() {
				t.Errorf("bob: %v", s)
			}
		})
	}
	relieved(ctx, t, p, ops)
}

// besieged brings a pair up, with something on its disks, and takes alice away, so that an impostor can come in her place. It returns what her clients did.
func besieged(ctx context.Context, t *testing.T) (*pair.Pair, []stamp.Op) {
	t.Helper()
	p := pairtest.Up(ctx, t, pair.Options{Protocol: "C", Secret: secret})
	l := startLoad(ctx, t, p.Node("alice"), time.Millisecond)
	l.progress(ctx, 300)
	ops := l.stop()
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Node("alice").Terminate(); err != nil {
		t.Fatal(err)
	}
	return p, ops
}

// relieved lets alice come back, who is welcome, and finds everything in its place.
func relieved(ctx context.Context, t *testing.T, p *pair.Pair, ops []stamp.Op) {
	t.Helper()
	alice := p.Node("alice")
	if err := alice.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.Up(ctx); err != nil {
		t.Fatal(err)
	}
	settle(ctx, t, p, ops)
}

// tellLie runs one impostor from its coming up to its end.
func tellLie(ctx context.Context, t *testing.T, p *pair.Pair, tell func(*impostor)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	e, err := wan.NewEndpoint(wan.Config{
		Resource: pair.Resource, Node: "alice", Listen: p.Address("alice").String(),
		Peers: []wan.Peer{{Name: "bob", Addr: p.Address("bob").String()}},
		Trust: wan.Trust{HMACAlg: "sha256", Secret: secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- e.Run(running) }()
	e.Want("bob", true)
	i := impersonate(ctx, t, e)
	tell(i)
	i.link.Close(nil)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
