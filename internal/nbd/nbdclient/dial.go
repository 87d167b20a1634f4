package nbdclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"drship/internal/nbd"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// maxReply bounds the data of one reply during negotiation, in bytes.
	maxReply = 64 << 10
	// maxReplies bounds the replies to one option, hence the exports of a list.
	maxReplies = 1 << 16
)

// Dialer says how to connect. The zero value is ready for use.
type Dialer struct {
	// TLS, if set, upgrades the connection by STARTTLS before anything else; a server that refuses is an error.
	TLS *tls.Config
	// Simple does without structured replies, and so without Extents.
	Simple bool
}

// RefusedError is an option that the server refused. It unwraps to nbd.ErrUnknown, nbd.ErrShutdown or a
// *nbd.PolicyError where it says that.
type RefusedError struct {
	Export string
	Reply  uint32 // reply type, e.g. nbd.RepErrPolicy
	Text   string // the server's words, if it sent any
}

func (e *RefusedError) Error() string {
	if e.Text != "" {
		return e.Text
	}
	return fmt.Sprintf("server refused export %q with reply %#x", e.Export, e.Reply)
}

func (e *RefusedError) Unwrap() error {
	switch e.Reply {
	case nbd.RepErrUnknown:
		return nbd.ErrUnknown
	case nbd.RepErrShutdown:
		return nbd.ErrShutdown
	case nbd.RepErrPolicy:
		return &nbd.PolicyError{Text: e.Text}
	}
	return nil
}

// Dial opens an export with the default Dialer. ctx bounds connecting and negotiating only.
func Dial(ctx context.Context, network, addr, export string) (*Client, error) {
	return Dialer{}.Dial(ctx, network, addr, export)
}

// List asks a server for its exports with the default Dialer.
func List(ctx context.Context, network, addr string) ([]nbd.Info, error) {
	return Dialer{}.List(ctx, network, addr)
}

