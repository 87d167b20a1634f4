package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// script is a connection whose client sends fixed bytes and then closes its side.
type script struct {
	net.Conn // the methods that are not here are not used
	in       *bytes.Reader
	mu       sync.Mutex
	out      bytes.Buffer
	closed   bool
}

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.out.Write(p)
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// exchange lets a client send b to a server for the export m, and returns what the server said.
func exchange(t *testing.T, m *memory, b []byte) []byte {
	t.Helper()
	c := &script{in: bytes.NewReader(b)}
	d := &shelf{exports: map[string]Export{"": m, "r0": m}}
	err := NewServer(Config{Directory: d, MaxInFlight: 4}).ServeConn(context.Background(), c)
	if d.opened != d.closed {
		t.Errorf("export opened %d times, released %d times (%v)", d.opened, d.closed, err)
	}
	return c.out.Bytes()
}

// FuzzNegotiation sends any bytes in place of a client's flags and options. The server must neither crash nor hang,
// and what it says must be a greeting and well-formed replies, up to where transmission begins.
func FuzzNegotiation(f *testing.F) {
	flags := be(ClientFixedNewstyle | ClientNoZeroes)
	for _, options := range [][]byte{
		optionBytes(OptGo, goData("r0", InfoName, InfoBlockSize)),
		optionBytes(OptExportName, []byte("r0")),
		optionBytes(OptSetMetaContext, metaData("r0", BaseAllocation, "base:")),
		slices.Concat(optionBytes(OptStructuredReply, nil), optionBytes(OptListMetaContext, metaData("r0"))),
		slices.Concat(optionBytes(OptList, nil), optionBytes(OptAbort, nil)),
		be("IHAVEOPT", uint32(99), uint32(1<<17)),
	} {
		f.Add(slices.Concat(flags, options))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		said := exchange(t, newMemory(1<<20), b)
		if len(said) < 18 || string(said[:16]) != "NBDMAGICIHAVEOPT" {
			t.Fatalf("greeting %q", said)
		}
		for said = said[18:]; len(said) >= ReplyHeaderSize; {
			if binary.BigEndian.Uint64(said) != protocol.NEGOTIATION_MAGIC_REPLY {
				return // EXPORT_NAME was answered, which has no magic
			}
			option, kind := binary.BigEndian.Uint32(said[8:]), binary.BigEndian.Uint32(said[12:])
			n := int(binary.BigEndian.Uint32(said[16:]))
			if len(said) < ReplyHeaderSize+n {
				t.Fatalf("reply of type %#x to option %d is cut off", kind, option)
			}
			if kind == RepAck && option == OptGo {
				return
			}
			said = said[ReplyHeaderSize+n:]
		}
	})
}

// FuzzTransmission sends any bytes as requests. The server must neither crash nor hang, must not touch what lies
// outside the export (the memory export would panic), and every reply must be well-formed.
func FuzzTransmission(f *testing.F) {
	f.Add(false, requestBytes(CmdWrite, CmdFlagFUA, 1, 0, 4, 1, 2, 3, 4))
	f.Add(true, slices.Concat(requestBytes(CmdRead, 0, 1, 0, 4096), requestBytes(CmdFlush, 0, 2, 0, 0)))
	f.Add(true, requestBytes(CmdBlockStatus, CmdFlagReqOne, 1, 512, 1<<19))
	f.Add(true, requestBytes(CmdWriteZeroes, CmdFlagNoHole|CmdFlagFastZero, 1, 1, 1<<20-1))
	f.Add(false, requestBytes(CmdTrim, 0, 1, 1<<63, 1<<31))
	f.Add(false, requestBytes(CmdWrite, 0, 1, 1<<40, 100))
	f.Add(true, requestBytes(77, 0xffff, 1, 0, 0xffffffff))
	f.Fuzz(func(t *testing.T, structured bool, b []byte) {
		hello := be(ClientFixedNewstyle | ClientNoZeroes)
		if structured {
			hello = append(hello, optionBytes(OptStructuredReply, nil)...)
			hello = append(hello, optionBytes(OptSetMetaContext, metaData("r0", BaseAllocation))...)
		}
		hello = append(hello, optionBytes(OptGo, goData("r0"))...)
		m := newMemory(1 << 20)
		m.data[0] = 1
		said := exchange(t, m, slices.Concat(hello, b))
		start := 18 + ReplyHeaderSize + 12 + ReplyHeaderSize
		if structured {
			start += ReplyHeaderSize + ReplyHeaderSize + 4 + len(BaseAllocation) + ReplyHeaderSize
		}
		if len(said) < start {
			t.Fatalf("negotiation failed: %q", said)
		}
		if structured {
			checkReplies(t, said[start:])
		}
	})
}

// checkReplies walks through the replies of a connection with structured replies, which needs no knowledge of the
// requests. The last one may be cut off, because the client hung up.
func checkReplies(t *testing.T, b []byte) {
	for len(b) >= SimpleReplySize {
		switch magic := binary.BigEndian.Uint32(b); magic {
		case protocol.TRANSMISSION_MAGIC_REPLY:
			b = b[SimpleReplySize:]
		case StructuredReplyMagic:
			if len(b) < StructuredReplySize {
				return
			}
			n := int(binary.BigEndian.Uint32(b[16:]))
			if n > MaxPayload+8 {
				t.Fatalf("chunk of %d bytes", n)
			}
			b = b[min(len(b), StructuredReplySize+n):]
		default:
			t.Fatalf("reply magic %#x", magic)
		}
	}
}
