// Package nbdclient is a small NBD client: one connection, requests of any number of goroutines in flight at the same
// time, structured replies where the server has them. It needs no kernel device.
package nbdclient

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"drship/internal/nbd"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// maxInFlight bounds the requests on the wire; more wait.
	maxInFlight = 256
	// maxSpan bounds the length of one trim or write-zeroes request, in bytes; longer ones are split.
	maxSpan = 1 << 30
	// maxStatus bounds the payload of a block status reply, in bytes: the protocol's 1<<20 descriptors.
	maxStatus = 4 + 8<<20
)

// ErrClosed is what requests return after Close, or after the connection was lost; then the cause is wrapped with it.
var ErrClosed = errors.New("NBD connection is closed")

// Error is a request that the server answered with an error. It unwraps to the sentinel of package nbd, e.g. nbd.ErrNoSpace.
type Error struct {
	Op   string // "read", "write", …
	Off  int64  // bytes
	Len  int64  // bytes
	Code uint32 // NBD error
	Text string // the server's words, if it sent any
}

func (e *Error) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("%s of %d bytes at %d: %s", e.Op, e.Len, e.Off, e.Text)
	}
	return fmt.Sprintf("%s of %d bytes at %d: %v", e.Op, e.Len, e.Off, e.Unwrap())
}

// Unwrap returns the sentinel for the error's code.
func (e *Error) Unwrap() error { return nbd.ErrorOf(e.Code) }

// Client is an open export. Its methods may be called concurrently. Offsets and lengths are in bytes. A context ends
// the wait for a reply; the request itself may still be carried out.
type Client struct {
	conn       net.Conn
	size       int64
	flags      uint16
	maxPayload int
	structured bool
	meta       bool

	slots chan struct{} // one token for each request in flight
	done  chan struct{} // closed when the receiver has ended

	sendMu sync.Mutex // held while a request is written
	head   [nbd.RequestSize]byte
	parts  net.Buffers

	mu     sync.Mutex
	cookie uint64
	calls  map[uint64]*call
	err    error // why the connection is of no use any more
}

// call is a request that waits for its reply.
type call struct {
	cmd  uint16
	off  int64
	n    int64
	p    []byte        // where the data of a read goes
	left int           // bytes of p that have not come yet
	done chan struct{} // closed when err and extents are final

	err     error
	code    uint32
	text    string
	extents []nbd.Extent
	filling bool // the receiver writes to p; guarded by Client.mu
	gone    bool // the caller waits no more; guarded by Client.mu
}

// Size is the size of the export in bytes.
func (c *Client) Size() int64 { return c.size }

// Flags are the transmission flags of the export.
func (c *Client) Flags() uint16 { return c.flags }

// ReadOnly reports whether the server refuses writes.
func (c *Client) ReadOnly() bool { return c.flags&nbd.FlagReadOnly != 0 }

// ReadAt fills p from off. It may fail after part of p was overwritten.
func (c *Client) ReadAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		step := p[:min(len(p), c.maxPayload)]
		k := &call{cmd: nbd.CmdRead, off: off, n: int64(len(step)), p: step, left: len(step)}
		if err := c.do(ctx, k, 0, nil); err != nil {
			return err
		}
		p, off = p[len(step):], off+int64(len(step))
	}
	return nil
}

// WriteAt writes p at off; with fua it returns after p is on the server's stable storage. p is free for use on return.
func (c *Client) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	for len(p) > 0 {
		step := p[:min(len(p), c.maxPayload)]
		k := &call{cmd: nbd.CmdWrite, off: off, n: int64(len(step))}
		if err := c.do(ctx, k, fuaFlag(fua), step); err != nil {
			return err
		}
		p, off = p[len(step):], off+int64(len(step))
	}
	return nil
}

// Flush returns after all writes that were completed before it are on the server's stable storage.
func (c *Client) Flush(ctx context.Context) error {
	return c.do(ctx, &call{cmd: nbd.CmdFlush}, 0, nil)
}

// Trim gives n bytes at off back.
func (c *Client) Trim(ctx context.Context, off, n int64, fua bool) error {
	return c.span(ctx, nbd.CmdTrim, fuaFlag(fua), off, n)
}

// Zero makes n bytes at off read as zeroes.
func (c *Client) Zero(ctx context.Context, off, n int64, o nbd.ZeroOptions) error {
	flags := fuaFlag(o.FUA)
	if o.NoHole {
		flags |= nbd.CmdFlagNoHole
	}
	if o.Fast {
		flags |= nbd.CmdFlagFastZero
	}
	return c.span(ctx, nbd.CmdWriteZeroes, flags, off, n)
}

