package wan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
)

// errDeadline is what quic-go's streams return when a deadline passes; deadlines are set where a context ends.
var errDeadline = os.ErrDeadlineExceeded

const (
	joinTail = 2 << 10  // bytes; a tail up to here is copied behind its head, so that one write does
	keepHead = 64 << 10 // bytes; a longer scratch buffer is given back
)

// lane is one ordered way for messages, in both directions.
type lane struct {
	counters
	stream *quic.Stream

	turn chan struct{} // held by the sender, capacity 1; waiters are served in their order
	head []byte        // the sender's scratch

	reading sync.Mutex
	header  [frame.HeaderSize]byte
	body    []byte // of the message being received; nil while its header is
	filled  int    // bytes of header or body that are there
	want    frame.Header
}

func (l *lane) init(st *quic.Stream) {
	l.stream = st
	l.turn = make(chan struct{}, 1)
}

// send writes m. begun says whether any of it was taken.
func (l *lane) send(ctx context.Context, m frame.Message) (begun bool, err error) {
	head, tail := frame.AppendHead(l.head[:0], m)
	if len(tail) <= joinTail {
		head, tail = append(head, tail...), nil
	}
	if cap(head) <= keepHead {
		l.head = head[:0]
	}
	size := len(head) + len(tail)
	release := interrupt(ctx, l.stream.SetWriteDeadline)
	n, err := l.stream.Write(head)
	if err == nil && len(tail) > 0 {
		var k int
		k, err = l.stream.Write(tail)
		n += k
	}
	release()
	if err != nil {
		return n > 0, err
	}
	l.sent.Add(1)
	l.bytesSent.Add(uint64(size))
	return true, nil
}

// interrupt makes a deadline pass when ctx ends. release takes it back.
func interrupt(ctx context.Context, setDeadline func(time.Time) error) (release func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = setDeadline(time.Unix(1, 0)) // a stream of quic-go always can
		close(fired)
	})
	return func() {
		if !stop() {
			<-fired
			_ = setDeadline(time.Time{})
		}
	}
}

// receive reads the next message. After an error because of ctx it can be called again.
func (l *lane) receive(ctx context.Context) (frame.Message, error) {
	release := interrupt(ctx, l.stream.SetReadDeadline)
	defer release()
	if l.body == nil {
		if err := l.fill(l.header[:]); err != nil {
			return nil, err
		}
		h, err := frame.ReadHeader(l.header[:])
		if err != nil {
			return nil, err
		}
		l.want, l.body, l.filled = h, make([]byte, h.Length), 0
	}
	if err := l.fill(l.body); err != nil {
		return nil, err
	}
	m, err := frame.Decode(l.want.Type, l.body)
	if err != nil {
		return nil, err
	}
	l.received.Add(1)
	l.bytesReceived.Add(uint64(frame.HeaderSize + len(l.body)))
	l.body, l.filled = nil, 0
	return m, nil
}

// fill reads until b is full, from l.filled on.
func (l *lane) fill(b []byte) error {
	for l.filled < len(b) {
		n, err := l.stream.Read(b[l.filled:])
		l.filled += n
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the peer ended a stream", ErrProtocol)
		}
		if err != nil && l.filled < len(b) {
			return err
		}
	}
	return nil
}
