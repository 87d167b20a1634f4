package nbdclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"drship/internal/nbd"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// receiver reads replies and hands them to the calls that wait for them. It is the only one that ends a call with success.
type receiver struct {
	c  *Client
	in *bufio.Reader
	b  [nbd.StructuredReplySize]byte
}

func (r *receiver) run() {
	defer close(r.c.done)
	for {
		if err := r.reply(); err != nil {
			r.c.conn.Close()
			r.end(lost(err))
			return
		}
	}
}

// end fails every call that is left.
func (r *receiver) end(err error) {
	r.c.fail(err)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for cookie, k := range r.c.calls {
		r.c.finishLocked(cookie, k, r.c.err)
	}
}

func (r *receiver) reply() error {
	if _, err := io.ReadFull(r.in, r.b[:nbd.SimpleReplySize]); err != nil {
		return err
	}
	switch magic := binary.BigEndian.Uint32(r.b[:]); magic {
	case protocol.TRANSMISSION_MAGIC_REPLY:
		return r.simple(binary.BigEndian.Uint64(r.b[8:]), binary.BigEndian.Uint32(r.b[4:]))
	case nbd.StructuredReplyMagic:
		if _, err := io.ReadFull(r.in, r.b[nbd.SimpleReplySize:]); err != nil {
			return fmt.Errorf("read reply: %w", err)
		}
		return r.chunk()
	default:
		return fmt.Errorf("reply magic %#x is wrong", magic)
	}
}

func (r *receiver) find(cookie uint64) (*call, error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	k := r.c.calls[cookie]
	if k == nil {
		if r.c.err != nil {
			return nil, r.c.err
		}
		return nil, fmt.Errorf("reply to a request %d that was never sent", cookie)
	}
	return k, nil
}

func (r *receiver) simple(cookie uint64, code uint32) error {
	k, err := r.find(cookie)
	if err != nil {
		return err
	}
	if k.cmd == nbd.CmdRead && r.c.structured {
		return errors.New("simple reply to a read after structured replies were agreed on")
	}
	k.code = code
	if k.cmd == nbd.CmdRead && code == 0 {
		if err := r.fill(k, k.off, len(k.p)); err != nil {
			return r.drop(cookie, k, err)
		}
	}
	r.finish(cookie, k)
	return nil
}

// finish ends a call that was answered.
func (r *receiver) finish(cookie uint64, k *call) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.calls[cookie] != k {
		return // failed meanwhile by Close
	}
	var err error
	switch {
	case k.code != 0:
	case k.cmd == nbd.CmdRead && k.left != 0:
		err = fmt.Errorf("reply lacks %d of %d bytes", k.left, len(k.p))
	case k.cmd == nbd.CmdBlockStatus && len(k.extents) == 0:
		err = errors.New("reply has no block status")
	}
	r.c.finishLocked(cookie, k, err)
}

// drop ends a call whose data did not come whole, which ends the connection too.
func (r *receiver) drop(cookie uint64, k *call, err error) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.calls[cookie] == k {
		r.c.finishLocked(cookie, k, lost(err))
	}
	return err
}

// fill reads n bytes for the call's range at off, or drops them if the caller has left.
func (r *receiver) fill(k *call, off int64, n int) error {
	p, err := r.window(k, off, n)
	if err != nil {
		return err
	}
	r.c.mu.Lock()
	k.filling = !k.gone
	fill := k.filling
	r.c.mu.Unlock()
	if !fill {
		_, err = r.in.Discard(n)
	} else {
		_, err = io.ReadFull(r.in, p)
	}
	r.c.mu.Lock()
	k.filling = false
	r.c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	k.left -= n
	return nil
}

// window is the part of a read's memory for n bytes at off.
func (r *receiver) window(k *call, off int64, n int) ([]byte, error) {
	if k.cmd != nbd.CmdRead || n <= 0 || n > k.left || off < k.off || off-k.off > k.n-int64(n) {
		return nil, fmt.Errorf("reply with %d bytes at %d to a %s of %d bytes at %d", n, off, opName(k.cmd), k.n, k.off)
	}
	return k.p[off-k.off:][:n], nil
}

// chunk handles one chunk of a structured reply, whose header is in r.b.
func (r *receiver) chunk() error {
	flags := binary.BigEndian.Uint16(r.b[4:])
	kind := binary.BigEndian.Uint16(r.b[6:])
	cookie := binary.BigEndian.Uint64(r.b[8:])
	length := binary.BigEndian.Uint32(r.b[16:])
	k, err := r.find(cookie)
	if err != nil {
		return err
	}
	switch {
	case kind == nbd.ReplyNone && length == 0:
	case kind == nbd.ReplyOffsetData && length > 8 && length <= nbd.MaxPayload+8:
		err = r.data(k, int(length)-8)
	case kind == nbd.ReplyOffsetHole && length == 12:
		err = r.hole(k)
	case kind == nbd.ReplyBlockStatus && length >= 12 && length <= maxStatus && length%8 == 4:
		err = r.status(k, int(length))
	case kind&(1<<15) != 0 && length >= 6 && length <= nbd.MaxString+64:
		err = r.failure(k, int(length))
	default:
		err = fmt.Errorf("chunk of type %d with %d bytes", kind, length)
	}
	if err != nil {
		return r.drop(cookie, k, err)
	}
	if flags&nbd.ReplyFlagDone != 0 {
		r.finish(cookie, k)
	}
	return nil
}

func (r *receiver) data(k *call, n int) error {
	b, err := r.take(8)
	if err != nil {
		return err
	}
	return r.fill(k, int64(binary.BigEndian.Uint64(b)), n)
}

func (r *receiver) hole(k *call) error {
	b, err := r.take(12)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(b[8:])
	if n > nbd.MaxPayload {
		return fmt.Errorf("hole of %d bytes", n)
	}
	p, err := r.window(k, int64(binary.BigEndian.Uint64(b)), int(n))
	if err != nil {
		return err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if !k.gone {
		clear(p)
	}
	k.left -= int(n)
	return nil
}

func (r *receiver) status(k *call, n int) error {
	b, err := r.take(n)
	if err != nil {
		return err
	}
	if k.cmd != nbd.CmdBlockStatus || k.extents != nil {
		return errors.New("block status that was not asked for")
	}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		status := binary.BigEndian.Uint32(b[4:])
		k.extents = append(k.extents, nbd.Extent{
			Len:  int64(binary.BigEndian.Uint32(b)),
			Hole: status&nbd.StateHole != 0,
			Zero: status&nbd.StateZero != 0,
		})
	}
	return nil
}

func (r *receiver) failure(k *call, n int) error {
	b, err := r.take(n)
	if err != nil {
		return err
	}
	text := b[6:]
	m := int(binary.BigEndian.Uint16(b[4:]))
	if m > len(text) {
		return fmt.Errorf("error chunk of %d bytes with a message of %d", n, m)
	}
	k.code, k.text = max(binary.BigEndian.Uint32(b), 1), string(text[:m])
	return nil
}

// take reads n bytes, at most maxStatus.
func (r *receiver) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	return b, nil
}
