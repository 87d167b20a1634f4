package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// replyHead is the longest header of a reply: structured, offset and hole size.
	replyHead = StructuredReplySize + 12
	// maxBatch bounds the data of one write to the socket, in bytes, as far as single replies allow.
	maxBatch = 1 << 20
	// maxFlat is up to where a reply batch is copied together for a connection that cannot gather (TLS), in bytes.
	maxFlat = 64 << 10
	// maxErrorText bounds the message of an error reply, in bytes.
	maxErrorText = 512
)

// reply is one message to the client: head, then data.
type reply struct {
	head [replyHead]byte
	n    int     // bytes of head in use
	data []byte  // may be nil; lies in buf, if that is set
	buf  *buffer // given back after sending
}

// simple makes r a reply without structure.
func (r *reply) simple(cookie uint64, code uint32) {
	binary.BigEndian.PutUint32(r.head[0:], protocol.TRANSMISSION_MAGIC_REPLY)
	binary.BigEndian.PutUint32(r.head[4:], code)
	binary.BigEndian.PutUint64(r.head[8:], cookie)
	r.n = SimpleReplySize
}

// chunk makes r the only chunk of a structured reply; length is that of all that follows the header.
func (r *reply) chunk(cookie uint64, kind uint16, length int) {
	binary.BigEndian.PutUint32(r.head[0:], StructuredReplyMagic)
	binary.BigEndian.PutUint16(r.head[4:], ReplyFlagDone)
	binary.BigEndian.PutUint16(r.head[6:], kind)
	binary.BigEndian.PutUint64(r.head[8:], cookie)
	binary.BigEndian.PutUint32(r.head[16:], uint32(length))
	r.n = StructuredReplySize
}

// fail makes r an error reply, with a text where the client can take one.
func (r *reply) fail(cookie uint64, structured bool, err error) {
	if !structured {
		r.simple(cookie, Errno(err))
		return
	}
	text := clip(err.Error(), maxErrorText)
	r.chunk(cookie, ReplyError, 6+len(text))
	binary.BigEndian.PutUint32(r.head[r.n:], Errno(err))
	binary.BigEndian.PutUint16(r.head[r.n+4:], uint16(len(text)))
	r.n += 6
	r.data = []byte(text)
}

// replyWriter sends replies in the order in which they come, each whole. A worker that finds nobody writing sends its own
// reply and all that others add meanwhile; the others go on at once. The replies waiting are bounded by limit.
type replyWriter struct {
	conn     net.Conn
	gathers  bool // conn sends several slices in one call
	stall    time.Duration
	buffers  *bufferPool
	finished func(n int) // called after n replies were sent or dropped
	broken   func()      // called once, when sending failed
	taking   keeping     // a batch with payload is on its way to the client

	mu      sync.Mutex
	room    sync.Cond // the queue was taken, or err was set
	queue   []reply
	queued  int // bytes of data in queue
	limit   int
	writing bool
	err     error

	// For whoever has set writing.
	batch []reply
	heads []byte      // headers of the batch, one behind the other
	parts net.Buffers // what one call sends
	rest  net.Buffers // the part of parts that is still to be sent; a field, so that it needs no allocation
	armed time.Time   // when the write deadline was set
}

func newReplyWriter(conn net.Conn, limit int) *replyWriter {
	w := &replyWriter{conn: conn, limit: limit}
	w.room.L = &w.mu
	switch conn.(type) {
	case *net.UnixConn, *net.TCPConn:
		w.gathers = true
	}
	return w
}

// send takes r over. With more, another reply or a flush follows soon, and r may wait for it. It blocks while the
// client takes no replies and too many wait.
func (w *replyWriter) send(r *reply, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing && len(w.queue) >= w.limit && w.err == nil {
		w.room.Wait()
	}
	w.queue = append(w.queue, *r)
	w.queued += len(r.data)
	if w.writing || more && len(w.queue) < min(heldBack, w.limit) && w.queued < maxBatch {
		return
	}
	w.drain()
}

// flush sends the replies that are held back.
func (w *replyWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.drain()
	}
}

// drain sends what is queued, until nothing is. w.mu is held, and released while it sends.
func (w *replyWriter) drain() {
	w.writing = true
	for len(w.queue) > 0 {
		payload := w.queued
		w.batch, w.queue, w.queued = w.queue, w.batch[:0], 0
		w.room.Broadcast()
		err := w.err
		w.mu.Unlock()
		if payload > 0 {
			w.taking.begin(payload)
		}
		if err == nil {
			err = w.write(w.batch)
		}
		w.release(w.batch)
		w.taking.end()
		w.mu.Lock()
		if err != nil && w.err == nil {
			w.err = err
			w.room.Broadcast()
			w.broken()
		}
	}
	w.writing = false
}

// release gives the buffers of a batch back.
func (w *replyWriter) release(batch []reply) {
	for i := range batch {
		w.buffers.put(batch[i].buf)
		batch[i].buf, batch[i].data = nil, nil
	}
	w.finished(len(batch))
}

// write sends a batch, in as few calls as maxBatch allows.
func (w *replyWriter) write(batch []reply) error {
	for len(batch) > 0 {
		n, size := 0, 0
		for n < len(batch) && (n == 0 || size+batch[n].n+len(batch[n].data) <= maxBatch) {
			size += batch[n].n + len(batch[n].data)
			n++
		}
		if err := w.writeOnce(batch[:n], size); err != nil {
			return fmt.Errorf("send %d replies: %w", n, err)
		}
		batch = batch[n:]
	}
	return nil
}

// writeOnce sends replies of size bytes with one call, as far as the connection can.
func (w *replyWriter) writeOnce(batch []reply, size int) error {
	flat := !w.gathers && size <= maxFlat
	w.heads, w.parts = w.heads[:0], w.parts[:0]
	if need := len(batch) * replyHead; cap(w.heads) < need {
		w.heads = make([]byte, 0, need) // grown here, because parts points into it
	}
	start := 0
	for i := range batch {
		r := &batch[i]
		w.heads = append(w.heads, r.head[:r.n]...)
		if len(r.data) == 0 {
			continue
		}
		if flat {
			w.heads = append(w.heads, r.data...)
			continue
		}
		w.parts = append(w.parts, w.heads[start:], r.data)
		start = len(w.heads)
	}
	if start < len(w.heads) {
		w.parts = append(w.parts, w.heads[start:])
	}
	if cap(w.heads) > 2*maxFlat {
		w.heads = nil
	}
	w.rest = w.parts
	err := w.push()
	clear(w.parts)
	return err
}

// push sends rest. It gives up when the client takes nothing for the stall timeout.
func (w *replyWriter) push() error {
	for {
		if now := time.Now(); now.Sub(w.armed) > w.stall/2 {
			// Set far ahead and seldom: a deadline for each write would cost more than the write's own bookkeeping.
			if err := w.conn.SetWriteDeadline(now.Add(2 * w.stall)); err != nil {
				return err
			}
			w.armed = now
		}
		n, err := w.pushOnce()
		if err == nil {
			return nil
		}
		if n == 0 || !w.gathers || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		w.armed = time.Time{}
	}
}

func (w *replyWriter) pushOnce() (int64, error) {
	if len(w.rest) == 1 && w.gathers {
		n, err := w.conn.Write(w.rest[0])
		w.rest[0] = w.rest[0][n:]
		return int64(n), err
	}
	return w.rest.WriteTo(w.conn)
}
