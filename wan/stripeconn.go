package wan

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
	"drship/wan/stripe"
)

// stripeConn is a connection that has joined a session.
type stripeConn struct {
	id        int
	conn      *quic.Conn
	acks      *quic.Stream
	fragments *quic.Stream
	parity    bool // what it loses may be repaired

	// Where the stripe has a socket of its own: both are closed with it.
	tr     *quic.Transport
	socket net.PacketConn

	// Guarded by spread.mu.
	taken  uint64 // bytes of fragments that came
	rank   int    // among the stripes; those from spread.want on are not used
	closed bool
	to     net.Addr // where it sends to
}

// release closes the stripe's own socket, if it has one. The connection was closed before.
func (c *stripeConn) release() {
	if c.tr != nil {
		_ = c.tr.Close()     // it has nothing to say about what is lost
		_ = c.socket.Close() // nor has a socket that nobody uses any more
	}
}

// run is the life of a stripe.
func (x *spread) run(c *stripeConn) {
	var parts sync.WaitGroup
	parts.Go(func() { x.end(c, x.read(c)) })
	parts.Go(func() { x.end(c, x.heed(c)) })
	parts.Go(func() { x.end(c, x.write(c)) })
	<-c.conn.Context().Done()
	x.end(c, nil)
	parts.Wait()
	x.remove(c)
	c.release()
}

// end ends a stripe. An error that is not the connection's own ends the session: the peer broke the rules.
func (x *spread) end(c *stripeConn, err error) {
	x.mu.Lock()
	first := !c.closed
	c.closed = true
	x.work.Broadcast()
	x.mu.Unlock()
	if err != nil && c.conn.Context().Err() == nil {
		x.s.fail(fmt.Errorf("%w: %w", ErrProtocol, err))
	}
	if first {
		closeConn(c.conn, ErrClosed, true)
	}
}

// write sends what the schedule has for this stripe, as fast as the connection takes it.
func (x *spread) write(c *stripeConn) error {
	head := make([]byte, 0, stripe.HeaderSize)
	for {
		w, ok := x.take(c)
		if !ok {
			return nil
		}
		if _, err := c.fragments.Write(w.Append(head)); err != nil {
			return nil // the connection has ended, and nothing else ends its streams
		}
		if _, err := c.fragments.Write(w.Data); err != nil {
			return nil
		}
		x.mu.Lock()
		x.out.Written(w, c.id, time.Now())
		x.mu.Unlock()
	}
}

// take waits for something to send; false: the stripe has ended.
func (x *spread) take(c *stripeConn) (stripe.Sending, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for !c.closed && !x.closed {
		if c.rank < max(x.want, 1) {
			if w, ok := x.out.Next(c.id, time.Now()); ok {
				x.busy()
				if x.out.Queued() <= x.water() {
					poke(x.room)
				}
				return w, true
			}
		}
		x.work.Wait()
	}
	return stripe.Sending{}, false
}

// read puts fragments into their places.
func (x *spread) read(c *stripeConn) error {
	var head [stripe.HeaderSize]byte
	buf := make([]byte, stripe.Cell)
	for {
		if _, err := io.ReadFull(c.fragments, head[:]); err != nil {
			return ended(err)
		}
		h, err := stripe.ReadHeader(head[:], frame.HeaderSize+frame.MaxBody(frame.TypeBatch))
		if err != nil {
			return err
		}
		if int(h.Length) > len(buf) {
			buf = make([]byte, h.Length)
		}
		if _, err := io.ReadFull(c.fragments, buf[:h.Length]); err != nil {
			return ended(err)
		}
		x.mu.Lock()
		c.taken += stripe.HeaderSize + uint64(h.Length)
		ready, err := x.in.Place(h, buf[:h.Length])
		a := x.acknowledge(c)
		x.mu.Unlock()
		if err != nil {
			return err
		}
		if ready {
			poke(x.arrived)
		}
		if _, err := c.acks.Write(a.Append(nil)); err != nil {
			return nil
		}
	}
}

// ended is nil for what a connection's end does to its streams. That a peer ended a stream by itself is against the rules.
func ended(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return err
	}
	return nil
}

// acknowledge is what the other side is to be told on a stripe. mu is held.
func (x *spread) acknowledge(c *stripeConn) stripe.Ack {
	x.told = x.in.Limit()
	return stripe.Ack{Taken: c.taken, Done: x.in.Done(), Limit: x.told}
}

// heed takes acknowledgements.
func (x *spread) heed(c *stripeConn) error {
	var b [stripe.AckSize]byte
	for {
		if _, err := io.ReadFull(c.acks, b[:]); err != nil {
			return ended(err)
		}
		a, err := stripe.ReadAck(b[:])
		if err != nil {
			return err
		}
		now := time.Now()
		x.mu.Lock()
		before := x.out.Delivered()
		news, err := x.out.Acked(c.id, a, now)
		x.rate.add(now, x.out.Delivered()-before)
		if news {
			x.work.Broadcast()
		}
		x.mu.Unlock()
		if err != nil {
			return fmt.Errorf("stripe %d: %w", c.id, err)
		}
		if news {
			poke(x.room)
		}
	}
}