// Dial opens an export. ctx bounds connecting and negotiating only.
func (d Dialer) Dial(ctx context.Context, network, addr, export string) (*Client, error) {
	var c *Client
	err := d.haggle(ctx, network, addr, func(n *negotiation) error {
		var err error
		c, err = n.open(export, d.Simple)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open NBD export %q on %s: %w", export, addr, err)
	}
	return c, nil
}

// List asks a server for its exports.
func (d Dialer) List(ctx context.Context, network, addr string) ([]nbd.Info, error) {
	var list []nbd.Info
	err := d.haggle(ctx, network, addr, func(n *negotiation) error {
		defer n.conn.Close()
		var err error
		if list, err = n.list(); err != nil {
			return err
		}
		_, err = n.option(nbd.OptAbort, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list NBD exports on %s: %w", addr, err)
	}
	return list, nil
}

// negotiation is a connection before an export was picked.
type negotiation struct {
	conn net.Conn
	in   *bufio.Reader
}

// haggle connects and runs f, inside ctx. If f fails the connection is closed.
func (d Dialer) haggle(ctx context.Context, network, addr string, f func(*negotiation) error) error {
	var nd net.Dialer
	raw, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	n := &negotiation{conn: raw, in: bufio.NewReaderSize(raw, 64<<10)}
	if err = n.greet(); err == nil && d.TLS != nil {
		err = n.startTLS(ctx, d.TLS)
	}
	if err == nil {
		err = f(n)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	return err
}

func (n *negotiation) greet() error {
	var b [18]byte
	if _, err := io.ReadFull(n.in, b[:]); err != nil {
		return fmt.Errorf("read greeting: %w", err)
	}
	if binary.BigEndian.Uint64(b[:]) != protocol.NEGOTIATION_MAGIC_OLDSTYLE ||
		binary.BigEndian.Uint64(b[8:]) != protocol.NEGOTIATION_MAGIC_OPTION {
		return errors.New("server does not speak newstyle NBD")
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&nbd.HandshakeFixedNewstyle == 0 {
		return errors.New("server does not speak fixed newstyle NBD")
	}
	reply := nbd.ClientFixedNewstyle
	if flags&nbd.HandshakeNoZeroes != 0 {
		reply |= nbd.ClientNoZeroes
	}
	if _, err := n.conn.Write(binary.BigEndian.AppendUint32(nil, reply)); err != nil {
		return fmt.Errorf("send client flags: %w", err)
	}
	return nil
}

func (n *negotiation) startTLS(ctx context.Context, cfg *tls.Config) error {
	if _, err := n.option(nbd.OptStartTLS, nil); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	if n.in.Buffered() != 0 {
		return errors.New("server sent data in the clear after agreeing on TLS")
	}
	t := tls.Client(n.conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	n.conn = t
	n.in.Reset(t)
	return nil
}

// answer is one reply to an option.
type answer struct {
	kind uint32
	data []byte
}

// option sends an option and collects the replies up to the final one. An error reply is a *RefusedError.
func (n *negotiation) option(id uint32, data []byte) ([]answer, error) {
	b := binary.BigEndian.AppendUint64(nil, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := n.conn.Write(append(b, data...)); err != nil {
		return nil, fmt.Errorf("send option %d: %w", id, err)
	}
	var all []answer
	for range maxReplies {
		a, err := n.answer(id)
		switch {
		case err != nil:
			return nil, err
		case a.kind == nbd.RepAck:
			return all, nil
		case a.kind&(1<<31) != 0:
			return nil, &RefusedError{Reply: a.kind, Text: string(a.data)}
		}
		all = append(all, a)
	}
	return nil, fmt.Errorf("more than %d replies to option %d", maxReplies, id)
}

func (n *negotiation) answer(id uint32) (answer, error) {
	var b [nbd.ReplyHeaderSize]byte
	if _, err := io.ReadFull(n.in, b[:]); err != nil {
		return answer{}, fmt.Errorf("read reply to option %d: %w", id, err)
	}
	length := binary.BigEndian.Uint32(b[16:])
	if binary.BigEndian.Uint64(b[:]) != protocol.NEGOTIATION_MAGIC_REPLY || binary.BigEndian.Uint32(b[8:]) != id || length > maxReply {
		return answer{}, fmt.Errorf("malformed reply to option %d", id)
	}
	a := answer{kind: binary.BigEndian.Uint32(b[12:]), data: make([]byte, length)}
	if _, err := io.ReadFull(n.in, a.data); err != nil {
		return answer{}, fmt.Errorf("read reply to option %d: %w", id, err)
	}
	return a, nil
}

func (n *negotiation) list() ([]nbd.Info, error) {
	answers, err := n.option(nbd.OptList, nil)
	if err != nil {
		return nil, err
	}
	var list []nbd.Info
	for _, a := range answers {
		if a.kind != nbd.RepServer || len(a.data) < 4 || uint64(binary.BigEndian.Uint32(a.data)) > uint64(len(a.data)-4) {
			return nil, errors.New("malformed entry in the list of exports")
		}
		end := 4 + binary.BigEndian.Uint32(a.data)
		list = append(list, nbd.Info{Name: string(a.data[4:end]), Description: string(a.data[end:])})
	}
	return list, nil
}

// open agrees on what the server has, picks the export and starts the client.
func (n *negotiation) open(export string, simple bool) (*Client, error) {
	structured, meta := false, false
	if !simple {
		_, err := n.option(nbd.OptStructuredReply, nil)
		if structured = err == nil; !structured && !refused(err) {
			return nil, err
		}
	}
	name := append(binary.BigEndian.AppendUint32(nil, uint32(len(export))), export...)
	if structured {
		q := binary.BigEndian.AppendUint32(append([]byte(nil), name...), 1)
		q = binary.BigEndian.AppendUint32(q, uint32(len(nbd.BaseAllocation)))
		answers, err := n.option(nbd.OptSetMetaContext, append(q, nbd.BaseAllocation...))
		if err != nil && !refused(err) {
			return nil, err
		}
		meta = len(answers) == 1
	}
	q := binary.BigEndian.AppendUint16(name, 1)
	answers, err := n.option(nbd.OptGo, binary.BigEndian.AppendUint16(q, nbd.InfoBlockSize))
	if err != nil {
		if r := new(RefusedError); errors.As(err, &r) {
			r.Export = export
		}
		return nil, err
	}
	size, flags, maxPayload, err := parseInfo(answers)
	if err != nil {
		return nil, err
	}
	c := &Client{size: size, flags: flags, maxPayload: maxPayload, structured: structured, meta: meta}
	c.start(n.conn, n.in)
	return c, nil
}

func refused(err error) bool {
	return errors.As(err, new(*RefusedError))
}

// parseInfo reads what the server told of an export.
func parseInfo(answers []answer) (size int64, flags uint16, maxPayload int, err error) {
	size, maxPayload = -1, nbd.MaxPayload
	for _, a := range answers {
		if a.kind != nbd.RepInfo || len(a.data) < 2 {
			return 0, 0, 0, fmt.Errorf("malformed reply of type %d", a.kind)
		}
		switch kind := binary.BigEndian.Uint16(a.data); {
		case kind == nbd.InfoExport && len(a.data) == 12:
			size = int64(binary.BigEndian.Uint64(a.data[2:]))
			flags = binary.BigEndian.Uint16(a.data[10:])
		case kind == nbd.InfoBlockSize && len(a.data) == 14:
			maxPayload = int(min(binary.BigEndian.Uint32(a.data[10:]), nbd.MaxPayload))
		}
	}
	if size < 0 || maxPayload == 0 {
		return 0, 0, 0, errors.New("server did not tell the size of the export")
	}
	return size, flags, maxPayload, nil
}
