package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"drship/internal/nbd"
)

// The magics of the protocol.
const (
	optionMagic  = "IHAVEOPT"
	requestMagic = uint32(0x25609513)
	replyMagic   = uint32(0x67446698)
)

// answerTime bounds what a server that is well says at once; far above what a busy machine needs.
const answerTime = 30 * time.Second

// client is a connection to an export, byte by byte.
type client struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, socket string) *client {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t: t, Conn: c}
}

// say sends; a server that has hung up takes nothing, which is its right.
func (c *client) say(parts ...any) {
	c.t.Helper()
	_, err := c.Write(be(parts...))
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
		c.t.Fatalf("say: %v", err)
	}
}

// be encodes integers and bytes one behind the other, big endian.
func be(parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b.WriteString(p)
		case []byte:
			b.Write(p)
		default:
			if err := binary.Write(&b, binary.BigEndian, p); err != nil {
				panic(err)
			}
		}
	}
	return b.Bytes()
}

func option(id uint32, data []byte) []byte { return be(optionMagic, id, uint32(len(data)), data) }

func goTo(name string) []byte { return be(uint32(len(name)), name, uint16(0)) }

func request(cmd, flags uint16, cookie, off uint64, length uint32) []byte {
	return be(requestMagic, flags, cmd, cookie, off, length)
}

// greet takes the server's greeting and answers with client flags.
func (c *client) greet(flags uint32) {
	c.t.Helper()
	c.take(18)
	c.say(flags)
}

func (c *client) take(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("the server's answer: %v", err)
	}
	return b
}

// answered reads the last reply to an option and returns its kind.
func (c *client) answered() uint32 {
	c.t.Helper()
	for {
		h := c.take(nbd.ReplyHeaderSize)
		kind := binary.BigEndian.Uint32(h[12:])
		n := binary.BigEndian.Uint32(h[16:])
		if n > 1<<20 {
			c.t.Fatalf("the server announces a reply of %d bytes", n)
		}
		c.take(int(n))
		if kind == nbd.RepAck || kind&(1<<31) != 0 {
			return kind
		}
	}
}

// refused wants the option to be answered by an error.
func (c *client) refused(id uint32, data []byte) {
	c.t.Helper()
	c.say(option(id, data))
	if kind := c.answered(); kind&(1<<31) == 0 {
		c.t.Errorf("option %d is answered with %#x", id, kind)
	}
}

// open picks the export, in the simple form.
func (c *client) open(name string) {
	c.t.Helper()
	c.greet(3)
	c.say(option(nbd.OptGo, goTo(name)))
	if kind := c.answered(); kind != nbd.RepAck {
		c.t.Fatalf("the export is refused: %#x", kind)
	}
}

// failed reads a simple reply and wants an error in it.
func (c *client) failed(cookie uint64) {
	c.t.Helper()
	h := c.take(nbd.SimpleReplySize)
	if binary.BigEndian.Uint32(h) != replyMagic || binary.BigEndian.Uint64(h[8:]) != cookie {
		c.t.Fatalf("reply %x", h)
	}
	if binary.BigEndian.Uint32(h[4:]) == 0 {
		c.t.Errorf("request %d succeeded", cookie)
	}
}

// works reads one byte, to see that the connection is as good as ever.
func (c *client) works() {
	c.t.Helper()
	c.say(request(nbd.CmdRead, 0, 4711, 0, 1))
	h := c.take(nbd.SimpleReplySize)
	if binary.BigEndian.Uint64(h[8:]) != 4711 || binary.BigEndian.Uint32(h[4:]) != 0 {
		c.t.Fatalf("a good request afterwards: %x", h)
	}
	c.take(1)
}

// hungUp wants the server to end the connection, whatever it says before.
func (c *client) hungUp() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the server keeps the connection")
	}
}