func (c *Client) span(ctx context.Context, cmd, flags uint16, off, n int64) error {
	for n > 0 {
		step := min(n, maxSpan)
		if err := c.do(ctx, &call{cmd: cmd, off: off, n: step}, flags, nil); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

// Extents describes allocation from off, for at most n bytes; the server may describe less. It fails with
// nbd.ErrNotSupported if the server does not offer it.
func (c *Client) Extents(ctx context.Context, off, n int64) ([]nbd.Extent, error) {
	if !c.meta {
		return nil, fmt.Errorf("%w: server offers no %s", nbd.ErrNotSupported, nbd.BaseAllocation)
	}
	k := &call{cmd: nbd.CmdBlockStatus, off: off, n: min(n, maxSpan)}
	if err := c.do(ctx, k, 0, nil); err != nil {
		return nil, err
	}
	return k.extents, nil
}

// Close tells the server goodbye, closes the connection and waits for the receiver. Requests in flight fail.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	if c.sendMu.TryLock() { // else a request is being written, and the connection simply ends
		c.writeHeader(nbd.CmdDisc, 0, 0, 0, 0)
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second)) // a server that reads nothing gets no goodbye
		_, _ = c.conn.Write(c.head[:])
		c.sendMu.Unlock()
	}
	err := c.conn.Close()
	<-c.done
	return err
}

func fuaFlag(fua bool) uint16 {
	if fua {
		return nbd.CmdFlagFUA
	}
	return 0
}

// do sends a request and waits for its reply.
func (c *Client) do(ctx context.Context, k *call, flags uint16, data []byte) error {
	if k.n < 0 || k.off < 0 {
		return fmt.Errorf("%w: %d bytes at %d", nbd.ErrInvalid, k.n, k.off)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	k.done = make(chan struct{})
	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		<-c.slots
		return err
	}
	c.cookie++
	cookie := c.cookie
	c.calls[cookie] = k
	c.mu.Unlock()

	if err := c.send(cookie, k, flags, data); err != nil {
		c.fail(fmt.Errorf("%w: send request: %w", ErrClosed, err))
		c.conn.Close()
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		if c.abandon(k) {
			return ctx.Err()
		}
		<-k.done
	}
	switch {
	case k.err != nil:
		return k.err
	case k.code != 0:
		return &Error{Op: opName(k.cmd), Off: k.off, Len: k.n, Code: k.code, Text: k.text}
	}
	return nil
}

// abandon makes the receiver drop what comes for k. It reports false if k's memory is being written to, or k is done.
func (c *Client) abandon(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.filling {
		return false
	}
	select {
	case <-k.done:
		return false
	default:
	}
	k.gone = true
	return true
}

func (c *Client) send(cookie uint64, k *call, flags uint16, data []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.writeHeader(k.cmd, flags, cookie, k.off, k.n)
	c.parts = append(c.parts[:0], c.head[:])
	if len(data) > 0 {
		c.parts = append(c.parts, data)
	}
	rest := c.parts
	_, err := rest.WriteTo(c.conn)
	clear(c.parts)
	return err
}

func (c *Client) writeHeader(cmd, flags uint16, cookie uint64, off, n int64) {
	binary.BigEndian.PutUint32(c.head[0:], protocol.TRANSMISSION_MAGIC_REQUEST)
	binary.BigEndian.PutUint16(c.head[4:], flags)
	binary.BigEndian.PutUint16(c.head[6:], cmd)
	binary.BigEndian.PutUint64(c.head[8:], cookie)
	binary.BigEndian.PutUint64(c.head[16:], uint64(off))
	binary.BigEndian.PutUint32(c.head[24:], uint32(n))
}

// fail ends every request with err, and those to come.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for cookie, k := range c.calls {
		if !k.filling { // else the receiver ends it, which alone knows when it no longer writes to its memory
			c.finishLocked(cookie, k, err)
		}
	}
}

// finishLocked ends a call. c.mu is held.
func (c *Client) finishLocked(cookie uint64, k *call, err error) {
	delete(c.calls, cookie)
	k.err = err
	close(k.done)
	<-c.slots
}

func opName(cmd uint16) string {
	switch cmd {
	case nbd.CmdRead:
		return "read"
	case nbd.CmdWrite:
		return "write"
	case nbd.CmdFlush:
		return "flush"
	case nbd.CmdTrim:
		return "trim"
	case nbd.CmdWriteZeroes:
		return "write zeroes"
	case nbd.CmdBlockStatus:
		return "block status"
	}
	return fmt.Sprintf("command %d", cmd)
}

// start makes c ready for requests on a connection that is in its transmission phase.
func (c *Client) start(conn net.Conn, in *bufio.Reader) {
	c.conn = conn
	c.slots = make(chan struct{}, maxInFlight)
	c.done = make(chan struct{})
	c.calls = make(map[uint64]*call)
	r := &receiver{c: c, in: in}
	go r.run()
}

// lost describes why the receiver ended.
func lost(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w by the server", ErrClosed)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}
