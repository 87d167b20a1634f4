package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is the client's end of a connection, byte by byte.
type peer struct {
	t    *testing.T
	c    net.Conn
	done chan error         // what ServeConn returned
	stop context.CancelFunc // ends the server's context
}

// connect serves one connection over a unix socket pair in memory (net.Pipe) and reads the greeting.
func connect(t *testing.T, cfg Config) *peer {
	t.Helper()
	server, client := net.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	p := &peer{t: t, c: client, done: make(chan error, 1), stop: stop}
	go func() { p.done <- NewServer(cfg).ServeConn(ctx, server) }()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() {
		client.Close()
		stop()
	})
	want := []byte("NBDMAGICIHAVEOPT\x00\x03")
	if got := p.read(18); !bytes.Equal(got, want) {
		t.Fatalf("greeting %q", got)
	}
	return p
}

// hello is connect, with the usual client flags.
func hello(t *testing.T, cfg Config) *peer {
	p := connect(t, cfg)
	p.write(be(ClientFixedNewstyle | ClientNoZeroes))
	return p
}

func serving(e Export) Config {
	return Config{Directory: &shelf{exports: map[string]Export{"r0": e}}}
}

func (p *peer) write(b ...[]byte) {
	p.t.Helper()
	if _, err := p.c.Write(bytes.Join(b, nil)); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.c, b); err != nil {
		p.t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

// ended waits for the server to hang up, and returns what ServeConn returned.
func (p *peer) ended() error {
	p.t.Helper()
	if n, err := io.Copy(io.Discard, p.c); err != nil && !errors.Is(err, io.ErrClosedPipe) || n != 0 {
		p.t.Fatalf("server sent %d bytes more, then: %v", n, err)
	}
	return <-p.done
}

// be encodes integers one behind the other, big endian.
func be(v ...any) []byte {
	var b bytes.Buffer
	for _, x := range v {
		if s, ok := x.(string); ok {
			b.WriteString(s)
		} else if err := binary.Write(&b, binary.BigEndian, x); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func optionBytes(id uint32, data []byte) []byte {
	return append(be(protocol.NEGOTIATION_MAGIC_OPTION, id, uint32(len(data))), data...)
}

// option sends an option and returns the replies to it: their types, and their data.
func (p *peer) option(id uint32, data []byte) (kinds []uint32, datas []string) {
	p.t.Helper()
	p.write(optionBytes(id, data))
	for {
		h := p.read(ReplyHeaderSize)
		if got := binary.BigEndian.Uint64(h); got != protocol.NEGOTIATION_MAGIC_REPLY {
			p.t.Fatalf("reply magic %#x", got)
		}
		if got := binary.BigEndian.Uint32(h[8:]); got != id {
			p.t.Fatalf("reply to option %d, asked %d", got, id)
		}
		kind := binary.BigEndian.Uint32(h[12:])
		kinds = append(kinds, kind)
		datas = append(datas, string(p.read(int(binary.BigEndian.Uint32(h[16:])))))
		if kind == RepAck || kind&repError != 0 {
			return kinds, datas
		}
	}
}

// last is option, for when only the final reply matters.
func (p *peer) last(id uint32, data []byte) (kind uint32, text string) {
	p.t.Helper()
	kinds, datas := p.option(id, data)
	return kinds[len(kinds)-1], datas[len(datas)-1]
}

func goData(name string, wants ...uint16) []byte {
	return be(uint32(len(name)), name, uint16(len(wants)), wants)
}

func metaData(name string, queries ...string) []byte {
	b := be(uint32(len(name)), name, uint32(len(queries)))
	for _, q := range queries {
		b = append(b, be(uint32(len(q)), q)...)
	}
	return b
}

// start picks export r0, with structured replies and base:allocation if asked for.
func start(t *testing.T, cfg Config, structured bool) *peer {
	t.Helper()
	p := hello(t, cfg)
	if structured {
		p.mustAck(OptStructuredReply, nil)
		p.mustAck(OptSetMetaContext, metaData("r0", BaseAllocation))
	}
	p.mustAck(OptGo, goData("r0"))
	return p
}

func (p *peer) mustAck(id uint32, data []byte) {
	p.t.Helper()
	if kind, text := p.last(id, data); kind != RepAck {
		p.t.Fatalf("option %d: reply %#x %q", id, kind, text)
	}
}

func requestBytes(cmd, flags uint16, cookie, off uint64, length uint32, data ...byte) []byte {
	return append(be(protocol.TRANSMISSION_MAGIC_REQUEST, flags, cmd, cookie, off, length), data...)
}

// answer is a reply in the transmission phase.
type answer struct {
	structured bool
	cookie     uint64
	code       uint32
	kind       uint16
	data       string // payload behind the header, offset included
}

// answer reads one reply; want is the length of the data of a simple reply.
func (p *peer) answer(want int) answer {
	p.t.Helper()
	h := p.read(SimpleReplySize)
	a := answer{cookie: binary.BigEndian.Uint64(h[8:])}
	switch magic := binary.BigEndian.Uint32(h); magic {
	case protocol.TRANSMISSION_MAGIC_REPLY:
		a.code = binary.BigEndian.Uint32(h[4:])
		if a.code == 0 {
			a.data = string(p.read(want))
		}
	case StructuredReplyMagic:
		a.structured = true
		if flags := binary.BigEndian.Uint16(h[4:]); flags != ReplyFlagDone {
			p.t.Fatalf("chunk flags %#x", flags)
		}
		a.kind = binary.BigEndian.Uint16(h[6:])
		a.data = string(p.read(int(binary.BigEndian.Uint32(p.read(4)))))
		if a.kind == ReplyError {
			a.code = binary.BigEndian.Uint32([]byte(a.data))
			a.data = a.data[6:]
		}
	default:
		p.t.Fatalf("reply magic %#x", magic)
	}
	return a
}

// alive checks that the connection still works, by a write of one byte and reading it back, without structure or with.
func (p *peer) alive(structured bool) {
	p.t.Helper()
	p.write(requestBytes(CmdWrite, 0, 1000, 7, 1, 0x5a))
	if a := p.answer(0); a.cookie != 1000 || a.code != 0 {
		p.t.Fatalf("write afterwards: %+v", a)
	}
	p.write(requestBytes(CmdRead, 0, 1001, 7, 1))
	a := p.answer(1)
	if a.cookie != 1001 || a.code != 0 || a.structured != structured || !strings.HasSuffix(a.data, "\x5a") {
		p.t.Fatalf("read afterwards: %+v", a)
	}
}
