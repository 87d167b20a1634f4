package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// payloadStep is how much of a payload must come within the stall timeout, in bytes.
const payloadStep = 1 << 20

// session is a connection in its transmission phase.
type session struct {
	shape
	export  Export
	conn    net.Conn
	in      *bufio.Reader // for the worker that holds the reading role
	armed   time.Time     // when the read deadline was set; goes with in
	stall   time.Duration
	drain   time.Duration
	limit   int // workers, hence requests in service
	buffers *bufferPool
	crowd   *crowd
	replies *replyWriter

	sending keeping     // a payload is on its way from the client
	evicted atomic.Bool // the client kept memory that others waited for

	// ctx is what the export sees. cancel ends it when the time to drain is over.
	ctx    context.Context
	cancel context.CancelCauseFunc

	inFlight atomic.Int64  // requests read and not yet answered
	draining atomic.Bool   // new requests are answered with ErrShutdown
	idle     chan struct{} // gets a token when draining and nothing is in flight

	role role

	workers sync.WaitGroup
	mu      sync.Mutex
	waiting []chan struct{} // workers without a request; the last one is woken first, its stack is warm
	count   int             // workers
	reading bool            // somebody holds the reading role
	ended   bool            // the role is gone: nothing more is read
	err     error           // why, unless the client left in order
	late    *time.Timer     // ends ctx some time after the client was lost
}

func newSession(srv *Server, n *negotiation, c *chosen) *session {
	s := &session{
		shape:   c.shape,
		export:  c.export,
		conn:    n.conn,
		in:      n.in,
		stall:   srv.cfg.StallTimeout,
		drain:   srv.cfg.DrainTimeout,
		limit:   srv.cfg.MaxInFlight,
		buffers: srv.buffers,
		crowd:   srv.crowd,
		idle:    make(chan struct{}, 1),
		role:    role{wake: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	w := newReplyWriter(n.conn, srv.cfg.MaxInFlight)
	w.stall, w.buffers = s.stall, s.buffers
	w.finished = s.finished
	w.broken = func() { s.conn.Close() }
	s.replies = w
	return s
}

// run serves requests until the client leaves or ctx ends, and returns when none is in flight any more.
func (s *session) run(ctx context.Context) error {
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer s.cancel(nil)
	s.crowd.join(s)
	defer s.crowd.leave(s)

	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		s.shutDown()
	})
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		s.guard()
	}()
	s.mu.Lock()
	s.reading = true
	s.spawn()
	s.mu.Unlock()
	s.workers.Wait()
	close(s.role.stop)
	<-guarded
	if s.late != nil {
		s.late.Stop()
	}
	if !stop() {
		<-drained
		return nil
	}
	if s.evicted.Load() {
		return errEvicted
	}
	if err := s.replies.err; err != nil {
		return err
	}
	return s.err
}

// shutDown lets what is in flight finish, refuses what comes meanwhile, and hangs up.
func (s *session) shutDown() {
	s.draining.Store(true)
	t := time.NewTimer(s.drain)
	defer t.Stop()
	for s.inFlight.Load() > 0 {
		select {
		case <-s.idle:
			continue
		case <-t.C:
		}
		break
	}
	s.conn.Close()
	s.cancel(ErrShutdown)
}

// finished notes that n requests were answered.
func (s *session) finished(n int) {
	if s.inFlight.Add(int64(-n)) == 0 && s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// spawn starts a worker that holds the reading role. s.mu is held.
func (s *session) spawn() {
	s.count++
	wake := make(chan struct{}, 1)
	s.workers.Go(func() { s.work(wake) })
}

// work is a worker's life: it comes with the reading role, reads one request, hands the role over, serves the
// request, and waits for the role again. Where that is better it serves the request first and keeps the role.
func (s *session) work(wake chan struct{}) {
	var q request
	for {
		err := s.next(&q)
		if err != nil {
			s.replies.flush()
			s.end(err)
			return
		}
		if s.keepsRole(&q) {
			if s.serveInRole(&q) {
				continue
			}
		} else {
			s.replies.flush()
			s.handOver()
			var r reply
			s.serve(&q, &r)
			s.replies.send(&r, false)
		}
		if !s.takeRole(wake) {
			return
		}
	}
}

// handOver gives the reading role to another worker, or leaves it to the first that becomes free.
func (s *session) handOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.waiting); n > 0 {
		w := s.waiting[n-1]
		s.waiting = s.waiting[:n-1]
		w <- struct{}{}
		return
	}
	if s.count < s.limit {
		s.spawn()
		return
	}
	s.reading = false
}

// takeRole returns when the worker holds the reading role; false means that the session ended.
func (s *session) takeRole(wake chan struct{}) bool {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return false
	}
	if !s.reading {
		s.reading = true
		s.mu.Unlock()
		return true
	}
	s.waiting = append(s.waiting, wake)
	s.mu.Unlock()
	<-wake
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

var (
	// errDisconnect says that the client left in order.
	errDisconnect = errors.New("client disconnected")
	// errGone ends the context of requests whose client left without waiting for them.
	errGone = errors.New("client is gone")
	// errEvicted says why a slow client was dropped.
	errEvicted = errors.New("client was too slow over a message, in memory that others waited for")
)

// end closes the reading role for good and sends the waiting workers home. What is in service is still carried out;
// if the client did not wait for it, it has the time to drain for that.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if err != errDisconnect {
		s.late = time.AfterFunc(s.drain, func() { s.cancel(errGone) })
		if err != io.EOF {
			s.err = err
		}
	}
	for _, w := range s.waiting {
		w <- struct{}{}
	}
	s.waiting = nil
}

// request is one command of the client.
type request struct {
	cmd    uint16
	flags  uint16
	cookie uint64
	off    uint64  // bytes
	length uint32  // bytes
	buf    *buffer // the payload of a write
	err    error   // why it is refused
}

// writes reports whether the command changes the export.
func (q *request) writes() bool {
	return q.cmd == CmdWrite || q.cmd == CmdTrim || q.cmd == CmdWriteZeroes
}

// next reads a request, with its payload, into q. The worker holds the reading role.
func (s *session) next(q *request) error {
	if err := s.header(q); err != nil {
		return err
	}
	if q.cmd == CmdDisc {
		return errDisconnect
	}
	s.inFlight.Add(1)
	if err := s.take(q); err != nil {
		s.finished(1)
		return err
	}
	return nil
}

// take checks a request and reads its payload.
func (s *session) take(q *request) error {
	q.buf = nil
	q.err = s.check(q)
	if q.err == nil && s.draining.Load() {
		q.err = ErrShutdown
	}
	if q.cmd != CmdWrite || q.length == 0 {
		return nil
	}
	if q.err != nil {
		return s.skip(int64(q.length))
	}
	buf, err := s.buffer(int(q.length))
	if err != nil {
		return err
	}
	if err := s.payload(buf.data); err != nil {
		s.buffers.put(buf)
		return err
	}
	q.buf = buf
	return nil
}

// header reads a request's header, however long the client takes to send one.
func (s *session) header(q *request) error {
	b, err := s.in.Peek(RequestSize)
	for err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err == io.EOF && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return cut(err, "read request")
		}
		// The deadline was meant for an earlier payload.
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear read deadline: %w", err)
		}
		s.armed = time.Time{}
		b, err = s.in.Peek(RequestSize)
	}
	if magic := binary.BigEndian.Uint32(b); magic != protocol.TRANSMISSION_MAGIC_REQUEST {
		return fmt.Errorf("request magic %#x is wrong", magic)
	}
	q.flags = binary.BigEndian.Uint16(b[4:])
	q.cmd = binary.BigEndian.Uint16(b[6:])
	q.cookie = binary.BigEndian.Uint64(b[8:])
	q.off = binary.BigEndian.Uint64(b[16:])
	q.length = binary.BigEndian.Uint32(b[24:])
	_, err = s.in.Discard(RequestSize)
	return err
}

// payload fills p from the connection.
func (s *session) payload(p []byte) error {
	if s.in.Buffered() < len(p) {
		s.sending.begin(len(p))
		defer s.sending.end()
	}
	for len(p) > 0 {
		step := p[:min(len(p), payloadStep)]
		if err := s.arm(len(step)); err != nil {
			return err
		}
		if _, err := io.ReadFull(s.in, step); err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
		p = p[len(step):]
	}
	return nil
}

// buffer gets memory for a payload. Before it waits for some, it lets go of what replies that are held back occupy.
func (s *session) buffer(n int) (*buffer, error) {
	if b := s.buffers.tryGet(n); b != nil {
		return b, nil
	}
	s.replies.flush()
	return s.crowd.get(s.ctx, s.buffers, n)
}

// skip reads n bytes of a refused payload and forgets them.
func (s *session) skip(n int64) error {
	for n > 0 {
		step := min(n, payloadStep)
		if err := s.arm(int(step)); err != nil {
			return err
		}
		if _, err := s.in.Discard(int(step)); err != nil {
			return fmt.Errorf("skip payload: %w", err)
		}
		n -= step
	}
	return nil
}

// arm sets the read deadline before n bytes are waited for. It is set far ahead and seldom, because it costs as
// much as a small request; header forgives it when it strikes between two requests.
func (s *session) arm(n int) error {
	if s.in.Buffered() >= n {
		return nil
	}
	now := time.Now()
	if now.Sub(s.armed) <= s.stall/2 {
		return nil
	}
	if err := s.conn.SetReadDeadline(now.Add(2 * s.stall)); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	s.armed = now
	return nil
}
